"""nerfstudio's folders, as its converters (of Polycam, Record3D and others) and exporters of Blender write them.

transforms.json (transforms_train.json) with frames: file_path (an ending may be missing), depth_file_path, and
transform_matrix, 4 x 4 camera-to-world with OpenGL's axes: y up, z backwards.
Intrinsics stand in a frame or above all of them: fl_x, fl_y, cx, cy, w, h, in pixels of the pictures, whose upper left
corner is 0, 0; or camera_angle_x alone, in radians. Depth maps may be of another size.
Depth is z, in 16-bit grey pictures of millimetres, or in .npy or float TIFF files of metres; where
depth_unit_scale_factor is given, it says how many metres a unit is.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ..grid import middle
from ..input_error import InputError
from .listing import Layout, Listed
from .matrices import pinhole, rigid
from .picture_files import Size, file_inside, header

FILES = "transforms.json", "transforms_train.json"
ENDINGS = "", ".png", ".jpg", ".jpeg"
OTHER_LENSES = "FISHEYE", "EQUIRECT", "OMNI", "VR180", "ORTHO"
DISTORTION = "k1", "k2", "k3", "k4", "p1", "p2"
MOST_DISTORTED = 0.01  # of half the picture's width, by which its corners may be displaced
OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))


def _fits(folder: Path) -> bool:
    return any(os.path.isfile(folder / name) for name in FILES)


def _path(folder: Path) -> Path:
    return next(folder / name for name in FILES if os.path.isfile(folder / name))


def _frames(folder: Path) -> dict[str, Listed]:
    path = _path(folder)
    given = _given(path)
    frames = [_listed(given | frame, folder, path) for frame in given["frames"]]
    named = [_number(frame["file_path"]) for frame in given["frames"]]
    numbers = [number for number in named if number is not None]
    if len(set(numbers)) < len(frames):
        numbers = list(range(len(frames)))  # in the order of the file: their names tell nothing better
    return {str(number): frame for number, frame in sorted(zip(numbers, frames, strict=True), key=lambda one: one[0])}


def _given(path: Path) -> dict:
    """What the file holds. Raises InputError for one that is no list of frames."""
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error})", "transforms") from None
    frames = given.get("frames") if isinstance(given, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} has no list of frames", "transforms")
    if not all(isinstance(frame, dict) and isinstance(frame.get("file_path"), str) for frame in frames):
        raise InputError(f"a frame in {path} has no file_path", "transforms")
    return given


def _number(name: str) -> int | None:
    """The digits that a file's name ends with: 12 of images/frame_00012.jpg."""
    found = re.search(r"(\d+)(?:\.\D\w*)?$", name)
    return int(found[1]) if found else None


def _listed(frame: dict, folder: Path, path: Path) -> Listed:
    color, depth = (file_inside(folder, frame.get(key), ENDINGS) for key in ("file_path", "depth_file_path"))
    return Listed(
        color,
        depth,
        partial(_pose, frame["transform_matrix"]) if "transform_matrix" in frame else None,
        partial(_intrinsics, frame, color, path),
        path,
        metres=_numbers(frame, path, "depth_unit_scale_factor").get("depth_unit_scale_factor", 0.0),
    )


def _pose(rows: object) -> torch.Tensor | str:
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return "unreadable pose"
    if matrix.shape == (3, 4):
        matrix = torch.cat((matrix, torch.tensor([[0, 0, 0, 1.0]], dtype=torch.float64)))
    if matrix.shape != (4, 4):
        return "unreadable pose"
    return rigid(matrix @ OPENGL_FROM_OPENCV)


def _intrinsics(frame: dict, color: Path | None, path: Path, size: Size) -> torch.Tensor:
    """Those of the depth map: the pictures' scaled to its `size`, with centres of pixels at integers."""
    given = _numbers(frame, path, "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", *DISTORTION)
    width, height = _picture_size(given, color, path)
    fx = given.get("fl_x") or _focal(given.get("camera_angle_x"), width)
    if not fx:
        raise InputError(f"{path} has neither fl_x nor camera_angle_x", "transforms")
    fy = given.get("fl_y") or _focal(given.get("camera_angle_y"), height) or fx
    _check_lens(frame, given, (width / 2 / fx, height / 2 / fy), path)
    across, down = size[0] / width, size[1] / height
    cx, cy = given.get("cx", width / 2), given.get("cy", height / 2)
    return pinhole(across * fx, down * fy, middle(2 * across * cx), middle(2 * down * cy))


def _numbers(frame: dict, path: Path, *names: str) -> dict[str, float]:
    """Those of the named entries that are there. Raises InputError for one that is no finite number."""
    numbers = {}
    for name in names:
        value = frame.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:  # integers may be of any length
            raise InputError(f"{name} in {path} is {value!r}, not a number", "transforms")
        numbers[name] = float(value)
    return numbers


def _picture_size(given: dict[str, float], color: Path | None, path: Path) -> tuple[float, float]:
    width, height = given.get("w", 0.0), given.get("h", 0.0)
    if width > 0 and height > 0:
        return width, height
    found = None if color is None else header(color)
    if found is None:
        raise InputError(f"{path} says no size, w and h, of pictures", "transforms")
    return found[1]


def _focal(angle: float | None, pixels: float) -> float | None:
    return None if angle is None or not 0 < angle < math.pi else pixels / 2 / math.tan(angle / 2)


def _check_lens(frame: dict, given: dict[str, float], corner: tuple[float, float], path: Path) -> None:
    """Raises InputError for pictures of other lenses than a pinhole. corner: of the picture, at depth 1."""
    model = str(frame.get("camera_model", ""))
    if any(other in model.upper() for other in OTHER_LENSES):
        raise InputError(f"camera_model in {path} is {model}", "undistort")
    square = corner[0] ** 2 + corner[1] ** 2
    radial = sum(given.get(f"k{power}", 0.0) * square**power for power in (1, 2, 3, 4))
    tangential = (abs(given.get("p1", 0.0)) + abs(given.get("p2", 0.0))) * 3 * square
    shift = abs(radial) + tangential / corner[0]
    if shift > MOST_DISTORTED:
        raise InputError(f"the lens that {path} describes moves the pictures' corners by {shift:.1%}", "undistort")


def _files(folder: Path) -> Iterator[Path]:
    path = _path(folder)
    yield path
    try:
        frames = _given(path)["frames"]
    except (InputError, OSError):
        return
    for frame in frames:
        for key in ("file_path", "depth_file_path"):
            if found := file_inside(folder, frame.get(key), ENDINGS):
                yield found


NERFSTUDIO = Layout("transforms.json with depth_file_path, as nerfstudio has it", _fits, _frames, _files)
