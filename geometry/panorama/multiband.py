"""Multiband blending: fine detail is mixed over narrow seams, colours over wide ones.

Burt and Adelson, A multiresolution spline with application to image mosaics (1983), on the panorama's pixel lattice.
The weights of a level are smooth functions on the sphere, as wide as the level's pixels ask, in place of shrunk masks.
The low-pass pictures of a level are read from halved views, each only where its view has a weight: so the cost follows
the panorama's area, however far the views reach over each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch

from ..cameras import Cameras
from ..grid import middle
from ..pictures import halved
from ..threads import SERIAL, threads_wait
from .equirect import equirect_angles
from .lattice import Projection, half_reach, patches, runs

SEAM = 6  # half width of a level's seam in pixels of that level, at least
OVERHANG = 1.5  # how far views count beyond their outer edges in pixels of the level: `_enlarged` reads no empty pixel
MARGIN = 2  # pixels by which a lattice runs on past the wrap and over the poles: one more than `_enlarged` reads
CELL = 16  # pixels a side: for squares of this size it is known beforehand which views may have a weight in them
BAND = 64  # rows blended at once, a multiple of CELL: bounds memory, and blocks this high stay in the processor's cache
MOST_COLUMNS = 2**20  # of a band: all of them

# Rows and columns of parts that together are the panorama, from the top on, with colours (C, rows, columns) and the
# largest edge distance of all views (rows, columns). That is positive where a view looks; elsewhere it is black.
# Good until the next part is asked for.
Joined = Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]


def multiband(views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    """Blends (V, C, h, w) views tile by tile.

    The lattices run on past the wrap and over the poles: both are places like any other. A view is continued beyond its
    edges by its border pixels, so nothing dark comes in from where there is no view.
    """
    finest, *others = _levels(views, cameras, width)
    size, coarser, blended = _tile_size(views), None, None
    for level in reversed(others):
        finer = views.new_empty(views.shape[1], level.lattice.level.shape[0], level.lattice.across.shape[-1])
        for rows, columns, planes, _ in _tiles(level, size, coarser, blended):
            finer[:, rows, columns] = planes
        coarser, blended = level, finer
    least, most = views.aminmax()  # details may overshoot
    for rows, columns, planes, largest in _tiles(finest, size, coarser, blended):
        rows, inner_rows = _without_margin(rows, width // 2)
        columns, inner_columns = _without_margin(columns, width)
        if rows.start < rows.stop and columns.start < columns.stop:
            largest = largest[inner_rows, inner_columns]
            planes = planes[:, inner_rows, inner_columns].clamp_(least, most).mul_((largest > 0).to(planes))
            yield rows, columns, planes, largest


def _tile_size(views: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of a tile: the quickest, or, where torch's threads would wait, so few that none is woken."""
    if views.device.type == "cpu" and threads_wait():
        return CELL, max(1, SERIAL // (views.shape[1] * (2 * CELL + 2) ** 2)) * CELL
    return BAND, MOST_COLUMNS


def _without_margin(part: slice, length: int) -> tuple[slice, slice]:
    """Of a part of a lattice what is on the panorama: in the panorama's rows or columns, and in the part's own."""
    first, last = max(part.start, MARGIN), min(part.stop, MARGIN + length)
    return slice(first - MARGIN, last - MARGIN), slice(first - part.start, last - part.start)


@dataclass(frozen=True, eq=False)
class Level:
    """A lattice, whose pixels are four of the next finer level's each, and the views' pictures as seen from it."""

    pictures: list[torch.Tensor]  # per view (C, h, w), halved so that a bilinear read passes over no pixel
    lattice: Projection
    points: Projection | None  # half as far apart, from one before the lattice on; None where all views are coarser
    cells: Projection  # the middles of CELL x CELL pixels, on the CPU
    pixel: float  # radians
    seam: float  # edge distance over which a view's weight falls to zero

    def low_pass(self, view: int, rows: slice, columns: slice) -> torch.Tensor:
        """(C, rows, columns) of a view's picture, continued by its border pixels and averaged over pixels."""
        if self.points is None:
            return self.lattice.sample(self.pictures[view], view, rows, columns)
        fine = [slice(2 * side.start, 2 * side.stop + 2) for side in (rows, columns)]
        return _reduced(self.points.sample(self.pictures[view], view, *fine))

    def threshold(self, largest: torch.Tensor) -> torch.Tensor:
        """(...) the edge distances above which a view counts, where the largest of all views are (...) `largest`.

        It is `seam` smaller, but does not leave the view, beyond which there is only its border; save where all views
        end, and the nearest must count for OVERHANG.
        """
        overhang = OVERHANG * self.pixel
        return torch.maximum(largest - self.seam, ((largest - overhang) / 2).clamp(-overhang, 0))

    def marked(self, rows: slice) -> torch.Tensor:
        """(V, columns of cells) bool: whether a view may count in a cell of these rows, which begin with one."""
        cells, half = slice(rows.start // CELL, math.ceil(rows.stop / CELL)), CELL / 2 * self.pixel
        distances = [self.cells.distance(view, cells, slice(None)) for view in range(len(self.pictures))]
        # Within a cell, which is narrow at the poles, edge distances change by one per radian at most.
        radius = half * (1 + (self.cells.level[cells].abs() + half).clamp_max(1) ** 2).sqrt()
        threshold = self.threshold(reduce(torch.maximum, distances) - radius)
        return torch.stack([(distance + radius > threshold).any(0) for distance in distances])


def _levels(views: torch.Tensor, cameras: Cameras, width: int) -> list[Level]:
    """The levels from the panorama's to the coarsest, whose seams are as wide as leaves the views' middles alone."""
    pixel, widest = 2 * math.pi / width, half_reach(cameras)
    per_pixel = cameras.intrinsics[:, 0, 0] * views.shape[-1] / cameras.width * pixel  # view pixels per pixel
    coarsest = max(0, math.floor(math.log2(widest / (SEAM * pixel))))
    pyramid, levels = [views], []
    for level in range(coarsest + 1):
        size = 2**level
        halvings = (torch.log2(per_pixel * size) - 1 - 1e-6).ceil().clamp_min(0).int().tolist()
        while len(pyramid) <= max(halvings):
            pyramid.append(halved(pyramid[-1], 1))
        averaged = level > 0 and per_pixel.max().item() * size > 1
        levels.append(
            Level(
                pictures=[pyramid[halving][view] for view, halving in enumerate(halvings)],
                lattice=_lattice(cameras, width, level, size, 0, views.device),
                points=_lattice(cameras, width, level, size // 2, size // 2, views.device) if averaged else None,
                cells=_lattice(cameras, width, level, size * CELL, 0, "cpu"),
                pixel=pixel * size,
                seam=widest * size / 2**coarsest,
            )
        )
    return levels


def _lattice(cameras: Cameras, width: int, level: int, size: int, more: int, device) -> Projection:
    """The cameras on the middles of squares that tile a level and its margin, and `more` on every side of that.

    `size`, the squares' side, and `more` are in the panorama's pixels. The last squares may reach farther.
    """
    axes = []
    for angles, direction in zip(equirect_angles(width, width // 2), (1, -1), strict=True):
        margin, whole = MARGIN * 2**level + more, 2 ** (level + 1)  # the next level's pixels are whole
        end = math.ceil(len(angles) / whole) * whole + margin
        middles = torch.arange(-margin, end, size, dtype=torch.float64) + middle(size)
        axes.append(angles[0] + direction * 2 * math.pi / width * middles)
    longitude, latitude = axes
    return Projection.of(cameras, longitude, latitude, device)


def _tiles(level: Level, size: tuple[int, int], coarser: Level | None, blended: torch.Tensor | None) -> Joined:
    """The blend of a level and its largest edge distances.

    blended: the blend (C, rows, columns) of the coarser level. What it has more than a view does there is enlarged and
        added to the view before it is weighed: that is the published sum of the coarser blend and of blended details.
    """
    height, width = level.lattice.level.shape[0], level.lattice.across.shape[-1]
    high, wide = size
    for top in range(0, height, high):
        rows = slice(top, min(top + high, height))
        found = [(view, run) for view, marked in enumerate(level.marked(rows)) for run in runs(marked)]
        for left in range(0, width, wide):
            columns = slice(left, min(left + wide, width))
            parts = patches(found, CELL, columns)
            yield rows, columns, *_blended(level, rows, columns, parts, coarser, blended)


def _blended(
    level: Level,
    rows: slice,
    columns: slice,
    parts: list[tuple[int, slice]],
    coarser: Level | None,
    blended: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, rows, columns) the blend of a tile of a level, and (rows, columns) its largest edge distances.

    parts: the views that may count there, and in which columns.
    """
    total = level.pictures[0].new_zeros(len(level.pictures[0]), rows.stop - rows.start, columns.stop - columns.start)
    largest, weights = torch.full_like(total[0], -1), torch.full_like(total[0], 1e-30)
    inside = [slice(part.start - columns.start, part.stop - columns.start) for _, part in parts]
    distances = [level.lattice.distance(view, rows, part) for view, part in parts]
    for own, distance in zip(inside, distances, strict=True):
        largest[:, own] = torch.maximum(largest[:, own], distance)
    threshold = level.threshold(largest)
    for (view, part), own, distance in zip(parts, inside, distances, strict=True):
        picture = level.low_pass(view, rows, part)
        if coarser is not None and blended is not None:
            below = [slice(side.start // 2, side.stop // 2 + MARGIN) for side in (rows, part)]
            picture += _enlarged(blended[(slice(None), *below)] - coarser.low_pass(view, *below))
        weight = distance.sub_(threshold[:, own]).clamp_min_(0)
        total[..., own] += picture.mul_(weight)
        weights[:, own] += weight
    return total.div_(weights), largest


def _reduced(picture: torch.Tensor) -> torch.Tensor:
    """(C, 2 h + 2, 2 w + 2) to (C, h, w), averaged with weights of 1, 3, 3 and 1 along both axes."""
    for axis in (1, 2):
        first, second, third, fourth = picture.unfold(axis, 4, 2).unbind(-1)
        picture = (first + fourth).lerp_(second + third, 0.75)
    return picture.mul_(0.25)


def _enlarged(picture: torch.Tensor) -> torch.Tensor:
    """(C, h + 2, w + 2) to (C, 2 h, 2 w), bilinear, without the outermost pixels; faster on CPUs than interpolate."""
    for axis in (1, 2):
        before, middle, after = picture.unfold(axis, 3, 1).unbind(-1)
        pairs = middle.new_empty(*middle.shape[: axis + 1], 2, *middle.shape[axis + 1 :])
        pairs.select(axis + 1, 0).copy_(middle.lerp(before, 0.25))
        pairs.select(axis + 1, 1).copy_(middle.lerp(after, 0.25))
        picture = pairs.flatten(axis, axis + 1)
    return picture
