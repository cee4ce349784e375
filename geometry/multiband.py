"""Multiband blending: fine detail is mixed over narrow seams, colours over wide ones.

Burt and Adelson, A multiresolution spline with application to image mosaics (1983), on the panorama's pixel lattice.
The weights of a level are smooth functions on the sphere, as wide as the level's pixels ask, in place of shrunk masks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .cameras import Cameras
from .equirect import equirect_angles
from .projection import Projection, half_reach, runs

SEAM = 6  # half width of a level's seam in pixels of that level, at least
OVERHANG = 1.5  # how far a view counts beyond its edges in pixels of the level: then `_enlarged` reads no empty pixel
MARGIN = 4  # pixels of the coarsest level around the panorama and around each view; nothing is felt farther away

Region = tuple[int, slice, slice]  # view, rows and columns in pixels of the coarsest level


def multiband(views: torch.Tensor, cameras: Cameras, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Blends (V, C, h, w) views to planes (C, width / 2, width); with the largest edge distances (width / 2, width).

    The lattice runs on past the wrap and over the poles before the pyramids are made: both are places like any other.
    A view is continued beyond its edges by its border pixels, so nothing dark comes in from where there is no view.
    """
    pixel, widest = 2 * math.pi / width, half_reach(cameras)
    levels = max(0, math.floor(math.log2(widest / (SEAM * pixel))))
    lattices = _lattices(cameras, width, levels, views.device)
    regions = _regions(lattices[-1], pixel * 2**levels)
    largest = [_largest(lattice, regions, 2 ** (levels - level)) for level, lattice in enumerate(lattices)]
    totals = [views.new_zeros(views.shape[1] + 1, *distance.shape) for distance in largest]
    for view, *region in regions:
        picture = lattices[0].sample(views[view], view, *_scaled(region, 2**levels))
        for level, detail in enumerate(_laplacian_pyramid(picture, levels)):
            part = _scaled(region, 2 ** (levels - level))
            seam, overhang = widest / 2 ** (levels - level), OVERHANG * pixel * 2**level
            weight = _weight(lattices[level].distance(view, *part), largest[level][part], seam, overhang)
            totals[level][(slice(None), *part)] += torch.cat((detail * weight, weight[None]))
    margin = MARGIN * 2**levels
    rows, columns = slice(margin, margin + width // 2), slice(margin, margin + width)
    planes = _collapse(totals)[:, rows, columns].clamp_(*views.aminmax())  # details may overshoot
    return planes, largest[0][rows, columns]


def _lattices(cameras: Cameras, width: int, levels: int, device) -> list[Projection]:
    """The cameras on the panorama's lattice with its margin, and on that of each coarser level, of half the size."""
    step = 2**levels

    def extended(angles: torch.Tensor, pixel: float) -> torch.Tensor:
        cells = math.ceil(len(angles) / step) + MARGIN
        return angles[0] + pixel * torch.arange(-MARGIN * step, cells * step, dtype=torch.float64)

    longitude, latitude = equirect_angles(width, width // 2)
    angles = extended(longitude, 2 * math.pi / width), extended(latitude, -2 * math.pi / width)
    coarser = [[axis.unflatten(0, (-1, 2**level)).mean(1) for axis in angles] for level in range(levels + 1)]
    return [Projection.of(cameras, *angles, device) for angles in coarser]


def _regions(coarsest: Projection, pixel: float) -> list[Region]:
    """Rectangles of the coarsest lattice that hold what the views reach, and MARGIN around it."""
    marked = coarsest.reached((OVERHANG + math.sqrt(0.5)) * pixel).float()
    marked = F.max_pool2d(marked, 2 * MARGIN + 1, stride=1, padding=MARGIN) > 0
    return [
        (view, slice(rows[0].start, rows[-1].stop), columns)
        for view, marks in enumerate(marked)
        for columns in runs(marks.any(0))
        for rows in [runs(marks[:, columns].any(1))]
    ]


def _scaled(region: list[slice], factor: int) -> tuple[slice, ...]:
    """A region in pixels `factor` times as fine."""
    return tuple(slice(side.start * factor, side.stop * factor) for side in region)


def _largest(lattice: Projection, regions: list[Region], factor: int) -> torch.Tensor:
    """(rows, columns) of the lattice: the largest edge distance of all views, -1 where no region is."""
    largest = torch.full((lattice.level.shape[0], lattice.across.shape[-1]), -1.0, device=lattice.level.device)
    for view, *region in regions:
        part = _scaled(region, factor)
        largest[part] = torch.maximum(largest[part], lattice.distance(view, *part))
    return largest


def _weight(distance: torch.Tensor, largest: torch.Tensor, seam: float, overhang: float) -> torch.Tensor:
    """Falls from the view with the largest edge distance to zero where a view's is `seam` smaller, or the view ends."""
    return (distance + (seam - largest).clamp_max(overhang)).clamp_min(0)


def _laplacian_pyramid(picture: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """(C, h, w) with sides divisible by 2^levels as details of ever coarser levels, and the rest."""
    from kornia.geometry.transform import pyrdown

    pyramid = []
    for _ in range(levels):
        coarser = pyrdown(picture[None], border_type="replicate")[0]
        pyramid.append(picture - _enlarged(coarser))
        picture = coarser
    return [*pyramid, picture]


def _enlarged(picture: torch.Tensor) -> torch.Tensor:
    """(C, h, w) at twice the size."""
    return F.interpolate(picture[None], scale_factor=2, mode="bilinear", align_corners=False)[0]


def _collapse(totals: list[torch.Tensor]) -> torch.Tensor:
    """(C, rows, columns) from weighted sums (C + 1, rows, columns) of each level, the sum of the weights last."""
    blended = None
    for total in reversed(totals):
        level = total[:-1].div_(total[-1].clamp_min(1e-30))
        blended = level if blended is None else level.add_(_enlarged(blended))
    return blended
