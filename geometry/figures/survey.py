"""What views see: how often each direction of the sphere, how much neighbours share, and what a frustum covers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..grid import edge_planes, grid_from_world
from ..neighbours import ring_neighbours
from ..overlap import CORNERS, shares
from ..panorama.equirect import equirect_directions

EDGE_STEPS = 48  # points per edge of an outline
SPIRAL = 2**13  # directions that stand for equal areas of the sphere
BLOCK = 2**20  # products held at once: bounds memory, and such blocks stay in the processor's cache


def view_counts(cameras: Cameras, width: int) -> torch.Tensor:
    """(width / 2, width) float32: how many views hold each direction of a panorama. Edges are antialiased."""
    directions = equirect_directions(width, width // 2).flatten(0, 1).float()
    planes, counts = edge_planes(cameras).float(), torch.zeros(len(directions))
    for some in planes.split(max(1, BLOCK // (4 * len(directions)))):
        # Edge distances in pixels of the panorama (see lattice.py).
        distance = (some @ directions.mT).amin(1).mul_(width / (2 * math.pi))
        counts += distance.add_(0.5).clamp_(0, 1).sum(0)
    return counts.view(width // 2, width)


def sphere_share(cameras: Cameras) -> float:
    """The share of the sphere's area that any view holds, to about 0.1 %: counted at points on a spiral."""
    number = torch.arange(SPIRAL, dtype=torch.float64)
    height = 1 - (2 * number + 1) / SPIRAL
    level, turn = (1 - height**2).sqrt(), math.pi * (3 - math.sqrt(5)) * number
    points = torch.stack((level * turn.sin(), height, level * turn.cos())).float()
    planes, seen = edge_planes(cameras).float(), torch.zeros(SPIRAL, dtype=torch.bool)
    for some in planes.split(max(1, BLOCK // (4 * SPIRAL))):
        seen |= ((some @ points).amin(1) > 0).any(0)
    return seen.double().mean().item()


def overlaps(cameras: Cameras) -> list[tuple[int, int, float]]:
    """(view, next view, share of the first one's pixels that the next one sees) round each ring of views in one point.

    Cameras without rings are taken as one row in their order.
    """
    row = [(view, view + 1) for view in range(cameras.views - 1)]
    rings = [(view, beside[1]) for view, beside in enumerate(ring_neighbours(cameras)) if beside]
    pairs = rings if cameras.rings else row
    return [(*pair, share) for pair, share in zip(pairs, shares(cameras, pairs), strict=True)]


def outlines(cameras: Cameras) -> torch.Tensor:
    """(V, 4 * EDGE_STEPS, 3) unit world directions along the views' edges, evenly spaced on each, going round."""
    start = F.normalize(CORNERS @ torch.linalg.inv(grid_from_world(cameras)).mT, dim=-1)
    end = start.roll(-1, dims=1)
    angle = torch.atan2(torch.linalg.cross(start, end).norm(dim=-1), (start * end).sum(-1))[..., None, None]
    part = torch.arange(EDGE_STEPS, dtype=torch.float64)[:, None] / EDGE_STEPS
    arcs = ((1 - part) * angle).sin() * start[:, :, None] + (part * angle).sin() * end[:, :, None]
    return (arcs / angle.sin()).flatten(1, 2)


def plan_outlines(cameras: Cameras) -> list[torch.Tensor]:
    """Per view an (n, 2) polygon (right, forward): its frustum of length 1 as seen from above, the camera at 0.

    A level view gives a sector, one that looks up a shorter one, one that looks straight up a patch around the camera.
    A frustum is an intersection of half spaces with a ball, so what is seen of it from above is convex.
    """
    angle = torch.arange(360, dtype=torch.float64).deg2rad()
    horizon = torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), dim=-1)
    across = torch.stack((angle.sin(), angle.cos()))
    polygons = []
    for edges, planes in zip(outlines(cameras), edge_planes(cameras), strict=True):
        points = torch.cat((edges, horizon[(horizon @ planes.mT >= 0).all(-1)], horizon.new_zeros(1, 3)))[:, [0, 2]]
        # The corners of a convex hull: in each direction the point that lies farthest.
        polygons.append(points[torch.unique_consecutive((points @ across).argmax(0))])
    return polygons
