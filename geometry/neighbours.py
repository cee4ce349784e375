"""Which views of a panorama look at the same things: how much they see of each other, and who attends to whom."""

from __future__ import annotations

import torch

from .cameras import Cameras
from .equirect import grid_from_world
from .projection import edge_planes

# A view's corners in grid coordinates, in the order in which its outline goes round.
CORNERS = torch.tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=torch.float64)
LEAST_SHARE = 0.05  # views of different rings are neighbours if either sees more than this of the other's pixels


def ring_neighbours(cameras: Cameras) -> list[list[int]]:
    """For each view the two beside it in its ring, cyclic; the other one twice in a ring of two, as published."""
    neighbours, first = [], 0
    for size in cameras.rings:
        for view in range(size):
            neighbours.append([first + (view - 1) % size, first + (view + 1) % size] if size > 1 else [])
        first += size
    return neighbours


def neighbours(cameras: Cameras) -> list[list[int]]:
    """For each view those beside it in its ring, and those of other rings that overlap it by more than 5 %, ascending.

    The overlap of two views is the smaller share of either's pixels that the other one sees. A ring alone has the
    published neighbours at any field of view; of two views the other one counts twice.
    """
    beside = ring_neighbours(cameras)
    if len(cameras.rings) == 1:
        return beside
    ring = torch.repeat_interleave(torch.tensor(cameras.rings))
    apart = (ring[:, None] != ring).nonzero().tolist()
    share = dict(zip(map(tuple, apart), shares(cameras, apart), strict=True))
    across = [(a, b) for a, b in share if min(share[a, b], share[b, a]) > LEAST_SHARE]
    if cameras.views == 2:
        return [[b, b] for _, b in across]
    for view, other in across:
        beside[view].append(other)
    # Beside others, the second view of a ring of two is one neighbour like any other.
    return [list(dict.fromkeys(views)) if len(views) > 2 else views for views in beside]


def views_alone(cameras: Cameras) -> list[int]:
    """The views that see nothing of any neighbour, in a panorama of more than one view."""
    if cameras.views == 1:
        return []
    beside = neighbours(cameras)
    pairs = [(view, other) for view, others in enumerate(beside) for other in others]
    in_touch = {view for (view, _), share in zip(pairs, shares(cameras, pairs), strict=True) if share > 0}
    return [view for view in range(cameras.views) if view not in in_touch]


def shares(cameras: Cameras, pairs: list[tuple[int, int]]) -> list[float]:
    """For each pair (view, other) of views in one point: the share of the view's pixels that the other one sees."""
    if not pairs:
        return []
    views, others = torch.tensor(pairs).mT
    limits = edge_planes(cameras)[others] @ torch.linalg.inv(grid_from_world(cameras)[views])
    kinds, kind = limits.round(decimals=9).unique(dim=0, return_inverse=True)  # one or two in most rings
    share = [area(_clipped(CORNERS[:, :2].tolist(), planes)) / 4 for planes in kinds.tolist()]
    return [share[number] for number in kind.tolist()]


def _clipped(polygon: list[list[float]], planes: list[list[float]]) -> list[list[float]]:
    """The part of a convex polygon of points (x, y) where a x + b y + c >= 0 for each (a, b, c)."""
    for a, b, c in planes:
        heights = [a * x + b * y + c for x, y in polygon]
        kept = []
        for index, ((x, y), height) in enumerate(zip(polygon, heights, strict=True)):
            (last_x, last_y), last = polygon[index - 1], heights[index - 1]
            if (height >= 0) != (last >= 0):
                part = last / (last - height)
                kept.append([last_x + part * (x - last_x), last_y + part * (y - last_y)])
            if height >= 0:
                kept.append([x, y])
        polygon = kept
    return polygon


def area(polygon: list[list[float]]) -> float:
    """The area of a polygon of points (x, y)."""
    return abs(sum(polygon[i - 1][0] * y - x * polygon[i - 1][1] for i, (x, y) in enumerate(polygon))) / 2
