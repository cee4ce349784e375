"""How much views in one point see of each other: areas of convex polygons."""

from __future__ import annotations

import torch

from .cameras import Cameras
from .grid import edge_planes, grid_from_world

# A view's corners in grid coordinates, in the order in which its outline goes round.
CORNERS = torch.tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=torch.float64)


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
