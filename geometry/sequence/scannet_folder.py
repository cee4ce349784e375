"""ScanNet's folders, as its Python exporter writes them, `write_sequence` too, and as scannet_frames_25k has them.

color/N.jpg (.jpeg, .png): what the frame shows, of any size with the depth map's proportions.
depth/N.png (.pgm): 16-bit grey, millimetres, 0 = no reading; all of one size.
pose/N.txt: 4 x 4 camera-to-world, in metres.
intrinsic/intrinsic_depth.txt, or intrinsics_depth.txt beside the folders: 3 x 3, or 4 x 4 around it, in pixels of the
    depth maps.
intrinsic/N.txt: the same for one frame alone (ours: ScanNet's frames share their intrinsics).
prompt/N.txt: what the frame shows, in words (ours; may be missing).

N is the frame's number, with any number of zeros before it. Text is UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ..input_error import InputError
from .listing import Layout, Listed
from .matrices import intrinsics_in, pose_in
from .picture_files import Size

NEEDED = {"color": (".jpg", ".jpeg", ".png"), "depth": (".png", ".pgm"), "pose": (".txt",)}
OPTIONAL = {"intrinsic": (".txt",), "prompt": (".txt",)}
# Where programs put the intrinsics of all depth maps; the first is ScanNet's own.
SHARED_INTRINSICS = (
    "intrinsic/intrinsic_depth.txt",
    "intrinsics_depth.txt",
    "intrinsic_depth.txt",
    "camera-intrinsics.txt",
)


def shared_intrinsics(folder: Path) -> Path:
    """The file with the intrinsics of all depth maps, or where it should be."""
    paths = [folder / name for name in SHARED_INTRINSICS]
    return next((path for path in paths if os.path.isfile(path)), paths[0])


def given_intrinsics(folder: Path, path: Path, size: Size) -> torch.Tensor:
    """`Listed.intrinsics` of a file that holds them for the depth maps as they are. Raises InputError for none."""
    if not os.path.isfile(path):
        raise InputError(f"there is no {SHARED_INTRINSICS[0]} or {SHARED_INTRINSICS[1]} in {folder}", "write_matrix")
    return intrinsics_in(path)


def _fits(folder: Path) -> bool:
    return os.path.isdir(folder / "depth") and os.path.isdir(folder / "pose")


def _frames(folder: Path) -> dict[str, Listed]:
    """All frames that have any of the files needed, in numeric order."""
    frames: dict[int, dict[str, Path]] = {}
    for part, endings in (NEEDED | OPTIONAL).items():
        for path in sorted((folder / part).glob("*")):
            name = path.stem
            if name.isdecimal() and path.suffix.lower() in endings and (part in NEEDED or int(name) in frames):
                frames.setdefault(int(name), {})[part] = path
    shared = shared_intrinsics(folder)
    return {str(number): _listed(frames[number], folder, shared) for number in sorted(frames)}


def _listed(files: dict[str, Path], folder: Path, shared: Path) -> Listed:
    intrinsics = files.get("intrinsic", shared)
    return Listed(
        files.get("color"),
        files.get("depth"),
        partial(pose_in, files["pose"]) if "pose" in files else None,
        partial(given_intrinsics, folder, intrinsics),
        intrinsics,
        files.get("prompt"),
    )


def _files(folder: Path) -> Iterator[Path]:
    for part in NEEDED | OPTIONAL:
        yield from (folder / part).glob("*")
    yield from (folder / name for name in SHARED_INTRINSICS)


SCANNET = Layout(
    f"color/N.jpg, depth/N.png, pose/N.txt and {SHARED_INTRINSICS[0]}, with numbers for N", _fits, _frames, _files
)
