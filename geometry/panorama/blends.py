"""How overlapping views are joined: one function per blend, all of which yield bands of a panorama's rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ..cameras import Cameras
from .equirect import equirect_angles
from .lattice import Projection, runs
from .multiband import Joined, multiband

CELL = 32  # pixels a side: for squares of this size it is known beforehand which views may look there
BAND = 160  # rows joined at once on a CPU, a multiple of CELL: larger leave its caches, smaller wake its threads often
WIDE = 2048  # columns of a view joined at once: near a pole views reach all of them
DEVICE_BAND = 2**21  # pixels of the rows joined at once elsewhere, where few large steps are faster; bounds memory

# How much of a view shows over those before it, made of its edge distances and, of those before it, the largest edge
# distances and the sum of weights, to which it may add; all (rows, columns).
Share = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _feathered(distance: torch.Tensor, largest: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weight = distance.clamp_min(0)
    return weight.div_(weights.add_(weight))


def _nearest(distance: torch.Tensor, largest: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.gt(distance, largest, out=torch.empty_like(distance))


def _single_band(share: Share, views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    """Lays view over view, each by its share, in memory that the next band of rows takes over."""
    projection = Projection.of(cameras, *equirect_angles(width, width // 2), views.device)
    high = BAND if views.device.type == "cpu" else max(BAND, DEVICE_BAND // width // CELL * CELL)
    memory, nothing = views.new_empty(views.shape[1] + 2, min(high, width // 2), width), views.new_zeros(())
    for rows, patches in _patches(cameras, width, high):
        band = memory[:, : rows.stop - rows.start]
        if not patches:
            band = nothing.expand_as(band)
            yield rows, band[:-2], band[-2]
            continue
        planes, largest, weights = band[:-2].zero_(), band[-2].zero_(), band[-1].fill_(1e-30)
        for view, columns in patches:
            distance, below = projection.distance(view, rows, columns), largest[:, columns]
            shown = share(distance, below, weights[:, columns])
            planes[..., columns].lerp_(projection.sample(views[view], view, rows, columns), shown)
            torch.maximum(below, distance, out=below)
        yield rows, planes, largest


def _patches(cameras: Cameras, width: int, high: int) -> Iterator[tuple[slice, list[tuple[int, slice]]]]:
    """Yields bands of `high` rows, and which views may look there in which columns."""
    longitude, latitude = (cell_middles(angles, CELL) for angles in equirect_angles(width, width // 2))
    cells = Projection.of(cameras, longitude, latitude, "cpu")
    reached = cells.reached(CELL * math.sqrt(0.5) * 2 * math.pi / width)
    for top, marks in zip(range(0, width // 2, high), reached.split(high // CELL, dim=1), strict=True):
        patches = [
            (view, slice(left, min(left + WIDE, run.stop * CELL)))  # may end beyond the width, as slices can
            for view, marked in enumerate(marks.any(1))
            for run in runs(marked)
            for left in range(run.start * CELL, run.stop * CELL, WIDE)
        ]
        yield slice(top, min(top + high, width // 2)), patches


def cell_middles(angles: torch.Tensor, size: int) -> torch.Tensor:
    """The angle in the middle of every `size` pixels; the last cell may be cut off."""
    return angles[torch.arange(0, len(angles), size).add(size // 2).clamp_max(len(angles) - 1)]


BLENDS: dict[str, Callable[[torch.Tensor, Cameras, int], Joined]] = {
    "feather": partial(_single_band, _feathered),
    "multiband": multiband,
    "nearest": partial(_single_band, _nearest),
}
