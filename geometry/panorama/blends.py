"""How overlapping views are joined: one function per blend, all of which yield parts of a panorama."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..threads import SERIAL, threads_wait
from .equirect import equirect_angles
from .lattice import PER_POINT, Projection, patches, runs
from .multiband import Joined, multiband

CELL = 32  # pixels a side: for squares of this size it is known beforehand which views may look there
TILE = 160, 2048  # rows and columns joined at once on a CPU: larger leave its caches, smaller wake its threads often
DEVICE_TILE = 512, 2048  # elsewhere, where few large steps are faster; bounds memory

# How much of a view shows over those before it, made of its edge distances and, of those before it, the largest edge
# distances and the sum of weights, to which it may add; all (rows, columns).
Share = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _feathered(distance: torch.Tensor, largest: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weight = distance.clamp_min(0)
    return weight.div_(weights.add_(weight))


def _nearest(distance: torch.Tensor, largest: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.gt(distance, largest, out=torch.empty_like(distance))


def _single_band(share: Share, views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    """Lays view over view, each by its share, in memory that the next tile takes over."""
    projection = Projection.of(cameras, *equirect_angles(width, width // 2), views.device)
    high, wide = _tile_size(views.device, views.shape[1])
    memory = views.new_empty(views.shape[1] + 2, min(high, width // 2), min(wide, width))
    for rows, columns, parts in _tiles(cameras, width, high, wide):
        tile = memory[:, : rows.stop - rows.start, : columns.stop - columns.start]
        planes, largest, weights = tile[:-2].zero_(), tile[-2].zero_(), tile[-1].fill_(1e-30)
        for view, part in parts:
            inside = slice(part.start - columns.start, part.stop - columns.start)
            distance, below = projection.distance(view, rows, part), largest[:, inside]
            shown = share(distance, below, weights[:, inside])
            planes[..., inside].lerp_(projection.sample(views[view], view, rows, part), shown)
            torch.maximum(below, distance, out=below)
        yield rows, columns, planes, largest


def _tile_size(device: torch.device, planes: int) -> tuple[int, int]:
    """Rows and columns of a tile: the quickest, or, where torch's threads would wait, so few that none is woken.

    Of so many planes that a cell is too much it stays the quickest.
    """
    if device.type != "cpu":
        return DEVICE_TILE
    cells = SERIAL // (max(PER_POINT, planes) * CELL**2)
    return (CELL, cells * CELL) if cells and threads_wait() else TILE


def _tiles(
    cameras: Cameras, width: int, high: int, wide: int
) -> Iterator[tuple[slice, slice, list[tuple[int, slice]]]]:
    """Yields rows and columns of tiles, and which views may look there in which columns. CELL divides `high`."""
    longitude, latitude = (cell_middles(angles, CELL) for angles in equirect_angles(width, width // 2))
    cells = Projection.of(cameras, longitude, latitude, "cpu")
    reached = cells.reached(CELL * math.sqrt(0.5) * 2 * math.pi / width)
    reached = F.max_pool2d(reached.float(), (high // CELL, 1), ceil_mode=True) > 0
    for row, marks in enumerate(reached.unbind(1)):
        rows = slice(row * high, min((row + 1) * high, width // 2))
        found = [(view, run) for view, marked in enumerate(marks) for run in runs(marked)]
        for left in range(0, width, wide):
            columns = slice(left, min(left + wide, width))
            yield rows, columns, patches(found, CELL, columns)


def cell_middles(angles: torch.Tensor, size: int) -> torch.Tensor:
    """(cells,) the angles in the middle of every `size` of (n,) pixels; the last cell may be cut off."""
    return angles[torch.arange(0, len(angles), size).add(size // 2).clamp_max(len(angles) - 1)]


BLENDS: dict[str, Callable[[torch.Tensor, Cameras, int], Joined]] = {
    "feather": partial(_single_band, _feathered),
    "multiband": multiband,
    "nearest": partial(_single_band, _nearest),
}
