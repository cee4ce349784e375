"""What lies in a folder of ScanNet's layout (see scannet.py), checked before any picture is read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..grid import middle
from ..input_error import InputError
from .frames import FOCAL_LENGTHS, described, nearest_rotation

NEEDED = {"color": (".jpg", ".jpeg", ".png"), "depth": (".png",), "pose": (".txt",)}
OPTIONAL = {"intrinsic": (".txt",), "prompt": (".txt",)}
SHARED_INTRINSICS = "intrinsic/intrinsic_depth.txt"
RIGID, EXACT = 1e-3, 1e-4  # how far from orthonormal rotations may be in a file, and how far `Cameras` take them

FrameFiles = dict[str, Path]  # the files of one frame by the folder that they lie in


def check_folder(
    folder: Path, start: int = 0, stride: int = 1, max_frames: int = 0
) -> tuple[dict[str, FrameFiles], dict[str, str]]:
    """The chosen frames that can be read, with their files, and why each of the others cannot; both by name.

    Of pictures only the headers are opened. Raises InputError for a folder without frames, start or stride that leave
    none, fewer than two frames left, missing or wrong intrinsics, and depth that is not 16-bit or not of one size.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "no_folder")
    chosen = _chosen(_listed(folder), folder, start, stride, max_frames)
    faults = {name: _fault(files) for name, files in chosen.items()}
    skipped = {name: fault for name, fault in faults.items() if fault}
    usable = {name: files for name, files in chosen.items() if not faults[name]}
    check_count(usable, skipped, folder)
    size = _depth_size(usable, folder)
    for path in {intrinsics_path(files, folder) for files in usable.values()}:
        _check_intrinsics(intrinsics(path), size, path)
    return usable, skipped


def check_count(left: Collection[str], skipped: dict[str, str], folder: Path) -> None:
    """Raises InputError where fewer than two frames are left of those chosen in a folder."""
    if len(left) < 2:
        because = f" ({described(skipped)})" if skipped else ""
        raise InputError(
            f"{len(left)} of the chosen frames in {folder} can be used, and at least 2 are needed{because}",
            "few_frames_in_folder",
        )


def intrinsics_path(files: FrameFiles, folder: Path) -> Path:
    """Where the intrinsics of a frame's depth map are. Raises InputError where that is nowhere."""
    path = files.get("intrinsic", folder / SHARED_INTRINSICS)
    if not path.is_file():
        raise InputError(f"there is no {SHARED_INTRINSICS} in {folder}", "write_matrix")
    return path


def intrinsics(path: Path) -> torch.Tensor:
    """(3, 3) float64 of a file with 3 x 3 numbers, or 4 x 4 as ScanNet has them. Raises InputError for others."""
    matrix = _matrix(path)
    if matrix is None:
        raise InputError(f"{path} does not hold 3 x 3 or 4 x 4 numbers", "write_matrix")
    return matrix[:3, :3].clone()


def pose(path: Path) -> torch.Tensor | str:
    """(4, 4) float64 of a file with a rigid pose, or what is wrong with it.

    A rotation that was rounded to few digits in its text is replaced by the nearest one.
    """
    matrix = _matrix(path)
    if matrix is None or matrix.shape != (4, 4):
        return "unreadable pose"
    if not torch.isfinite(matrix).all():
        return "pose not finite"  # what ScanNet has where its tracking was lost
    rotation, identity = matrix[:3, :3], torch.eye(4, dtype=torch.float64)
    error = (rotation @ rotation.mT - identity[:3, :3]).abs().max()
    if error > RIGID or torch.linalg.det(rotation) < 0 or not torch.equal(matrix[3], identity[3]):
        return "pose not rigid"
    if error > EXACT:
        matrix[:3, :3] = nearest_rotation(rotation)
    return matrix


def _matrix(path: Path) -> torch.Tensor | None:
    """(3, 3) or (4, 4) float64 of a text file with 9 or 16 numbers; None for anything else."""
    try:
        numbers = np.array(path.read_text(encoding="utf-8-sig").split(), dtype=np.float64)
    except ValueError:
        return None
    side = {9: 3, 16: 4}.get(numbers.size)
    return None if side is None else torch.from_numpy(numbers.reshape(side, side))


def _listed(folder: Path) -> dict[str, FrameFiles]:
    """The files of all frames that have any of those needed, in numeric order of their names."""
    frames: dict[str, FrameFiles] = {}
    for part, endings in (NEEDED | OPTIONAL).items():
        for path in sorted((folder / part).glob("*")):
            name = path.stem
            if name.isdecimal() and path.suffix.lower() in endings and (part in NEEDED or name in frames):
                frames.setdefault(name, {})[part] = path
    return dict(sorted(frames.items(), key=lambda frame: (int(frame[0]), frame[0])))


def _chosen(
    listed: dict[str, FrameFiles], folder: Path, start: int, stride: int, max_frames: int
) -> dict[str, FrameFiles]:
    if start < 0 or stride < 1 or max_frames < 0:
        raise InputError(
            f"start must be 0 or more, stride 1 or more and max_frames 0 (all) or more, not {start}, {stride} and "
            f"{max_frames}"
        )
    if not listed:
        raise InputError(
            f"there are no frames in {folder}: it needs color/N.jpg, depth/N.png, pose/N.txt and {SHARED_INTRINSICS}, "
            "with numbers for N"
        )
    names = list(listed)[start::stride][: max_frames or None]
    if not names:
        raise InputError(f"start is {start}, and there are {len(listed)} frames in {folder}", "lower_start")
    return {name: listed[name] for name in names}


def _fault(files: FrameFiles) -> str | None:
    """Why a frame cannot be used, as far as that can be told without reading its pictures."""
    for part, missing in (("pose", "no pose"), ("depth", "no depth"), ("color", "no picture")):
        if part not in files:
            return missing
    if isinstance(fault := pose(files["pose"]), str):
        return fault
    return None if _header(files["depth"]) else "unreadable depth"


def _header(path: Path) -> tuple[str, tuple[int, int]] | None:
    """Pillow's mode and (width, height) of a picture; None for a file that is none."""
    try:
        with Image.open(path) as picture:
            return picture.mode, picture.size
    except OSError:
        return None


def _depth_size(usable: dict[str, FrameFiles], folder: Path) -> tuple[int, int]:
    """(width, height) of all depth maps. Raises InputError where they are not 16-bit, or of different sizes."""
    sizes: dict[tuple[int, int], str] = {}
    for name, files in usable.items():
        mode, size = _header(files["depth"])
        if not mode.startswith("I"):
            raise InputError(
                f"the depth of frame {name} in {folder} is not a 16-bit grey picture (Pillow calls it {mode})",
                "sixteen_bits",
            )
        sizes.setdefault(size, name)
    if len(sizes) > 1:
        one, other, *_ = (f"{width} x {height} (frame {name})" for (width, height), name in sizes.items())
        raise InputError(f"the depth maps in {folder} are {one} and {other}", "one_size")
    return next(iter(sizes))


def _check_intrinsics(matrix: torch.Tensor, size: tuple[int, int], path: Path) -> None:
    """Raises InputError for a matrix that is no camera's, or not that of depth maps of this (width, height)."""
    if not torch.isfinite(matrix).all():
        raise InputError(f"{path} holds NaN or infinite numbers", "write_matrix")
    (fx, _, cx), (shear, fy, cy), last = matrix.tolist()
    width, height = size
    near_middle = width / 4 <= cx <= width * 3 / 4 and height / 4 <= cy <= height * 3 / 4
    shortest, longest = (share * width for share in FOCAL_LENGTHS)
    plausible = shortest <= fx <= longest and shortest <= fy <= longest and shear == 0 and last == [0, 0, 1]
    if not (near_middle and plausible):
        raise InputError(
            f"{path} does not fit depth maps of {width} x {height} pixels: its focal lengths are {fx:g} and {fy:g}, "
            f"its principal point is {cx:g}, {cy:g}, which should be near {middle(width):g}, {middle(height):g}",
            "write_matrix_at_size",
        )
