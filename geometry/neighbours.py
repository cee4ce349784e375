"""Which views of a panorama attend to which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .overlap import shares

if TYPE_CHECKING:
    from .panorama_views import PanoramaViews

LEAST_SHARE = 0.05  # views of different rings are neighbours if each sees more than this of the other's pixels


def ring_neighbours(cameras: PanoramaViews) -> list[list[int]]:
    """For each view the two beside it in its ring, cyclic; the other one twice in a ring of two, as published.

    None for the views of cameras without rings.
    """
    if not cameras.rings:
        return [[] for _ in range(cameras.views)]
    neighbours, first = [], 0
    for size in cameras.rings:
        for view in range(size):
            neighbours.append([first + (view - 1) % size, first + (view + 1) % size] if size > 1 else [])
        first += size
    return neighbours


def neighbours(cameras: PanoramaViews) -> list[list[int]]:
    """For each view those beside it in its ring, and those of other rings that overlap it by more than 5 %, ascending.

    The overlap of two views is the smaller share of either's pixels that the other one sees. A ring alone has the
    published neighbours at any field of view; of two views the other one counts twice.
    """
    found = ring_neighbours(cameras)
    for view, other in _overlapping_rings(cameras):
        found[view].append(other)
    if cameras.views == 2:
        return [others and [1 - view, 1 - view] for view, others in enumerate(found)]
    # Beside others, the second view of a ring of two is one neighbour like any other.
    return [list(dict.fromkeys(others)) if len(others) > 2 else others for others in found]


def _overlapping_rings(cameras: PanoramaViews) -> list[tuple[int, int]]:
    """The directed pairs of views of different rings that overlap by more than 5 %."""
    ring = torch.repeat_interleave(torch.tensor(cameras.rings, dtype=torch.int64))
    pairs = [(view, other) for view, other in (ring[:, None] != ring).nonzero().tolist()]
    share = dict(zip(pairs, shares(cameras, pairs), strict=True))
    return [(a, b) for a, b in pairs if min(share[a, b], share[b, a]) > LEAST_SHARE]


def views_apart(cameras: PanoramaViews) -> list[int]:
    """The views that no chain of overlapping neighbours joins with view 0: they would be sampled without knowing it."""
    beside = neighbours(cameras)
    pairs = [(view, other) for view, others in enumerate(beside) for other in others]
    overlapping = {pair for pair, share in zip(pairs, shares(cameras, pairs), strict=True) if share > 0}
    joined, new = {0}, [0]
    while new:
        view = new.pop()
        reached = {other for other in beside[view] if (view, other) in overlapping} - joined
        joined |= reached
        new += reached
    return [view for view in range(cameras.views) if view not in joined]
