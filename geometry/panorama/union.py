"""How deep directions lie inside the union of views: their distance to where no view looks.

One view's edge distance (see lattice.py) says nothing of that where views meet or overlap little: it is small along
an inner edge. Here the outer edges are found, and the distance to these.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..grid import EDGE, edge_planes, grid_from_world
from ..overlap import CORNERS
from ..threads import SERIAL
from .equirect import equirect_directions, padded_panoramas, read_panoramas

NUDGE = 10 * EDGE  # how far outside an edge is asked whether another view goes on; radians
LEAST = 1e-3  # of an edge: shorter parts than this are what rounding leaves where views meet
LATTICE = 720  # width of the panorama on which distances are computed
CLOSE = math.sqrt(0.5) * 2 * math.pi / LATTICE  # radians from a direction to the lattice's nearest one, at most
ROUNDING = 1e-3  # more than float32 takes away from a sine near 0 that is made of a cosine


class UnionDepth:
    """A lower bound of the sine of the angle between a panorama's pixels and the boundary of all views together.

    It lies at most CLOSE + ROUNDING below the sine up to 90 degrees, above which that counts as 1: views without a
    boundary are nearly 1 deep everywhere. It is 0 or less on the boundary, grows again outside, and is continuous over
    the whole sphere.
    """

    def __init__(self, cameras: Cameras, width: int, device: torch.device) -> None:
        """For panoramas `width` wide on a device."""
        arcs, bands = union_boundary(cameras), []
        # Five vectors are multiplied by each: pieces that wake no thread.
        for directions in equirect_directions(LATTICE, LATTICE // 2).flatten(0, 1).float().split(SERIAL // 5):
            cosines = [_cosine_to_arc(directions.mT, *ends) for ends in arcs]
            bands.append(reduce(torch.maximum, cosines, torch.zeros(len(directions))))
        cosine = torch.cat(bands)
        sine = (1 - cosine.clamp_max(1).square()).sqrt()
        # A sine changes by at most one per radian: as much too large can it be where it is read between the points.
        lattice = (sine - CLOSE - ROUNDING).view(1, 1, LATTICE // 2, LATTICE)
        self._lattice = padded_panoramas(lattice.to(device))
        self._width = width

    def read(self, rows: slice, columns: slice) -> torch.Tensor:
        """(rows, columns) float32 for a part of the panorama."""
        return read_panoramas(self._lattice, self._width, rows, columns)[0]


def union_boundary(cameras: Cameras) -> torch.Tensor:
    """(n, 2, 3) float64 unit world directions: both ends of each great arc of the boundary of all views together."""
    starts = F.normalize(CORNERS @ torch.linalg.inv(grid_from_world(cameras)).mT, dim=-1)
    planes = edge_planes(cameras).flatten(0, 1)
    arcs = []
    for start in starts:
        end = start.roll(-1, dims=0)
        outwards = NUDGE * F.normalize(torch.linalg.cross(end, start), dim=-1)
        distances = (((at + outwards) @ planes.mT).unflatten(-1, (-1, 4)) + EDGE for at in (start, end))
        edge, part = _left(*_held(*distances))
        arcs.append(torch.lerp(start[edge][:, None], end[edge][:, None], part[..., None]))
    return F.normalize(torch.cat(arcs), dim=-1)


def _held(first: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What views hold of ways from 0 to 1: (ways, views) where that begins and ends, 1 and 1 where it is nothing.

    first, last: (ways, views, 4) distances from the views' edge planes at 0 and at 1. They change evenly in between, so
    a view holds one interval.
    """
    crossing = first / (first - last)
    low, high = torch.where(first < 0, crossing, 0).amax(-1), torch.where(last < 0, crossing, 1).amin(-1)
    nothing = ((first < 0) & (last < 0)).any(-1) | (low >= high)
    return low.masked_fill(nothing, 1), high.masked_fill(nothing, 1)


def _left(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What (ways, views) intervals leave of ways from 0 to 1: (n,) numbers of ways and (n, 2) begins and ends."""
    order = low.argsort(-1)
    ends = F.pad(low.gather(-1, order), (0, 1), value=1.0)
    begins = F.pad(high.gather(-1, order).cummax(-1).values, (1, 0), value=0.0)
    gaps = ends - begins > LEAST
    return gaps.nonzero()[:, 0], torch.stack((begins[gaps], ends[gaps]), dim=-1)


def _cosine_to_arc(directions: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """(n,) cosines of the angles between (3, n) unit directions and a great arc that is less than half a turn long."""
    normal = F.normalize(torch.linalg.cross(start, end), dim=0)
    to_end, to_start = torch.linalg.cross(normal, start), torch.linalg.cross(end, normal)
    vectors = torch.stack((start, end, normal, to_end, to_start)).to(directions)
    at_start, at_end, across, past_start, before_end = vectors @ directions
    beside = torch.minimum(past_start, before_end) >= 0
    return torch.where(beside, across.square_().neg_().add_(1).sqrt_(), torch.maximum(at_start, at_end))
