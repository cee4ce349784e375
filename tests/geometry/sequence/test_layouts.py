"""Folders as datasets and other programs have them: told apart, and read as the room that was rendered into them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import (
    shows_the_room,
    units,
    write_frames_25k,
    write_nerfstudio,
    write_padded,
    write_pgm,
    write_sens,
    write_tum,
)
from PIL import Image
from rooms import pose, seen, write_scannet

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.sequence.layouts import layout_of
from mvdiffusion_pack.geometry.sequence.nerfstudio_folder import NERFSTUDIO
from mvdiffusion_pack.geometry.sequence.reading import read_frames
from mvdiffusion_pack.geometry.sequence.scannet_folder import SCANNET
from mvdiffusion_pack.geometry.sequence.sens_folder import SENS
from mvdiffusion_pack.geometry.sequence.tum_folder import TUM

WRITERS = {
    "scannet_frames_25k": (write_frames_25k, SCANNET),
    "padded": (write_padded, SCANNET),
    "sens": (write_sens, SENS),
    "tum": (write_tum, TUM),
    "nerfstudio": (write_nerfstudio, NERFSTUDIO),
}
every = pytest.mark.parametrize(("write", "layout"), WRITERS.values(), ids=WRITERS)


def tilted() -> list:
    """Three frames, 80 x 60, of cameras that stand apart, are turned, and look up or down."""
    at = [(0.3, 0.2, -0.5), (0.5, -0.1, -0.3), (0.1, 0.4, 0.2)]
    return [seen(str(i), pose(25 + 20 * i, at[i], 8 - 7 * i), 80, 60, 70) for i in range(3)]


def inverted(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(matrix)


def mirrored(matrix: np.ndarray) -> np.ndarray:
    """The x axes of world and camera the other way: still a rotation."""
    mirror = np.diag([-1.0, 1, 1, 1])
    return mirror @ matrix @ mirror


def opengl(matrix: np.ndarray) -> np.ndarray:
    """The camera's axes taken for those of the other convention."""
    return matrix @ np.diag([1.0, -1, -1, 1])


@every
def test_frames_show_the_room(write, layout, tmp_path):
    folder = write(tmp_path / "room", tilted())
    assert layout_of(folder) is layout
    frames = list(read_frames(folder, on_skipped=pytest.fail))
    assert len(frames) == 3
    for frame, expected in zip(frames, tilted(), strict=True):
        shows_the_room(frame)
        torch.testing.assert_close(frame.cam_to_world, expected.cam_to_world, rtol=0, atol=1e-9)
        torch.testing.assert_close(frame.intrinsics, expected.intrinsics, rtol=0, atol=1e-9)
        torch.testing.assert_close(frame.depth, expected.depth, rtol=0, atol=5e-4)


@every
@pytest.mark.parametrize("wrong", [inverted, mirrored, opengl])
def test_a_pose_of_another_convention_does_not_show_the_room(write, layout, wrong, tmp_path):
    """What the test above is worth: it would not pass with these poses."""
    frames = list(read_frames(write(tmp_path / "room", tilted(), wrong)))
    for frame in frames:
        with pytest.raises(AssertionError):
            shows_the_room(frame)


@every
def test_depth_scale_is_metres_per_unit(write, layout, tmp_path):
    folder = write(tmp_path / "room", tilted())
    metre = 5000 if layout is TUM else 1000
    own, given = (next(read_frames(folder, depth_scale=scale)).depth for scale in (0.0, 0.25 / metre))
    torch.testing.assert_close(given, 0.25 * own, rtol=1e-6, atol=0)


def test_depth_of_another_factor_in_scannets_layout(tmp_path):
    folder = write_scannet(tmp_path / "room", tilted())
    for frame in tilted():
        Image.fromarray(units(frame, 5000)).save(folder / "depth" / f"{frame.name}.png")
    for frame in read_frames(folder, depth_scale=0.0002):
        shows_the_room(frame)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_depth_scale_that_is_none_is_refused(tmp_path, scale):
    with pytest.raises(InputError, match="depth_scale is "):
        read_frames(write_scannet(tmp_path / "room", tilted()), depth_scale=scale)


def test_folders_of_nothing_known_have_no_layout(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "info.txt").write_text("holiday", encoding="utf-8")
    assert layout_of(tmp_path) is None and layout_of(tmp_path / "nowhere") is None
    with pytest.raises(InputError, match=r"it needs color/N.jpg.*frame-N.color.jpg") as refusal:
        read_frames(tmp_path)
    assert "transforms.json" in str(refusal.value)


# ---- ScanNet's C++ exporter


@pytest.mark.parametrize(("depth", "metre"), [("png", 1000), ("pgm", 4000)])
def test_sens_depth_as_png_and_its_shift(tmp_path, depth, metre):
    for frame in read_frames(write_sens(tmp_path / "room", tilted(), depth=depth, metre=metre)):
        shows_the_room(frame)


def test_pgm_numbers_are_not_stretched(tmp_path):
    folder = write_sens(tmp_path / "room", tilted())
    write_pgm(folder / "frame-000000.depth.pgm", units(tilted()[0]), largest=9999)
    shows_the_room(next(read_frames(folder)))


def test_sens_counts_65535_as_no_reading(tmp_path):
    folder = write_sens(tmp_path / "room", tilted())
    numbers = units(tilted()[0])
    numbers[:5] = 65535
    write_pgm(folder / "frame-000000.depth.pgm", numbers)
    depth = next(read_frames(folder)).depth
    assert not depth[:5].any() and depth[5:].all()


def test_sens_without_info_takes_a_file_of_intrinsics(tmp_path):
    folder = write_sens(tmp_path / "room", tilted())
    (folder / "_info.txt").unlink()
    with pytest.raises(InputError, match=r"there is no intrinsic/intrinsic_depth.txt or intrinsics_depth.txt in"):
        read_frames(folder)
    np.savetxt(folder / "camera-intrinsics.txt", tilted()[0].intrinsics.numpy())
    for frame in read_frames(folder):
        shows_the_room(frame)


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        ("m_depthShift = 1000", "m_depthShift = none", "m_depthShift in .* is none, not a number"),
        ("m_depthShift = 1000", "m_depthShift = 0", "m_depthShift in .* is 0, not a number"),
        ("m_calibrationDepthIntrinsic = ", "m_calibrationDepthIntrinsic = x", "does not hold 3 x 3 or 4 x 4 numbers"),
    ],
)
def test_nonsense_in_info_is_said(tmp_path, was, is_, said):
    folder = write_sens(tmp_path / "room", tilted())
    text = (folder / "_info.txt").read_text(encoding="utf-8")
    (folder / "_info.txt").write_text(text.replace(was, is_), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_frames(folder)


# ---- TUM


def test_tum_pairs_what_is_nearest_in_time_and_names_what_has_none(tmp_path):
    folder = write_tum(tmp_path / "room", tilted() * 2)
    lines = (folder / "groundtruth.txt").read_text(encoding="utf-8").splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(lines[:2] + lines[3:]), encoding="utf-8")
    said: list[str] = []
    frames = list(read_frames(folder, on_skipped=said.append))
    assert said == ["skipped frame 1 (no pose)"]
    assert [frame.name for frame in frames] == ["0", "2", "3", "4", "5"]
    for frame in frames:
        shows_the_room(frame)


def test_tum_without_calibration_is_told_what_to_write(tmp_path):
    folder = write_tum(tmp_path / "room", tilted())
    (folder / "calibration.txt").unlink()
    with pytest.raises(InputError, match=r"there is no calibration.txt or intrinsics_depth.txt in"):
        read_frames(folder)
    np.savetxt(folder / "intrinsics_depth.txt", tilted()[0].intrinsics.numpy())
    shows_the_room(next(read_frames(folder)))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("depth.txt", "now depth/1.png", "does not begin with a time in seconds"),
        ("rgb.txt", "1305031453.5", "has nothing behind its time"),
        ("calibration.txt", "525 525", "calibration.txt does not hold four numbers"),
    ],
)
def test_nonsense_in_tums_lists_is_said(tmp_path, name, text, said):
    folder = write_tum(tmp_path / "room", tilted())
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_frames(folder)


# ---- nerfstudio


def changed(folder: Path, **changes) -> Path:
    """transforms.json with these entries changed, None: taken out."""
    path = folder / "transforms.json"
    given = json.loads(path.read_text(encoding="utf-8")) | changes
    given = {name: value for name, value in given.items() if value is not None}
    path.write_text(json.dumps(given), encoding="utf-8")
    return folder


def entries(folder: Path) -> list[dict]:
    return json.loads((folder / "transforms.json").read_text(encoding="utf-8"))["frames"]


def test_nerfstudio_frames_come_by_the_numbers_in_their_names(tmp_path):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    changed(folder, frames=entries(folder)[::-1])
    assert [frame.name for frame in read_frames(folder)] == ["1", "2", "3"]


def test_blenders_files_without_ending_and_with_an_angle_alone(tmp_path):
    frames = [replace(frame, name=str(number)) for number, frame in enumerate(tilted())]
    folder = write_nerfstudio(tmp_path / "room", frames)
    angle = 2 * np.arctan(40 / frames[0].intrinsics[0, 0].item())
    nameless = [entry | {"file_path": entry["file_path"].removesuffix(".png")} for entry in entries(folder)]
    gone = dict.fromkeys(("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"))
    changed(folder, frames=nameless, camera_angle_x=angle, **gone)
    (folder / "transforms.json").rename(folder / "transforms_train.json")
    for frame in read_frames(folder):
        shows_the_room(frame)


def test_intrinsics_of_a_frame_come_before_those_of_all(tmp_path):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    own = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))["fl_x"]
    changed(
        folder, fl_x=1.5 * own, fl_y=1.5 * own, frames=[one | {"fl_x": own, "fl_y": own} for one in entries(folder)]
    )
    for frame in read_frames(folder):
        shows_the_room(frame)


@pytest.mark.parametrize("ending", [".npy", ".tiff"])
def test_numbers_that_are_not_whole_are_metres(tmp_path, ending):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    for entry, frame in zip(entries(folder), tilted(), strict=True):
        path = folder / entry["depth_file_path"].replace(".png", ending)
        metres = frame.depth.numpy().copy()
        metres[0, 0] = np.nan
        np.save(path, metres) if ending == ".npy" else Image.fromarray(metres).save(path)
    frames = [one | {"depth_file_path": one["depth_file_path"].replace(".png", ending)} for one in entries(folder)]
    for frame, expected in zip(read_frames(changed(folder, frames=frames)), tilted(), strict=True):
        assert frame.depth[0, 0] == 0
        assert torch.equal(frame.depth[1:], expected.depth[1:])


def test_depth_unit_scale_factor_is_metres_per_unit(tmp_path):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    for entry, frame in zip(entries(folder), tilted(), strict=True):
        Image.fromarray(units(frame, 5000)).save(folder / entry["depth_file_path"])
    for frame in read_frames(changed(folder, depth_unit_scale_factor=0.0002)):
        shows_the_room(frame)


def test_frames_that_lack_something_are_named(tmp_path):
    folder = write_nerfstudio(
        tmp_path / "room", [*tilted(), *[replace(f, name=str(3 + i)) for i, f in enumerate(tilted())]]
    )
    frames = entries(folder)
    del frames[0]["depth_file_path"]
    frames[1]["file_path"] = "./images/frame_00099.png"
    frames[2]["transform_matrix"] = [[1, 0], [0, 1]]
    frames[3]["transform_matrix"][0][3] = "far"
    said: list[str] = []
    assert len(list(read_frames(changed(folder, frames=frames), on_skipped=said.append))) == 2
    assert said == ["skipped frame 1 (no depth), frames 3, 4 (unreadable pose), frame 99 (no picture)"]


@pytest.mark.parametrize("name", ["../outside.png", "images/../../outside.png", "..\\outside.png"])
@pytest.mark.parametrize("write", [write_nerfstudio, write_tum], ids=["nerfstudio", "tum"])
def test_lists_cannot_lead_out_of_their_folder(tmp_path, write, name):
    folder = write(tmp_path / "room", tilted() * 2)
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "outside.png")
    if write is write_nerfstudio:
        frames = entries(folder)
        frames[0]["file_path"] = name
        changed(folder, frames=frames)
    else:
        lines = (folder / "rgb.txt").read_text(encoding="utf-8").splitlines()
        lines[1] = f"{lines[1].split()[0]} {name}"
        (folder / "rgb.txt").write_text("\n".join(lines), encoding="utf-8")
    said: list[str] = []
    list(read_frames(folder, on_skipped=said.append))
    assert said == ["skipped frame 0 (no picture)"]


def test_whole_paths_are_none(tmp_path):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    frames = entries(folder)
    frames[0]["file_path"] = str(folder / "images" / "frame_00001.png")
    said: list[str] = []
    list(read_frames(changed(folder, frames=frames), on_skipped=said.append))
    assert said == ["skipped frame 1 (no picture)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": None}, "has no list of frames"),
        ({"frames": [{"transform_matrix": []}]}, "a frame in .* has no file_path"),
        ({"fl_x": "wide"}, "fl_x in .* is 'wide', not a number"),
        ({"fl_x": None, "fl_y": None}, "has neither fl_x nor camera_angle_x"),
        ({"fl_x": 4000.0, "fl_y": 4000.0}, "does not fit depth maps of 80 x 60 pixels"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model in .* is OPENCV_FISHEYE"),
        ({"k1": 0.2}, r"the lens .* moves the pictures' corners by 15.3%"),
        ({"p2": -0.1}, "the lens .* moves the pictures' corners"),
    ],
    ids=str,
)
def test_nonsense_in_transforms_is_said(tmp_path, changes, said):
    folder = changed(write_nerfstudio(tmp_path / "room", tilted()), **changes)
    with pytest.raises(InputError, match=said):
        read_frames(folder)


def test_numbers_that_no_float_holds_are_said(tmp_path):
    folder = changed(write_nerfstudio(tmp_path / "room", tilted()), fl_x=10**400)
    with pytest.raises(InputError, match=r"fl_x in .* is 1000.*, not a number"):
        read_frames(folder)


def test_small_distortion_is_taken(tmp_path):
    folder = changed(write_nerfstudio(tmp_path / "room", tilted()), k1=0.005, k2=-0.001, p1=0.0)
    assert len(list(read_frames(folder))) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000], ids=lambda text: text[:9])
def test_transforms_that_are_none_are_said(tmp_path, text):
    folder = write_nerfstudio(tmp_path / "room", tilted())
    (folder / "transforms.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"is not JSON|has no list of frames"):
        read_frames(folder)


# ---- What is read of them


@every
def test_files_are_all_that_is_read(write, layout, tmp_path):
    """Without them nothing can be read; with them alone, everything."""
    folder, copy = write(tmp_path / "room", tilted()), tmp_path / "copy"
    for path in layout.files(folder):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy / path.relative_to(folder))
    assert len(list(read_frames(copy))) == 3
    assert not any("label" in path.parts for path in layout.files(folder))
