"""How overlapping views are joined: one function per blend, all of which yield bands of a panorama's rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from .cameras import Cameras
from .equirect import equirect_angles
from .multiband import Joined, multiband
from .projection import Projection, runs

BAND = 96  # rows joined at once: bounds memory, and blocks of this height stay in the processor's cache

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _single_band(weigh: Weigh, views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    """Joins band by band of rows; `weigh` makes a view's weights of its edge distances and the largest of all views."""
    longitude, latitude = equirect_angles(width, width // 2)
    projection = Projection.of(cameras, longitude, latitude, views.device)
    cells = Projection.of(cameras, cell_middles(longitude), cell_middles(latitude), "cpu")
    reached = cells.reached(BAND * math.sqrt(0.5) * 2 * math.pi / width)
    for band, top in enumerate(range(0, width // 2, BAND)):
        rows = slice(top, min(top + BAND, width // 2))
        patches = [
            (view, columns, projection.distance(view, rows, columns))
            for view in range(cameras.views)
            for run in runs(reached[view, band])
            for columns in [slice(run.start * BAND, run.stop * BAND)]  # may end beyond the width, as slices can
        ]
        if not patches:
            continue
        largest = views.new_zeros(rows.stop - rows.start, width)
        for _, columns, distance in patches:
            largest[:, columns] = torch.maximum(largest[:, columns], distance)
        total, weights = views.new_zeros(views.shape[1], *largest.shape), torch.full_like(largest, 1e-30)
        for view, columns, distance in patches:
            weight = weigh(distance, largest[:, columns])
            total[..., columns] += projection.sample(views[view], view, rows, columns).mul_(weight)
            weights[:, columns] += weight
        yield rows, total.div_(weights), largest


def cell_middles(angles: torch.Tensor, size: int = BAND) -> torch.Tensor:
    """The angle in the middle of every `size` pixels; the last cell may be cut off."""
    return angles[torch.arange(0, len(angles), size).add(size // 2).clamp_max(len(angles) - 1)]


BLENDS: dict[str, Callable[[torch.Tensor, Cameras, int], Joined]] = {
    "feather": partial(_single_band, lambda distance, largest: distance.clamp_min(0)),
    "multiband": multiband,
    "nearest": partial(_single_band, lambda distance, largest: ((distance == largest) & (distance > 0)).to(distance)),
}
