"""Poses and intrinsics as files hold them: numbers in text, checked, and made exact where their digits were rounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..grid import middle
from ..input_error import InputError
from .frames import FOCAL_LENGTHS, nearest_rotation

RIGID, EXACT = 1e-3, 1e-4  # how far from orthonormal rotations may be in a file, and how far `Cameras` take them


def numbers_in(path: Path) -> torch.Tensor | None:
    """All numbers of a text file, (n,) float64; None for text that holds anything else, and where there is no file."""
    try:
        return torch.from_numpy(np.array(path.read_text(encoding="utf-8-sig").split(), dtype=np.float64))
    except (ValueError, OSError):
        return None


def square(numbers: torch.Tensor | None) -> torch.Tensor | None:
    """(3, 3) or (4, 4) of 9 or 16 numbers; None for anything else."""
    side = None if numbers is None else {9: 3, 16: 4}.get(numbers.numel())
    return None if side is None or numbers is None else numbers.reshape(side, side)


def intrinsics_in(path: Path) -> torch.Tensor:
    """(3, 3) float64 of a file with 3 x 3 numbers, or 4 x 4 as ScanNet has them. Raises InputError for others."""
    matrix = square(numbers_in(path))
    if matrix is None:
        raise InputError(f"{path} does not hold 3 x 3 or 4 x 4 numbers", "write_matrix")
    return matrix[:3, :3].clone()


def pose_in(path: Path) -> torch.Tensor | str:
    """`rigid` of the numbers in a file."""
    return rigid(square(numbers_in(path)))


def rigid(matrix: torch.Tensor | None) -> torch.Tensor | str:
    """A (4, 4) float64 pose if it is rigid, else what is wrong with it.

    A rotation that was rounded to few digits in its text is replaced by the nearest one.
    """
    if matrix is None or matrix.shape != (4, 4):
        return "unreadable pose"
    if not torch.isfinite(matrix).all():
        return "pose not finite"  # what ScanNet has where its tracking was lost
    rotation, identity = matrix[:3, :3], torch.eye(4, dtype=torch.float64)
    error = (rotation @ rotation.mT - identity[:3, :3]).abs().max()
    if error > RIGID or torch.linalg.det(rotation) < 0 or not torch.equal(matrix[3], identity[3]):
        return "pose not rigid"
    if error > EXACT:
        matrix = matrix.clone()
        matrix[:3, :3] = nearest_rotation(rotation)
    return matrix


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> torch.Tensor:
    """(3, 3) float64 of a quaternion of any length but 0, its real part last."""
    x, y, z, w = torch.nn.functional.normalize(torch.tensor([x, y, z, w], dtype=torch.float64), dim=0).tolist()
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def pinhole(fx: float, fy: float, cx: float, cy: float) -> torch.Tensor:
    """(3, 3) float64."""
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def check_intrinsics(matrix: torch.Tensor, size: Sequence[int], path: Path) -> None:
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
