"""Folders of ScanNet's C++ exporter, which 3RScan, BundleFusion, 7-Scenes and 3DMatch have too.

frame-000000.color.jpg (.jpeg, .png); frame-000000.depth.pgm (.png), 16 bits, 0 or 65535 = no reading;
frame-000000.pose.txt, 4 x 4 camera-to-world in metres.
_info.txt (info.txt): lines `name = value`. m_calibrationDepthIntrinsic are the rows of a 4 x 4 matrix in pixels of the
    depth maps, m_depthShift is how many of their units a metre has. Without it: one of scannet_folder's files, and
    millimetres.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..input_error import InputError
from .listing import MILLIMETRE, Layout, Listed
from .matrices import pose_in, square
from .picture_files import Size
from .scannet_folder import given_intrinsics, shared_intrinsics

FILE = re.compile(r"frame-(\d+)\.(color\.(?:jpe?g|png)|depth\.(?:pgm|png)|pose\.txt)", re.IGNORECASE)
INFOS = "_info.txt", "info.txt"
INTRINSICS, SHIFT = "m_calibrationDepthIntrinsic", "m_depthShift"
LOST = 65535.0


def _fits(folder: Path) -> bool:
    """Only folders with the usual first frame, or a file of intrinsics, are looked through: others may be large."""
    if os.path.isfile(folder / "frame-000000.pose.txt"):
        return True
    return os.path.isfile(_info(folder) or shared_intrinsics(folder)) and any(folder.glob("frame-*.pose.txt"))


def _info(folder: Path) -> Path | None:
    return next((folder / name for name in INFOS if os.path.isfile(folder / name)), None)


def _frames(folder: Path) -> dict[str, Listed]:
    frames: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if found := FILE.fullmatch(path.name):
            frames.setdefault(int(found[1]), {})[found[2].split(".")[0].lower()] = path
    info = _info(folder)
    values = {} if info is None else _values(info)
    if info is not None and INTRINSICS in values:
        said_in, intrinsics = info, partial(_calibrated, info, values[INTRINSICS])
    else:
        said_in = shared_intrinsics(folder)
        intrinsics = partial(given_intrinsics, folder, said_in)
    metres = MILLIMETRE if info is None or SHIFT not in values else _metres(info, values[SHIFT])
    return {
        str(number): Listed(
            files.get("color"),
            files.get("depth"),
            partial(pose_in, files["pose"]) if "pose" in files else None,
            intrinsics,
            said_in,
            metres=metres,
            unread=LOST,
        )
        for number, files in sorted(frames.items())
    }


def _values(info: Path) -> dict[str, str]:
    lines = info.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return {name.strip(): value.strip() for name, is_, value in (line.partition("=") for line in lines) if is_}


def _calibrated(info: Path, text: str, size: Size) -> torch.Tensor:
    """(3, 3) of the numbers in a line; some programs leave out the last row."""
    try:
        numbers = torch.from_numpy(np.array(text.split(), dtype=np.float64))
    except ValueError:
        numbers = torch.empty(0)
    matrix = numbers.reshape(3, 4) if numbers.numel() == 12 else square(numbers)
    if matrix is None:
        raise InputError(f"{INTRINSICS} in {info} does not hold 3 x 3 or 4 x 4 numbers", "write_matrix")
    return matrix[:3, :3].clone()


def _metres(info: Path, text: str) -> float:
    try:
        shift = float(text)
    except ValueError:
        shift = 0.0
    if not 0 < shift < float("inf"):
        raise InputError(f"{SHIFT} in {info} is {text}, not a number of units per metre", "units_per_metre")
    return 1 / shift


def _files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("frame-*")
    yield from (folder / name for name in INFOS)
    yield shared_intrinsics(folder)


SENS = Layout("frame-N.color.jpg, frame-N.depth.pgm, frame-N.pose.txt and _info.txt", _fits, _frames, _files)
