"""Pictures and depth maps as files: their headers, and their numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PGM = re.compile(rb"P5(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s")
ARRAY = "array"  # what a .npy file is called where others have Pillow's mode
# What Pillow and numpy raise for files that are none, broken (SyntaxError: parts of a PNG), or far too large.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

Size = tuple[int, int]  # width, height
Header = tuple[str, Size]


def file_inside(folder: Path, name: object, endings: Sequence[str] = ("",)) -> Path | None:
    """The file of this name, with the first of `endings` that makes it one; None for names that lead out of the folder.

    A list of files comes from somewhere else, and must not show what lies beside its folder.
    """
    if not isinstance(name, str):
        return None
    plain = os.path.normpath(name.replace("\\", "/"))
    if os.path.isabs(plain) or plain.split(os.sep)[0] == "..":
        return None
    return next((folder / (plain + ending) for ending in endings if os.path.isfile(folder / (plain + ending))), None)


def header(path: Path) -> Header | None:
    """Pillow's mode, or ARRAY, and the size of a picture; None for a file that is no picture. No pixel is read."""
    try:
        if path.suffix.lower() == ".npy":
            height, width = _array(path).shape
            return ARRAY, (width, height)
        with Image.open(path) as picture:
            return picture.mode, picture.size
    except UNREADABLE:
        return None


def is_depth(mode: str) -> bool:
    """Whether a header's mode is fine enough for depth: more than 8 bits, one number per pixel."""
    return mode.startswith("I") or mode in ("F", ARRAY)


def read_colours(path: Path) -> np.ndarray | None:
    """(H, W, 3) float32 in 0..255; None for a file that is no picture, or ends early."""
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"), dtype=np.float32)
    except UNREADABLE:
        return None


def read_depth(path: Path) -> tuple[np.ndarray, bool] | None:
    """(h, w) float32 numbers of a depth map, and whether they were whole ones; None as `read_colours`."""
    try:
        numbers = _depth(path)
    except UNREADABLE:
        return None
    return numbers.astype(np.float32), numbers.dtype.kind in "iu"


def _depth(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return np.array(_array(path))
    if path.suffix.lower() == ".pgm":
        return _pgm(path)
    with Image.open(path) as picture:
        return np.array(picture)


def _array(path: Path) -> np.ndarray:
    """(h, w) of a .npy file, not read yet. Raises ValueError for one that holds anything but real numbers so."""
    numbers = np.load(path, mmap_mode="r", allow_pickle=False)
    if numbers.ndim == 3 and numbers.shape[-1] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {numbers.dtype} {numbers.shape}")
    return numbers


def _pgm(path: Path) -> np.ndarray:
    """The numbers as they stand there: Pillow stretches them where the largest that may occur is not 65535."""
    content = path.read_bytes()
    start = PGM.match(content)
    if start is None:
        raise ValueError(f"{path} is no binary PGM file")
    width, height, largest = (int(number) for number in start.groups())
    kind = ">u2" if largest > 255 else "u1"
    return np.frombuffer(content, kind, width * height, start.end()).reshape(height, width)
