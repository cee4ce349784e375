"""Views joined into an equirectangular panorama.

Weights come from one number per view and direction, the *edge distance*: the sine of the angle between the direction and
the nearest of the four planes through the view's edges, positive inside the view, negative outside. It needs no
division, is continuous on the whole sphere and changes by at most one per radian, so weights made of it neither know of
the panorama's wrap nor of its poles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .cameras import Cameras
from .equirect import equirect_angles, grid_from_world, halve, to_planes

CELL = 32  # rows and columns of the panorama that are joined at once: float64 blocks that stay in the processor's cache
OVERHANG = 1 / 8
COARSEST = 16  # pixels of the smaller side of multiband's coarsest level, about

Layer = tuple[torch.Tensor, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]


class Patch(NamedTuple):
    """What one view gives to some columns of a band of rows."""

    view: int
    columns: slice
    grid: torch.Tensor  # (rows, columns, 2) float32, where the view is read
    distance: torch.Tensor  # (rows, columns) float32, the view's edge distance


def stitch(
    images: torch.Tensor, cameras: Cameras, width: int = 4096, blend: str = "feather"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joins P * V images, panorama by panorama, to P panoramas.

    images: (P * V, h, w, 3 or 4) in 0..1, any floating type, any size of the cameras' aspect. Alpha is dropped.
    width: the panorama's, even; 0 is the native one, with pixels as fine as those in the middle of the finest view.
    blend: feather weighs each view by its edge distance; nearest takes the view with the largest; multiband mixes fine
        detail over narrow and colours over wide seams (Burt and Adelson 1983; weights per band as Brown and Lowe 2007).

    Returns the panoramas (P, width / 2, width, 3) and their coverage (P, width / 2, width), float32 on the images'
    device. Coverage is 1 where the pixel's centre lies in a view, else 0; there the panorama is black.
    Raises ValueError for images that do not fit the cameras, hold NaN, or an odd or negative width.
    """
    views, low, high = _checked(images, cameras)
    if width < 0 or width % 2:
        raise ValueError(f"The panorama's width must be even, or 0 for the native one, not {width}.")
    if blend not in BLENDS:
        raise ValueError(f"Unknown blend '{blend}': choose one of {', '.join(BLENDS)}.")
    width = width or native_width(cameras, views.shape[-1])
    panoramas = images.shape[0] // cameras.views
    views = halve(views, native_width(cameras, views.shape[-1]) / width)
    layers, reach = BLENDS[blend](views, cameras)
    equirect = torch.zeros(panoramas, width // 2, width, 3, device=views.device)
    coverage = torch.zeros(panoramas, width // 2, width, device=views.device)
    for rows, patches in _bands(cameras, width, reach, views.device):
        planes, covered = _join(layers, patches, rows.stop - rows.start, width)
        equirect[:, rows] = planes.clamp_(low, high).mul_(covered).unflatten(0, (panoramas, 3)).permute(0, 2, 3, 1)
        coverage[:, rows] = covered
    return equirect, coverage


def native_width(cameras: Cameras, image_width: int) -> int:
    """The even panorama width, rounded up, whose pixels are as fine as those of the finest view's centre.

    2 pi times the focal length in pixels: 1610 for images of 512 pixels and 90 degrees.
    """
    focal = cameras.intrinsics[:, 0, 0].max().item() * image_width / cameras.width
    return 2 * math.ceil(math.pi * focal - 1e-6)


def _checked(images: torch.Tensor, cameras: Cameras) -> tuple[torch.Tensor, float, float]:
    """The images as (V, P * 3, h, w) float32, each view's panoramas side by side, and the least and largest value."""
    planes = to_planes(images)
    count, _, height, width = planes.shape
    if count == 0 or count % cameras.views:
        problem = "Too few images to stitch" if count < cameras.views else "The images are no multiple of the cameras"
        raise ValueError(f"{problem}: {count} images, {cameras.views} cameras.")
    if abs(width * cameras.height - height * cameras.width) > max(cameras.width, cameras.height) / 2:
        raise ValueError(
            f"The images are {width} x {height} pixels, which is not the aspect of the cameras' "
            f"{cameras.width} x {cameras.height}."
        )
    offsets = cameras.cam_to_world[:, :3, 3]
    if (offsets - offsets[0]).abs().max() > 1e-6:
        raise ValueError("Only views taken from one point can be stitched, but these cameras stand in different places.")
    low, high = (bound.item() for bound in torch.aminmax(planes))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("The images to stitch hold NaN or infinite numbers.")
    views = planes.unflatten(0, (-1, cameras.views)).transpose(0, 1).flatten(1, 2)
    return views, low, high


def _feather(views: torch.Tensor, cameras: Cameras) -> tuple[list[Layer], float]:
    """One layer, weighed by the edge distance itself."""
    return [(views, lambda distance, largest: distance.clamp_min(0))], 0.0


def _nearest(views: torch.Tensor, cameras: Cameras) -> tuple[list[Layer], float]:
    """One layer, all of it from the view with the largest edge distance."""
    return [(views, lambda distance, largest: (distance == largest).to(distance))], 0.0


def _multiband(views: torch.Tensor, cameras: Cameras) -> tuple[list[Layer], float]:
    """The levels of each view's Laplacian pyramid, every one mixed over a seam twice as wide as the finer one's.

    Pyramids are made of the views, not of the panorama: there they have no wrap and no holes. A view is continued beyond
    its edges by its border pixels, as far as the widest seam reaches, so that seams stay wide where views end.
    """
    from kornia.geometry.transform import pyrdown

    widest = _edges(cameras)[1].min().item() / 2
    levels = max(0, round(math.log2(min(views.shape[-2:]) / COARSEST)))
    layers = []
    for level in range(levels + 1):
        coarser = pyrdown(views, border_type="replicate") if level < levels else None
        detail = views if coarser is None else views - F.interpolate(coarser, views.shape[-2:], mode="bilinear", align_corners=False)
        layers.append((detail, partial(_ramp, widest / 2 ** (levels - level))))
        views = coarser
    return layers, widest * OVERHANG


def _ramp(width: float, distance: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """Weights that fall from the view with the largest edge distance to zero where a view's is `width` smaller."""
    return (distance + (width - largest).clamp_max(width * OVERHANG)).clamp_min(0)


BLENDS = {"feather": _feather, "multiband": _multiband, "nearest": _nearest}


def _edges(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, 4, 3) unit world normals of the planes through the views' edges, pointing inwards; (V,) centres' distances.

    A view spans -1..1 on the grid, so its edges are where z + u, z - u, z + v or z - v vanish.
    """
    u, v, z = grid_from_world(cameras).unbind(1)
    normals = F.normalize(torch.stack((z + u, z - u, z + v, z - v), dim=1), dim=-1)
    return normals, (normals * cameras.rotation[:, None, :, 2]).sum(-1).amin(-1)


def _along(vectors: torch.Tensor, latitude: torch.Tensor, longitude: torch.Tensor) -> torch.Tensor:
    """(K, rows, columns) products of (K, 3) vectors with the directions of all latitudes and longitudes, float64."""
    level = vectors[:, :1] * longitude.sin() + vectors[:, 2:] * longitude.cos()
    upright = vectors[:, 1:2] * -latitude.sin()
    return torch.addcmul(upright[:, :, None], latitude.cos()[:, None], level[:, None])


def _bands(cameras: Cameras, width: int, reach: float, device) -> Iterator[tuple[slice, list[Patch]]]:
    """Yields bands of rows that some view reaches, with a patch for each view's unbroken run of columns."""
    height = width // 2
    longitude, latitude = equirect_angles(width, height)
    grid, edges = grid_from_world(cameras), _edges(cameras)[0]
    cells = _reached_cells(edges, latitude, longitude, reach)
    for band, top in enumerate(range(0, height, CELL)):
        rows = slice(top, min(top + CELL, height))
        patches = []
        for view in range(cameras.views):
            for columns in _runs(cells[view, band], width):
                vectors = torch.cat((grid[view], edges[view]))
                u, v, z, *distances = _along(vectors, latitude[rows], longitude[columns])
                points = torch.stack((u, v), dim=-1).div_(z.clamp_min(1e-9)[..., None])
                distance = torch.stack(distances).amin(0)
                patches.append(Patch(view, columns, points.float().to(device), distance.float().to(device)))
        if patches:
            yield rows, patches


def _reached_cells(edges: torch.Tensor, latitude: torch.Tensor, longitude: torch.Tensor, reach: float) -> torch.Tensor:
    """(V, cell rows, cell columns) bool: whether a view may come nearer than `reach` to a cell of CELL x CELL pixels."""
    middles = [angles[torch.arange(0, len(angles), CELL).add(CELL // 2).clamp_max(len(angles) - 1)] for angles in (latitude, longitude)]
    radius = CELL / math.sqrt(2) * 2 * math.pi / len(longitude)
    distance = _along(edges.flatten(0, 1), *middles).unflatten(0, edges.shape[:2]).amin(1)
    return distance > -(reach + radius)


def _runs(cells: torch.Tensor, width: int) -> list[slice]:
    """The runs of true in a row of cells, as columns of the panorama; a run over its edge comes as two."""
    ends = torch.diff(F.pad(cells.int(), (1, 1))).nonzero().reshape(-1, 2) * CELL
    return [slice(first, min(last, width)) for first, last in ends.tolist()]


def _join(layers: list[Layer], patches: list[Patch], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The blended band (P * 3, height, width) and its coverage (height, width) as 0 or 1."""
    largest = patches[0].distance.new_full((height, width), -1)
    for patch in patches:
        torch.maximum(largest[:, patch.columns], patch.distance, out=largest[:, patch.columns])
    blended = 0
    for pictures, weigh in layers:
        total = largest.new_zeros(pictures.shape[1], height, width)
        weights = torch.full_like(largest, 1e-30)
        for patch in patches:
            weight = weigh(patch.distance, largest[:, patch.columns])
            total[..., patch.columns] += _read(pictures[patch.view], patch.grid).mul_(weight)
            weights[:, patch.columns] += weight
        blended = blended + total.div_(weights)
    return blended, (largest > 0).to(largest)


def _read(picture: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(C, rows, columns) of a (C, h, w) picture at (rows, columns, 2) grid coordinates, its border pixels continued."""
    limit = 1 - 1 / grid.new_tensor(picture.shape[:0:-1])
    grid = grid.clamp(-limit, limit)  # in place of padding_mode="border", which Apple's MPS lacks
    return F.grid_sample(picture[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
