"""Samples of panoramas, rooms and sequences: what is cut where, what is encoded once, what is named when refused."""

from __future__ import annotations

import numpy as np
import pytest
import stand_in
import torch
from PIL import ExifTags, Image
from stand_in import CAMERAS, Codec, panoramas

from mvdiffusion_pack.caa.weights.kinds import DEPTH, OUTPAINTING, PANORAMA
from mvdiffusion_pack.geometry.depth import inverse_depth
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring, sphere
from mvdiffusion_pack.geometry.panorama import panorama_files
from mvdiffusion_pack.geometry.panorama.equirect import equirect_to_views
from mvdiffusion_pack.training.cache import Cache
from mvdiffusion_pack.training.collecting import panoramas_in_folder
from mvdiffusion_pack.training.collecting_sequences import sequences_in_folders, walk_cameras
from mvdiffusion_pack.training.data import Data, check_data
from mvdiffusion_pack.training.encoding import Encoder
from mvdiffusion_pack.training.panoramas import Panorama, Panoramas
from mvdiffusion_pack.training.rooms import Rooms, WalkedRooms
from mvdiffusion_pack.training.sequences import PosedSequence, Sequences, SingleViews
from mvdiffusion_pack.training.streams import stream
from mvdiffusion_pack.training.turning import captions_of, turn_to_next, turned


def sample(source, number: int, seed: int = 1):
    return source.sample(number, stream(seed, "sample", number))


def test_every_panorama_is_seen_once_in_a_round():
    source = panoramas(5)
    for round_ in range(3):
        names = {sample(source, 5 * round_ + i).name.split(" from")[0] for i in range(5)}
        assert len(names) == 5


def test_views_of_a_sample_are_those_that_turned_cameras_cut():
    source, codec = panoramas(1), Codec()
    one = sample(source, 3)
    yaw = int(one.name.split()[-1])
    views, _ = equirect_to_views(stand_in.picture(0)[None], ring(4, 120.0, 64, 64, start_yaw_deg=yaw))
    torch.testing.assert_close(one.latents, codec.encode(views), rtol=1e-4, atol=1e-4)
    assert one.cameras is CAMERAS


def test_start_yaws_are_whole_degrees_all_around():
    source = panoramas(1)
    yaws = {int(sample(source, number).name.split()[-1]) for number in range(300)}
    assert len(yaws) > 100 and min(yaws) >= 0 and max(yaws) < 360


def test_few_yaws_are_encoded_once_and_serve_from_every_view():
    codec = Codec()
    source = panoramas(1, codec=codec, yaws=2)
    seen = {}
    for number in range(60):
        one = sample(source, number)
        seen.setdefault(one.name, one.latents)
        assert torch.equal(seen[one.name], one.latents)
    assert codec.encoded == 2 * CAMERAS.views
    assert len(seen) == 2 * CAMERAS.views
    for name, latents in seen.items():
        views, _ = equirect_to_views(stand_in.picture(0)[None], turned(CAMERAS, int(name.split()[-1])))
        torch.testing.assert_close(latents, Codec().encode(views), rtol=1e-4, atol=1e-4)


def test_captions_are_encoded_once():
    codec = Codec()
    source = panoramas(2, codec=codec)
    for number in range(6):
        sample(source, number)
    assert sorted(codec.prompts) == ["scene 0", "scene 1"]


def test_each_turned_view_has_the_caption_of_what_it_sees():
    captions = ["front", "right", "back", "left"]
    assert captions_of(captions, CAMERAS, 0) == captions
    assert captions_of(captions, CAMERAS, 90) == ["right", "back", "left", "front"]
    assert captions_of(captions, CAMERAS, 89) == captions_of(captions, CAMERAS, 90)
    assert captions_of(captions, CAMERAS, -90) == ["left", "front", "right", "back"]
    assert captions_of(["all"], CAMERAS, 33) == ["all"] * 4


def test_only_a_ring_of_whole_degrees_turns_into_itself():
    assert turn_to_next(ring(8, 90.0, 64, 64, start_yaw_deg=11.0)) == 45
    assert turn_to_next(ring(7, 90.0, 64, 64)) is None
    assert turn_to_next(sphere(8, 90.0, 64, 64)) is None


def test_outpainting_is_fed_one_given_view_and_grey_ones():
    codec = Codec()
    known = [Panorama("a", lambda: stand_in.picture(0), ("a",))]
    one = sample(Panoramas(known, CAMERAS, Encoder(codec, Cache()), OUTPAINTING, 0), 0)
    mask, given = one.inputs[:, :1], one.inputs[:, 1:]
    assert mask.flatten(1).amax(1).tolist() == [0, 1, 1, 1] == mask.flatten(1).amin(1).tolist()
    assert torch.equal(given[0], one.latents[0])
    assert torch.equal(given[1:], torch.zeros_like(given[1:]))  # mid-grey is 0 to the stand-in


def test_rooms_are_the_same_anew_and_without_end_new():
    source = Rooms(CAMERAS, Encoder(Codec(), Cache()), PANORAMA, seed=4)
    first, again, other = sample(source, 0), sample(source, 0), sample(source, 1)
    assert first.name == again.name and torch.equal(first.latents, again.latents)
    assert first.name.split()[1] != other.name.split()[1]
    few = Rooms(CAMERAS, Encoder(Codec(), Cache()), PANORAMA, seed=4, rooms=1)
    assert sample(few, 0).name.split()[1] == sample(few, 1).name.split()[1]


def test_views_of_a_room_agree_where_they_overlap():
    from mvdiffusion_pack.geometry.agreement import agreement

    source = Rooms(ring(4, 120.0, 64, 64), Encoder(Codec(), Cache()), PANORAMA, seed=4)
    pictures, captions = source.views(3, 40)
    assert len(captions) == 4 and all(caption.startswith(("a room", "an empty part")) for caption in captions)
    assert agreement(pictures, CAMERAS).psnr > 20


def test_walks_take_turns_between_generation_and_known_ends():
    source = WalkedRooms(3, 64, 64, Encoder(Codec(), Cache()), seed=4)
    whole, between = sample(source, 0), sample(source, 1)
    assert whole.name.split()[1] == between.name.split()[1]  # the same room
    assert whole.condition is None
    assert between.condition[:, 4].flatten(1).amax(1).tolist() == [1, 0, 1]
    assert torch.equal(between.condition[0, :4], between.latents[0]) and not between.condition[1].any()
    assert torch.equal(whole.inputs[:, 0], inverse_depth(whole.cameras.depth, 8, 8))


def sequence(frames: int = 6) -> PosedSequence:
    from dataclasses import replace

    cameras = replace(walk_cameras(frames, 64, 64), keyframes=(0, 2, 3, 5))
    pictures = torch.rand(frames, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    return PosedSequence("house", cameras, pictures, tuple(f"frame {i}" for i in range(frames)))


def test_sequences_give_key_frames_then_frames_in_a_row():
    codec = Codec()
    source = Sequences([sequence()], 3, Encoder(codec, Cache()), seed=0)
    for number in range(8):
        one = sample(source, number)
        frames = [int(name) for name in one.cameras.names]
        assert len(frames) == 3
        if number % 2:
            assert frames == list(range(frames[0], frames[0] + 3)) and one.condition is not None
        else:
            assert frames in ([0, 2, 3], [2, 3, 5]) and one.condition is None
        everything = Codec().encode(sequence().pictures)
        torch.testing.assert_close(one.latents, everything[frames])
    assert codec.encoded == 6


def test_single_views_of_a_sequence_are_for_the_unet_alone():
    source = SingleViews(Sequences([sequence()], 3, Encoder(Codec(), Cache()), seed=0))
    one = sample(source, 0)
    assert one.latents.shape[0] == one.text.tokens.shape[0] == one.inputs.shape[0] == 1 and one.condition is None


def test_cache_spills_to_files_that_are_gone_when_it_closes(tmp_path):
    folder = tmp_path / "cache_0"
    folder.mkdir()
    (folder / "of a killed process").touch()
    cache, made = Cache(folder, memory_bytes=100), []

    def make(number: int) -> dict[str, torch.Tensor]:
        made.append(number)
        return {"latents": torch.full((20,), float(number))}

    for _ in range(2):
        for number in range(4):
            assert torch.equal(cache.get(f"{number}", lambda n=number: make(n))["latents"], torch.full((20,), number))
    assert made == [0, 1, 2, 3]
    assert len(list(folder.iterdir())) == 3
    cache.close()
    assert not folder.exists()


def write(folder, name: str, size=(128, 64), caption: str | None = "a hall") -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (255, 0, 0)).save(folder / name)
    if caption is not None:
        (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")


def test_folder_of_panoramas_with_captions(tmp_path):
    write(tmp_path, "b.png")
    write(tmp_path, "a.jpg", caption="1\n2\n\n3\n4\n")
    found = panoramas_in_folder(tmp_path, 4, pytest.fail)
    assert [(one.name, one.captions) for one in found] == [("a.jpg", ("1", "2", "3", "4")), ("b.png", ("a hall",))]
    assert found[1].picture().shape == (64, 128, 3) and found[1].picture()[0, 0].tolist() == [1, 0, 0]


def test_captions_begin_behind_the_mark_that_windows_editors_write(tmp_path):
    write(tmp_path, "a.png", caption="\ufeffa hall")
    assert panoramas_in_folder(tmp_path, 4, pytest.fail)[0].captions == ("a hall",)


def test_panoramas_that_pillow_takes_for_bombs_are_read(tmp_path, monkeypatch):
    write(tmp_path, "a.png", caption="a hall")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (panorama,) = panoramas_in_folder(tmp_path, 4, pytest.fail)
    assert panorama.picture().shape == (64, 128, 3)


def test_grey_panoramas_of_sixteen_bits_keep_their_brightness(tmp_path):
    write(tmp_path, "a.png", caption="a hall")
    Image.fromarray(np.full((64, 128), 32768, np.uint16)).save(tmp_path / "a.png")
    (panorama,) = panoramas_in_folder(tmp_path, 4, pytest.fail)
    assert (panorama.picture() - 0.5).abs().max() < 0.01


def turn(path, orientation) -> None:
    picture = Image.open(path)
    exif = picture.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    picture.save(path, exif=exif)


def test_photos_of_a_turned_camera_are_turned_upright(tmp_path):
    write(tmp_path, "a.png", size=(64, 128), caption="a hall")
    turn(tmp_path / "a.png", 6)  # by 90 degrees to the right
    (panorama,) = panoramas_in_folder(tmp_path, 4, pytest.fail)
    assert panorama.picture().shape == (64, 128, 3)


A_LETTER = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0"  # '6' for an orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535, A_LETTER], ids=["0", "9", "65535", "a letter"])
def test_orientations_that_there_are_not_turn_nothing(tmp_path, orientation):
    write(tmp_path, "a.jpg", caption="a hall")
    if isinstance(orientation, bytes):
        Image.open(tmp_path / "a.jpg").save(tmp_path / "a.jpg", exif=orientation)
    else:
        turn(tmp_path / "a.jpg", orientation)
    (panorama,) = panoramas_in_folder(tmp_path, 4, pytest.fail)
    assert panorama.picture().shape == (64, 128, 3)


def test_greys_beyond_what_is_read_are_named_and_left_out(tmp_path):
    write(tmp_path, "good.png")
    write(tmp_path, "bad.png")
    Image.fromarray(np.full((64, 128), 3, np.float32)).save(tmp_path / "bad.png", format="TIFF")
    said = []
    assert [one.name for one in panoramas_in_folder(tmp_path, 4, said.append)] == ["good.png"]
    assert len(said) == 1 and "bad.png cannot be read and is left out: its numbers lie in 3..3, not in 0..1" in said[0]


def test_larger_ones_are_named_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(panorama_files, "MOST_PIXELS", 1000)
    write(tmp_path, "a.png", caption="a hall")
    said = []
    with pytest.raises(InputError, match="none can be read"):
        panoramas_in_folder(tmp_path, 4, said.append)
    assert "a.png cannot be read and is left out" in said[0]


def test_unreadable_files_of_a_folder_are_named_and_left_out(tmp_path):
    write(tmp_path, "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    said = []
    assert [one.name for one in panoramas_in_folder(tmp_path, 4, said.append)] == ["good.png"]
    assert len(said) == 1 and "bad.png cannot be read and is left out" in said[0]
    (tmp_path / "good.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"there are 2 pictures in .*, and none can be read"):
        panoramas_in_folder(tmp_path, 4, said.append)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no pictures"),
        ({"a.png": {"size": (64, 64)}}, r"a\.png \(64 x 64\) is not twice as wide"),
        ({"a.png": {"caption": None}}, r"a\.png is without a caption"),
        ({"a.png": {"caption": " \n"}, "b.png": {"caption": None}}, r"a\.png, b\.png are without a caption"),
        ({"a.png": {"caption": "1\n2"}}, r"a\.png \(2\) is captioned in a number of lines"),
    ],
)
def test_folders_that_cannot_be_used_say_why(tmp_path, files, said):
    for name, changes in files.items():
        write(tmp_path, name, **changes)
    with pytest.raises(InputError, match=said):
        panoramas_in_folder(tmp_path, 4, pytest.fail)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        panoramas_in_folder(tmp_path / "gone", 4, pytest.fail)


def test_sequences_that_cannot_be_used_are_named_and_one_must_remain(tmp_path):
    from in_process import ROOT

    said = []
    (found,) = sequences_in_folders([tmp_path, ROOT / "scenes" / "demo"], 64, 64, said.append)
    assert found.name == "demo" and found.cameras.views == len(found.captions) == 24
    assert len(said) == 1 and "cannot be used and is left out" in said[0]
    with pytest.raises(InputError, match="there is 1 sequence, and none can be used"):
        sequences_in_folders([tmp_path], 64, 64, said.append)


def test_one_panorama_in_eight_is_held_out_for_validation():
    known = tuple(Panorama(f"{i}", lambda: stand_in.picture(0), ("a",)) for i in range(16))
    encoder, data = Encoder(Codec(), Cache()), Data(CAMERAS, panoramas=known)
    learnt = {sample(data.source(PANORAMA, encoder, 0), number).name.split()[0] for number in range(14)}
    held = {one.name.split()[0] for one in data.held_out(PANORAMA, encoder, 0, 4)}
    assert learnt == {str(i) for i in range(2, 16)} and held == {"0", "1"}


def test_held_out_samples_are_always_the_same():
    encoder, data = Encoder(Codec(), Cache()), Data(CAMERAS, rooms=0)
    first, again = (data.held_out(PANORAMA, encoder, 0, 1)[0] for _ in range(2))
    assert torch.equal(first.latents, again.latents)


def test_kind_and_cameras_that_do_not_belong_together():
    with pytest.raises(InputError, match="kind is depth, and the cameras are a panorama's"):
        check_data(Data(CAMERAS), DEPTH)
    with pytest.raises(InputError, match="kind is outpainting, and the cameras are a sequence's"):
        check_data(Data(walk_cameras(3, 64, 64)), OUTPAINTING)
