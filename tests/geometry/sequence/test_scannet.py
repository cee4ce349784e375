"""Folders in ScanNet's layout: read back as they were written, and what is said of those that cannot be read."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from rooms import pose, seen, walk, write_scannet

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.geometry.sequence.frames import posed_views
from mvdiffusion_pack.geometry.sequence.scannet import check_folder, read_frames, write_sequence


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six frames, called 0, 2, 4, 6, 8, 10."""
    frames = [replace(frame, name=str(2 * i)) for i, frame in enumerate(walk(6, 80, 60))]
    return write_scannet(tmp_path / "room", frames)


@pytest.fixture(scope="module")
def views() -> tuple[PosedViews, torch.Tensor]:
    """The cameras and images of four views with intrinsics of their own."""
    frames = [seen(str(3 * i), pose(15 * i, (0.1 * i, 0, 0.2)), 64, 48, 70 + i) for i in range(4)]
    cameras, images, _ = posed_views(frames, 64, 48, 0.3, 0.6)
    return cameras, images


def names(frames) -> list[str]:
    return [frame.name for frame in frames]


def skipped(folder: Path) -> str:
    """What is said of the frames that are skipped."""
    said: list[str] = []
    for _ in read_frames(folder, on_skipped=said.append):
        pass
    (text,) = said
    return text


def refused(folder: Path, match: str, **choice) -> None:
    """The folder is refused at once: before a frame is asked for."""
    with pytest.raises(InputError, match=match):
        read_frames(folder, **choice)


# ---- Reading


def test_frames_are_those_that_another_program_wrote(folder):
    for frame, expected in zip(read_frames(folder), walk(6, 80, 60), strict=True):
        assert torch.equal(frame.image, expected.image) and torch.equal(frame.depth, expected.depth)
        assert torch.equal(frame.cam_to_world, expected.cam_to_world)
        assert torch.equal(frame.intrinsics, expected.intrinsics)
        assert frame.prompt == ""


def test_frames_come_in_numeric_order(folder):
    assert names(read_frames(folder)) == ["0", "2", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"start": 2}, ["4", "6", "8", "10"]),
        ({"stride": 2}, ["0", "4", "8"]),
        ({"start": 1, "stride": 3}, ["2", "8"]),
        ({"max_frames": 3}, ["0", "2", "4"]),
        ({"start": 1, "stride": 2, "max_frames": 2}, ["2", "6"]),
    ],
)
def test_start_stride_and_max_frames_count_the_frames_in_the_folder(folder, choice, expected):
    assert names(read_frames(folder, **choice)) == expected


def test_frames_that_are_skipped_count_for_the_stride(folder):
    (folder / "pose" / "4.txt").unlink()
    assert names(read_frames(folder, stride=2)) == ["0", "8"]


def test_frames_are_read_when_they_are_asked_for(folder):
    frames = read_frames(folder)
    next(frames)
    shutil.rmtree(folder / "color")
    with pytest.raises(InputError, match="unreadable picture"):
        list(frames)


def test_prompts_and_jpeg_pictures_are_read(folder):
    for name, ending in (("0", ".jpg"), ("2", ".JPEG")):
        picture = Image.open(folder / "color" / f"{name}.png")
        picture.save(folder / "color" / (name + ending), "jpeg", quality=100, subsampling=0)
        (folder / "color" / f"{name}.png").unlink()
    (folder / "prompt").mkdir()
    (folder / "prompt" / "2.txt").write_text("a bed,\n枕\n", encoding="utf-8")
    first, second, *_ = read_frames(folder)
    assert (first.prompt, second.prompt) == ("", "a bed,\n枕")
    assert (first.image - walk(1, 80, 60)[0].image).abs().max() < 0.03


def test_three_by_three_intrinsics_are_read(folder):
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", walk(1, 80, 60)[0].intrinsics.numpy())
    assert torch.equal(next(read_frames(folder)).intrinsics, walk(1, 80, 60)[0].intrinsics)


def test_other_files_are_left_alone(folder):
    for part in ("color", "depth", "pose"):
        (folder / part / "._2.png").write_bytes(b"a file of macOS")
        (folder / part / "notes.txt").write_text("mine", encoding="utf-8")
    assert len(list(read_frames(folder))) == 6


# ---- Frames that are skipped


def set_pose(folder: Path, name: str, **entries: float) -> None:
    """Changes entries such as m03 of a pose."""
    path = folder / "pose" / f"{name}.txt"
    matrix = np.loadtxt(path)
    for entry, value in entries.items():
        matrix[int(entry[1]), int(entry[2])] = value
    np.savetxt(path, matrix)


@pytest.mark.parametrize("part", ["pose", "depth", "color"])
def test_frame_without_a_file_is_skipped_and_named(folder, part):
    next((folder / part).glob("4.*")).unlink()
    assert names(read_frames(folder)) == ["0", "2", "6", "8", "10"]
    assert skipped(folder) == f"skipped frame 4 (no {'picture' if part == 'color' else part})"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"m03": float("nan")}, "pose not finite"),
        ({"m00": float("-inf"), "m23": float("-inf")}, "pose not finite"),
        ({"m00": 1.5}, "pose not rigid"),
        ({"m01": -1.0, "m11": 0.0, "m00": 0.0, "m10": 1.0, "m22": -1.0}, "pose not rigid"),
        ({"m30": 0.1}, "pose not rigid"),
    ],
    ids=["nan", "lost", "stretched", "mirrored", "last row"],
)
def test_frame_with_a_bad_pose_is_skipped_and_named(folder, entries, reason):
    set_pose(folder, "0", **entries)
    assert skipped(folder) == f"skipped frame 0 ({reason})"


@pytest.mark.parametrize("text", ["", "1 0 0", "one two", "1 0 0 0 1 0 0 0 1", "1.#INF"], ids=range(5))
def test_pose_that_is_no_matrix_is_skipped_and_named(folder, text):
    (folder / "pose" / "6.txt").write_text(text, encoding="utf-8")
    assert skipped(folder) == "skipped frame 6 (unreadable pose)"


def test_rotation_of_few_digits_is_made_one(folder):
    rounded = np.round(np.loadtxt(folder / "pose" / "8.txt"), 3)
    np.savetxt(folder / "pose" / "8.txt", rounded)
    found = {frame.name: frame for frame in read_frames(folder)}["8"].cam_to_world
    rotation = found[:3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, torch.from_numpy(rounded), rtol=0, atol=1e-3)


def test_depth_of_zeros_is_skipped_and_named(folder):
    Image.fromarray(np.zeros((60, 80), np.uint16)).save(folder / "depth" / "2.png")
    assert names(read_frames(folder)) == ["0", "4", "6", "8", "10"]
    assert skipped(folder) == "skipped frame 2 (depth all zero)"


@pytest.mark.parametrize("part", ["depth", "color"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_picture_that_ends_early_is_skipped_and_named(folder, part, share):
    path = folder / part / "2.png"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert skipped(folder) == f"skipped frame 2 (unreadable {'picture' if part == 'color' else 'depth'})"


def test_all_that_is_skipped_is_said_at_once_by_reason(folder):
    for name in ("0", "10"):
        (folder / "pose" / f"{name}.txt").unlink()
    Image.fromarray(np.zeros((60, 80), np.uint16)).save(folder / "depth" / "2.png")
    assert skipped(folder) == "skipped frames 0, 10 (no pose), frame 2 (depth all zero)"


def test_nothing_is_said_where_nothing_is_skipped(folder):
    assert len(list(read_frames(folder, on_skipped=lambda text: pytest.fail(text)))) == 6


def test_check_opens_no_picture(folder, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("a picture was read"))
    (folder / "pose" / "2.txt").unlink()
    usable, faults = check_folder(folder)
    assert list(usable) == ["0", "4", "6", "8", "10"] and faults == {"2": "no pose"}


# ---- Folders that are refused


def test_folder_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "house", "there is no folder .*house")


def test_folder_without_frames_is_refused(tmp_path):
    refused(tmp_path, "there are no frames in")


def test_start_behind_the_last_frame_is_refused(folder):
    refused(folder, "start is 6, and there are 6 frames", start=6)


@pytest.mark.parametrize("choice", [{"start": -1}, {"stride": 0}, {"max_frames": -1}], ids=str)
def test_negative_counts_are_refused(folder, choice):
    refused(folder, "start must be 0 or more, stride 1 or more", **choice)


def test_fewer_than_two_usable_frames_are_refused_before_one_is_read(folder):
    for path in sorted((folder / "pose").glob("*.txt"))[1:]:
        path.unlink()
    refused(folder, r"1 of the chosen frames .* \(skipped frames 2, 4, 6, 8, 10 \(no pose\)\)")


def test_fewer_than_two_frames_with_depth_are_refused(folder):
    for path in sorted((folder / "depth").glob("*.png"))[1:]:
        Image.fromarray(np.zeros((60, 80), np.uint16)).save(path)
    with pytest.raises(InputError, match=r"1 of the chosen frames .* \(depth all zero\)"):
        list(read_frames(folder))


def test_missing_intrinsics_are_refused(folder):
    (folder / "intrinsic" / "intrinsic_depth.txt").unlink()
    refused(folder, "no intrinsic/intrinsic_depth.txt")


@pytest.mark.parametrize("text", ["", "577.9 319.5", "fx fy"], ids=range(3))
def test_intrinsics_that_are_no_matrix_are_refused(folder, text):
    (folder / "intrinsic" / "intrinsic_depth.txt").write_text(text, encoding="utf-8")
    refused(folder, r"intrinsic_depth.txt does not hold 3 x 3 or 4 x 4 numbers")


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[np.nan, 0, 39.5], [0, 50, 29.5], [0, 0, 1]], "NaN or infinite"),
        ([[50, 0, 161], [0, 50, 120], [0, 0, 1]], r"depth maps of 80 x 60 pixels.* principal point is 161, 120"),
        ([[50, 0, 10], [0, 50, 29.5], [0, 0, 1]], "principal point is 10, 29.5"),
        ([[2, 0, 39.5], [0, 50, 29.5], [0, 0, 1]], "focal lengths are 2 and 50"),
        ([[50, 0, 39.5], [0, 5000, 29.5], [0, 0, 1]], "focal lengths are 50 and 5000"),
        ([[-50, 0, 39.5], [0, 50, 29.5], [0, 0, 1]], "focal lengths are -50 and 50"),
        ([[50, 0, 39.5], [3, 50, 29.5], [0, 0, 1]], "does not fit"),
        ([[50, 0, 39.5], [0, 50, 29.5], [39.5, 29.5, 1]], "does not fit"),
    ],
    ids=["nan", "of pictures", "off the middle", "short", "long", "negative", "sheared", "last row"],
)
def test_intrinsics_that_are_not_the_depth_maps_are_refused(folder, matrix, said):
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", np.array(matrix))
    refused(folder, said)


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)], ids=["8 bits", "colours"])
def test_depth_of_another_kind_is_refused(folder, shape):
    Image.fromarray(np.full(shape, 7, np.uint8)).save(folder / "depth" / "4.png")
    refused(folder, "depth of frame 4 in .* not a 16-bit grey picture")


def test_depth_maps_of_different_sizes_are_refused(folder):
    Image.fromarray(np.full((30, 40), 900, np.uint16)).save(folder / "depth" / "8.png")
    refused(folder, r"80 x 60 \(frame 0\) and 40 x 30 \(frame 8\)")


# ---- Writing


def test_what_is_written_is_read_back(views, tmp_path):
    cameras, images = views
    images = (images * 255).round() / 255
    written = write_sequence(tmp_path / "views", cameras, images, "png", ["a bed", "a lamp", "", "枕"])
    assert written == tmp_path / "views"
    frames = list(read_frames(written))
    assert names(frames) == list(cameras.names)
    assert [frame.prompt for frame in frames] == ["a bed", "a lamp", "", "枕"]
    for view, frame in enumerate(frames):
        assert torch.equal(frame.cam_to_world, cameras.cam_to_world[view])
        assert torch.equal(frame.intrinsics, cameras.intrinsics[view])
        assert torch.equal(frame.depth, cameras.depth[view])
        assert torch.equal(frame.image, images[view])


metres = arrays.arrays(np.float32, (64, 64), elements=st.floats(0, 80, width=32))
angle = st.floats(-180, 180)


@settings(max_examples=25, deadline=None)
@given(depth=metres, yaw=angle, pitch=angle, x=st.floats(-1e3, 1e3), focal=st.floats(20, 200), cx=st.floats(20, 40))
def test_any_view_is_read_back(tmp_path_factory, depth, yaw, pitch, x, focal, cx):
    depth[0, 0] = 1.25
    intrinsics = torch.tensor([[focal, 0, cx], [0, focal / 3 + 20, cx], [0, 0, 1]], dtype=torch.float64)
    cam_to_world = pose(yaw, (x, x / 3, -x / 7), pitch)
    two = PosedViews(
        torch.stack((intrinsics, intrinsics)),
        torch.stack((cam_to_world, pose(pitch))),
        64,
        64,
        depth=torch.from_numpy(depth).repeat(2, 1, 1),
    )
    written = write_sequence(tmp_path_factory.mktemp("any") / "views", two, torch.zeros(2, 64, 64, 3))
    frame = next(read_frames(written))
    assert torch.equal(frame.cam_to_world, cam_to_world) and torch.equal(frame.intrinsics, intrinsics)
    expected = np.where(depth.astype(np.float64) * 1000 < 65535.5, depth, 0)
    assert np.abs(frame.depth.double().numpy() - expected).max() <= 0.0005 + 1e-5


def test_depth_beyond_16_bits_is_no_reading(views, tmp_path):
    cameras, images = views
    depth = cameras.depth.clone()
    depth[0, 0, :3] = torch.tensor([65.535, 65.536, 300.0])
    far = PosedViews(cameras.intrinsics, cameras.cam_to_world, 64, 48, depth=depth)
    frame = next(read_frames(write_sequence(tmp_path / "views", far, images)))
    assert frame.depth[0, :3].tolist() == pytest.approx([65.535, 0, 0])


def test_shared_intrinsics_are_written_once_as_scannet_has_them(tmp_path):
    cameras, images, _ = posed_views(walk(3), 64, 64, 0.3, 0.6)
    written = write_sequence(tmp_path / "views", cameras, images)
    assert sorted(os.listdir(written / "intrinsic")) == ["intrinsic_color.txt", "intrinsic_depth.txt"]
    matrix = np.loadtxt(written / "intrinsic" / "intrinsic_depth.txt")
    assert matrix.shape == (4, 4) and (matrix[:3, :3] == cameras.intrinsics[0].numpy()).all()


def test_colour_intrinsics_are_those_of_larger_images(views, tmp_path):
    """A point at a pixel's corner of the depth map is at a corner of the image, twice as far from its own corner."""
    cameras, images = views
    large = images.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    written = write_sequence(tmp_path / "views", cameras, large)
    depth, colour = (np.loadtxt(written / "intrinsic" / f"intrinsic_{part}.txt")[:3, :3] for part in ("depth", "color"))
    corner = np.linalg.solve(depth, [31.5, 7.5, 1])
    np.testing.assert_allclose(colour @ corner, [63.5, 15.5, 1], rtol=0, atol=1e-9)
    assert Image.open(next((written / "color").iterdir())).size == (128, 96)


def test_jpeg_is_nearly_the_image(views, tmp_path):
    cameras, images = views
    written = write_sequence(tmp_path / "views", cameras, images, "jpeg")
    assert {path.suffix for path in (written / "color").iterdir()} == {".jpg"}
    assert (next(read_frames(written)).image - images[0]).abs().max() < 0.03


def test_folder_that_exists_is_left_as_it_is(views, tmp_path):
    cameras, images = views
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "mine.txt").write_text("mine", encoding="utf-8")
    written = [write_sequence(tmp_path / "views", cameras, images) for _ in range(2)]
    assert [path.name for path in written] == ["views_2", "views_3"]
    assert os.listdir(tmp_path / "views") == ["mine.txt"]


def test_failure_leaves_nothing(views, tmp_path, monkeypatch):
    cameras, images = views
    monkeypatch.setattr(np, "savetxt", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_sequence(tmp_path / "views", cameras, images)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda images: images.repeat(2, 1, 1, 1), "there are 8 images and 4 cameras"),
        (lambda images: images[:1], "there are 1 images and 4 cameras"),
        (lambda images: images[:, :40], "the images are 64 x 40 pixels and the cameras' views 64 x 48"),
        (lambda images: images * torch.nan, "NaN or infinite numbers in the images$"),
    ],
    ids=["two panoramas", "one", "cropped", "nan"],
)
def test_images_that_do_not_fit_are_refused_and_nothing_is_written(views, tmp_path, change, said):
    cameras, images = views
    with pytest.raises(InputError, match=said):
        write_sequence(tmp_path / "views", cameras, change(images))
    assert os.listdir(tmp_path) == []


def test_prompts_of_other_cameras_are_refused(views, tmp_path):
    with pytest.raises(InputError, match="3 prompts and 4 cameras"):
        write_sequence(tmp_path / "views", *views, prompts=["a"] * 3)


def test_views_of_one_name_are_refused(views, tmp_path):
    cameras, images = views
    with pytest.raises(InputError, match="different numbers, not 0, 3, 0, 9"):
        write_sequence(tmp_path / "views", cameras.subset((0, 1, 0, 3)), images)
