"""Folders in ScanNet's layout are read as another program wrote them; what is said of those that cannot be read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rooms import walk, write_scannet

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.sequence.reading import check_folder, read_frames


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six frames, called 0, 2, 4, 6, 8, 10."""
    frames = [replace(frame, name=str(2 * i)) for i, frame in enumerate(walk(6, 80, 60))]
    return write_scannet(tmp_path / "room", frames)


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


def test_frames_that_pillow_takes_for_bombs_are_skipped(folder, monkeypatch):
    Image.new("RGB", (400, 300)).save(folder / "color" / "4.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    assert "4" in skipped(folder)
