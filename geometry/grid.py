"""Where pixels lie: the one place that knows of half a pixel.

Beside pixels, whose centres are integers, this package uses *grid* coordinates, those of torch's grid_sample with
align_corners=False: a picture spans -1..1 from edge to edge in both axes, at every resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from .cameras import Cameras

Number = TypeVar("Number", int, float, torch.Tensor)
EDGE = 1e-6  # more than rounding takes away from a distance of 0: where views only meet, no gap opens


def middle(size: Number) -> Number:
    """The pixel coordinate in the middle of `size` pixels; of a block of pixels, counted from its first one."""
    return (size - 1) / 2


def grid_from_pixels(width: int, height: int) -> torch.Tensor:
    """(3, 3) float64, takes pixels (x, y, 1) to grid coordinates."""
    return torch.tensor(
        [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]], dtype=torch.float64
    )


def grid_from_world(cameras: Cameras) -> torch.Tensor:
    """(V, 3, 3) float64, takes directions to homogeneous grid coordinates of each view; the third is the depth z.

    Nothing here depends on the views' resolution: images of any size are read at the same grid coordinates.
    """
    return grid_from_pixels(cameras.width, cameras.height) @ cameras.intrinsics @ cameras.rotation.mT


def pixel_centres(size: int, part: slice = slice(None)) -> torch.Tensor:
    """(n,) float64 grid coordinates of a picture's `size` columns or rows, or of a part of them."""
    grid = grid_from_pixels(size, size)
    return torch.arange(*part.indices(size), dtype=torch.float64) * grid[0, 0] + grid[0, 2]


def edge_planes(cameras: Cameras) -> torch.Tensor:
    """(V, 4, 3) unit world normals of the planes through the views' edges, pointing inwards.

    A view spans -1..1 on the grid, so its edges are where z + u, z - u, z + v or z - v vanish.
    """
    u, v, z = grid_from_world(cameras).unbind(1)
    return F.normalize(torch.stack((z + u, z - u, z + v, z - v), dim=1), dim=-1)
