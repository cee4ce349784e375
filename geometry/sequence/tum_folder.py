"""The TUM RGB-D benchmark's folders, which ETH3D's SLAM benchmark, Bonn's and others have too.

rgb.txt, depth.txt: lines of a time in seconds and a file, such as 1305031453.359684 rgb/1305031453.359684.png.
groundtruth.txt: lines of a time, a position in metres and a rotation, tx ty tz qx qy qz qw: camera-to-world.
Depth is 16-bit grey, 5000 to the metre, 0 = no reading, and lies over the pictures. Lines after # are comments.
calibration.txt: fx fy cx cy; or one of scannet_folder's files. TUM itself gives them on its web page alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..input_error import InputError
from .listing import Layout, Listed
from .matrices import numbers_in, pinhole, rigid, rotation_from_quaternion
from .picture_files import Size, file_inside
from .scannet_folder import SHARED_INTRINSICS, given_intrinsics, shared_intrinsics

PICTURES, DEPTHS, POSES, CALIBRATION = "rgb.txt", "depth.txt", "groundtruth.txt", "calibration.txt"
METRES = 1 / 5000  # per unit
APART = 0.02  # seconds by which picture, depth and pose of one frame may differ, as in the benchmark's own tools

Timed = tuple[np.ndarray, list[list[str]]]  # ascending times, and what stands behind each


def _fits(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in (PICTURES, DEPTHS, POSES))


def _frames(folder: Path) -> dict[str, Listed]:
    """A frame for each depth map: its number, and the picture and pose of its time."""
    depths, pictures, poses = (_timed(folder / name) for name in (DEPTHS, PICTURES, POSES))
    said_in = folder / CALIBRATION
    if not os.path.isfile(said_in):
        said_in = shared_intrinsics(folder)
    frames = {}
    for number, (time, depth) in enumerate(zip(*depths, strict=True)):
        color, pose = _nearest(pictures, time), _nearest(poses, time)
        frames[str(number)] = Listed(
            None if color is None else file_inside(folder, color[0]),
            file_inside(folder, depth[0]),
            None if pose is None else partial(_pose, pose),
            partial(_intrinsics, folder, said_in),
            said_in,
            metres=METRES,
        )
    return frames


def _timed(path: Path) -> Timed:
    """The lines of a file, in the order of their times. Raises InputError for lines that are none."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    words = [line.replace(",", " ").split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    try:
        timed = sorted((float(time), rest) for time, *rest in words)
    except ValueError:
        raise InputError(f"a line of {path} does not begin with a time in seconds", "timed_lines") from None
    if not all(rest for _, rest in timed):
        raise InputError(f"a line of {path} has nothing behind its time", "timed_lines")
    return np.array([time for time, _ in timed]), [rest for _, rest in timed]


def _nearest(timed: Timed, time: float) -> list[str] | None:
    """What stands at the time nearest to this one, if that is near enough."""
    times, lines = timed
    if not lines:
        return None
    found = int(np.abs(times - time).argmin())
    return lines[found] if abs(times[found] - time) <= APART else None


def _pose(words: list[str]) -> torch.Tensor | str:
    try:
        *position, x, y, z, w = (float(word) for word in words[:7])
    except ValueError:
        return "unreadable pose"
    if len(position) != 3 or not any((x, y, z, w)):
        return "unreadable pose"
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = rotation_from_quaternion(x, y, z, w)
    matrix[:3, 3] = torch.tensor(position, dtype=torch.float64)
    return rigid(matrix)


def _intrinsics(folder: Path, path: Path, size: Size) -> torch.Tensor:
    if path.name == CALIBRATION:
        numbers = numbers_in(path)
        if numbers is None or numbers.numel() < 4:
            raise InputError(f"{path} does not hold four numbers", "calibration")
        return pinhole(*numbers[:4].tolist())
    if not os.path.isfile(path):
        raise InputError(f"there is no {CALIBRATION} or {SHARED_INTRINSICS[1]} in {folder}", "tum_matrix")
    return given_intrinsics(folder, path, size)


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in (PICTURES, DEPTHS, POSES, CALIBRATION))
    yield shared_intrinsics(folder)
    for part in ("rgb", "depth"):
        yield from (folder / part).glob("*")


TUM = Layout("rgb.txt, depth.txt and groundtruth.txt, as TUM has them", _fits, _frames, _files)
