"""A photo read at the pixels of a view that is taken from the same point: exact edges, no aliasing, bounded memory.

How many photo pixels fall on a view pixel changes over the view by the square of the depths' ratio, so the view is cut
into tiles, each of which is read as densely as its photo pixels ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..grid import grid_from_world, pixel_centres
from ..pictures import read_continued
from .equirect import BLOCK

MOST_SAMPLES = 32  # per pixel and axis; only where a photo is about 170 degrees wide would more be read


@dataclass(frozen=True)
class Tile:
    """A part of a view, and how a photo is read there.

    level: how often the photo is halved first. across, down: samples per pixel that are then read and averaged.
    """

    rows: slice
    columns: slice
    level: int
    across: int
    down: int

    @property
    def pixels(self) -> int:
        """How many view pixels it holds."""
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


@dataclass(frozen=True, eq=False)
class Reprojection:
    """A photo as seen from a view.

    photo_from_view: (3, 3) float64, takes (x, y, 1) in grid coordinates of the view to homogeneous ones of the photo.
    photo_size, view_size: (width, height) in pixels.
    nearest: what the third homogeneous coordinate is at least wherever the photo is seen; positive.
    """

    photo_from_view: torch.Tensor
    photo_size: tuple[int, int]
    view_size: tuple[int, int]
    nearest: float

    @staticmethod
    def of(source: Cameras, cameras: Cameras, view: int) -> Reprojection:
        """The photo that the one camera of `source` saw, in a view of `cameras`."""
        photo_from_world = grid_from_world(source)[0]
        photo_from_view = photo_from_world @ torch.linalg.inv(grid_from_world(cameras)[view])
        corners = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [1, 1, 1, 1]], dtype=torch.float64)
        # Depth is the ray's length, at least 1 where the view's depth is 1, times the cosine of its angle.
        nearest = 1 / (torch.linalg.inv(photo_from_world) @ corners).norm(dim=0).max().item()
        sizes = (source.width, source.height), (cameras.width, cameras.height)
        return Reprojection(photo_from_view, *sizes, nearest)

    def tiles(self, rows: slice | None = None, columns: slice | None = None) -> Iterator[Tile]:
        """The tiles of the view, or of a part of it, that may see the photo; each reads about BLOCK samples at most."""
        width, height = self.view_size
        rows, columns = rows or slice(0, height), columns or slice(0, width)
        x = torch.tensor([columns.start, columns.stop], dtype=torch.float64) * (2 / width) - 1
        y = torch.tensor([rows.start, rows.stop], dtype=torch.float64)[:, None] * (2 / height) - 1
        u, v, z = _homogeneous(self.photo_from_view, x, y)
        if min(edge.max() for edge in (z + u, z - u, z + v, z - v, z - self.nearest)) <= 0:
            return  # all four corners, and so the whole tile, lie beyond one of the photo's edges, or behind
        tile = Tile(rows, columns, *self._density(u, v, z))
        if tile.pixels == 1 or tile.pixels * tile.across * tile.down <= BLOCK:
            yield tile
            return
        for upper_or_lower in _halves(rows):
            for left_or_right in _halves(columns):
                yield from self.tiles(upper_or_lower, left_or_right)

    def inside(self, tile: Tile) -> torch.Tensor:
        """(rows, columns) bool on the CPU: whether a pixel's centre lies in front and inside the photo's edges."""
        u, v, z = _homogeneous(self.photo_from_view, *self._centres(tile, 1, 1))
        return (u.abs() < z) & (v.abs() < z)

    def read(self, tile: Tile, photos: torch.Tensor) -> torch.Tensor:
        """(P, C, rows, columns) colours of (P, C, H, W) photos, which were halved `tile.level` times."""
        x, y = (axis.float().to(photos.device) for axis in self._centres(tile, tile.across, tile.down))
        u, v, z = _homogeneous(self.photo_from_view, x, y)
        grid = torch.stack((u, v)).div_(z.clamp_(min=1e-9))
        return F.avg_pool2d(read_continued(photos, grid), (tile.down, tile.across))

    def _centres(self, tile: Tile, across: int, down: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Grid coordinates (columns,) and (rows, 1) of a tile's samples, float64."""
        width, height = self.view_size
        columns = pixel_centres(across * width, slice(across * tile.columns.start, across * tile.columns.stop))
        rows = pixel_centres(down * height, slice(down * tile.rows.start, down * tile.rows.stop))
        return columns, rows[:, None]

    def _density(self, u: torch.Tensor, v: torch.Tensor, z: torch.Tensor) -> tuple[int, int, int]:
        """(level, across, down) for the tile with these homogeneous photo coordinates (2, 2) at its corners.

        A step of one view pixel is (M_j z - (u, v) M_zj) / z^2 photo pixels long, with a numerator that is affine in
        the tile, and a view pixel covers det(M) / z^3 of them. So the corners bound both. The photo is halved until the
        narrow side of what a view pixel covers is 2 to 4 pixels, and read at every pixel that is left.
        """
        matrix, (low, high) = self.photo_from_view, (max(z.min().item(), self.nearest), z.max().item())
        photo_size, view_size = (torch.tensor(size, dtype=torch.float64) for size in (self.photo_size, self.view_size))
        photo_pixels = photo_size[:, None] / view_size  # per view pixel, were both grids one
        steps = matrix[:2, :2, None, None] * z - torch.stack((u, v))[:, None] * matrix[2, :2, None, None]
        across, down = ((steps * photo_pixels[..., None, None]).norm(dim=0).amax((1, 2)) / low**2).tolist()
        area = torch.linalg.det(matrix).item() * photo_pixels.diag().prod().item() / high**3
        longest = max(across, down)
        level = max(0, math.floor(math.log2(area / longest)) - 1, math.ceil(math.log2(longest / MOST_SAMPLES)))
        # Rounding must not turn one sample into four.
        return level, *(max(1, math.ceil(step / 2**level - 1e-6)) for step in (across, down))


def _homogeneous(matrix: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """The three coordinates, spread over x and y, that a (3, 3) matrix takes (x, y, 1) to."""
    return [a * x + (b * y + c) for a, b, c in matrix.tolist()]


def _halves(side: slice) -> list[slice]:
    """A slice in two; one of length 1 as it is."""
    middle = (side.start + side.stop) // 2
    return [half for half in (slice(side.start, middle), slice(middle, side.stop)) if half.start < half.stop]
