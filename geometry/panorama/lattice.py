"""Views in one point as seen from a lattice of longitudes and latitudes: which directions they hold, and their colours.

The weights of stitching come from one number per view and direction, the *edge distance*: the sine of the angle between
the direction and the nearest of the four planes through the view's edges, positive inside the view, negative outside.
It is continuous on the whole sphere and changes by at most one per radian, so weights made of it know neither of the
panorama's wrap nor of its poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..grid import EDGE, edge_planes, grid_from_world
from ..pictures import read_continued

PER_POINT = 4  # numbers of a point in the largest step, if its colours are not more: edge distances


def half_reach(cameras: Cameras) -> float:
    """Half the edge distance in the middle of the narrowest view: what ends there leaves the views' middles alone."""
    middle = F.normalize(torch.linalg.inv(grid_from_world(cameras))[:, None, :, 2], dim=-1)
    return (edge_planes(cameras) * middle).sum(-1).min().item() / 2


def runs(marks: torch.Tensor) -> list[slice]:
    """The runs of true in a row of (n,) marks; one that continues over the row's end comes as two."""
    ends = torch.diff(F.pad(marks.int(), (1, 1))).nonzero().reshape(-1, 2)
    return [slice(first, last) for first, last in ends.tolist()]


def patches(found: list[tuple[int, slice]], cell: int, columns: slice) -> list[tuple[int, slice]]:
    """Which views count in which of a tile's columns. found: views and their runs of cells, `cell` columns each."""
    parts = ((view, max(columns.start, run.start * cell), min(columns.stop, run.stop * cell)) for view, run in found)
    return [(view, slice(first, last)) for view, first, last in parts if first < last]


@dataclass(frozen=True, eq=False)
class Projection:
    """V views on a lattice whose rows and columns may run on over the poles and past the wrap.

    The product of a vector with a direction is across * cos(latitude) + upright. The vectors are, per view, the three
    rows of grid_from_world and the four edge planes. These tables are made in float64 on the CPU and kept as float32 on
    the pictures' device; the products stay within 1e-3 pixels of a view 4096 wide.
    """

    across: torch.Tensor  # (V, 7, 1, columns)
    upright: torch.Tensor  # (V, 7, rows, 1)
    level: torch.Tensor  # (rows, 1), cos(latitude)

    @staticmethod
    def of(cameras: Cameras, longitude: torch.Tensor, latitude: torch.Tensor, device) -> Projection:
        """The cameras on (columns,) longitudes and (rows,) latitudes in radians."""
        vectors = torch.cat((grid_from_world(cameras), edge_planes(cameras)), dim=1)
        x, y, z = vectors[..., None, None].unbind(2)
        across = x * longitude.sin() + z * longitude.cos()
        upright, level = -y * latitude.sin()[:, None], latitude.cos()[:, None]
        upright[:, 3:] += EDGE  # the edge itself counts as inside
        return Projection(*(table.float().to(device) for table in (across, upright, level)))

    def distance(self, view: int, rows: slice, columns: slice) -> torch.Tensor:
        """(rows, columns) float32 edge distances of a view."""
        products = self._products(view, slice(3, 7), rows, columns)
        return torch.minimum(*torch.minimum(products[:2], products[2:]))

    def position(self, view: int, rows: slice, columns: slice) -> torch.Tensor:
        """(2, rows, columns) grid coordinates in a view; what lies behind it comes to lie far outside."""
        products = self._products(view, slice(0, 3), rows, columns)
        return products[:2].div_(products[2].clamp_(min=1e-9))

    def depth(self, view: int, rows: slice, columns: slice) -> torch.Tensor:
        """(rows, columns) cosines of the angles between the directions and a view's axis."""
        return self._products(view, slice(2, 3), rows, columns)[0]

    def sample(self, picture: torch.Tensor, view: int, rows: slice, columns: slice) -> torch.Tensor:
        """(C, rows, columns) colours of a view's (C, h, w) picture, bilinear, continued by its border pixels."""
        return read_continued(picture[None], self.position(view, rows, columns))[0]

    def reached(self, radius: float) -> torch.Tensor:
        """(V, rows, columns) bool: whether a view holds any direction within `radius` radians of the lattice's."""
        rows, columns = slice(0, self.level.shape[0]), slice(0, self.across.shape[-1])
        distances = [self.distance(view, rows, columns) for view in range(self.across.shape[0])]
        return torch.stack(distances) > -math.sin(min(radius, math.pi / 2))

    def _products(self, view: int, vectors: slice, rows: slice, columns: slice) -> torch.Tensor:
        across = self.across[view, vectors, :, columns]
        return (across * self.level[rows]).add_(self.upright[view, vectors, rows])
