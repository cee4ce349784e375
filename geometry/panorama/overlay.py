"""Photos laid over a panorama: read at their own resolution, averaged where the panorama is coarser.

How many photo pixels fall on a panorama's pixel grows from a photo's middle to its corners, so it is read in cells,
each as densely as its photo pixels ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import torch

from ..cameras import Cameras
from ..grid import grid_from_world
from ..input_error import InputError, counted, there_are
from ..overlap import CORNERS
from ..pictures import averaged, check_pictures, halved
from .blends import cell_middles
from .equirect import equirect_angles
from .lattice import Projection, half_reach

CELLS = 42  # along a panorama's width, as in one 4096 wide, where its size allows
LEAST_CELL, MOST_CELL = 16, 96  # pixels
MOST_BORDER = 45.0  # degrees; a photo's middle stays opaque anyway


@dataclass(frozen=True, eq=False)
class Overlay:
    """Photos that are laid over panoramas at their own resolution.

    pictures: (P or 1, H, W, 3 or 4) in 0..1. Alpha is dropped.
    camera: the one camera that saw them, in one point with the panorama's.
    border_deg: over how many degrees from their edges they fade into what lies below; at most half of the way to their
        middle, which stays opaque. 0 is a hard edge.
    """

    pictures: torch.Tensor
    camera: Cameras
    border_deg: float = 5.0

    def opacity(self, distance: torch.Tensor) -> torch.Tensor:
        """(...) how opaque photos are at (...) edge distances: 0 outside, 1 from their border on."""
        fade = min(math.sin(math.radians(self.border_deg)), half_reach(self.camera))
        return (distance / fade).clamp(0, 1) if fade else (distance > 0).to(distance)


@dataclass(frozen=True)
class Cell:
    """A part of a panorama, and how photos are read there.

    level: how often they are halved first. samples: per pixel and axis, read and averaged.
    """

    rows: slice
    columns: slice
    level: int
    samples: int

    @property
    def fine(self) -> tuple[slice, slice]:
        """Its rows and columns in a panorama that is `samples` times as fine."""
        rows, columns = (
            slice(self.samples * side.start, self.samples * side.stop) for side in (self.rows, self.columns)
        )
        return rows, columns


def check_overlay(overlay: Overlay, panoramas: int) -> None:
    """Raises InputError for photos that are none, are not one or as many as the panoramas, or have a bad border."""
    check_pictures(overlay.pictures, "source")
    if len(overlay.pictures) not in (1, panoramas):
        given = there_are(len(overlay.pictures), "photo")
        raise InputError(f"{given} in source for {counted(panoramas, 'panorama')}", "one_or_each")
    if not 0 <= overlay.border_deg <= MOST_BORDER:
        raise InputError(f"border must be 0 to {MOST_BORDER:g} degrees, not {overlay.border_deg}")


def read_photos(
    overlay: Overlay, width: int, device: torch.device
) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]:
    """Yields parts of a panorama that hold all that photos show, with what is seen there.

    A part is rows, columns, colours (P or 1, 3, rows, columns) and edge distances (rows, columns). Where the
    panorama is coarser than a photo, colours are means over its pixels.
    Raises InputError, at the end, for photos that no pixel's centre lies in.
    """
    touched = False
    photos, halvings, lattices = overlay.pictures[..., :3].to(device, torch.float32).movedim(-1, 1), 0, {}
    for level, cells in groupby(sorted(_cells(overlay, width), key=attrgetter("level")), key=attrgetter("level")):
        photos, halvings = halved(photos, level - halvings), level
        planes = photos.flatten(0, 1)
        for cell in cells:
            for samples in {1, cell.samples} - set(lattices):
                angles = equirect_angles(samples * width, samples * width // 2)
                lattices[samples] = Projection.of(overlay.camera, *angles, device)
            colours = lattices[cell.samples].sample(planes, 0, *cell.fine)
            colours = averaged(colours, cell.samples).unflatten(0, (-1, 3))
            distance = lattices[1].distance(0, cell.rows, cell.columns)
            touched = touched or bool((distance > 0).any())
            yield cell.rows, cell.columns, colours, distance
    if not touched:
        across, down = overlay.camera.fov_deg[0].tolist()
        raise InputError(
            f"the source touches no pixel of the panorama. It covers {across:.2g} x {down:.2g} degrees and falls "
            f"between pixels that are {float(f'{360 / width:.2g}'):g} degrees apart",
            "between_pixels",
        )


def _cells(overlay: Overlay, width: int) -> Iterator[Cell]:
    """The square cells of a panorama, all of one size, that photos may reach."""
    size = max(LEAST_CELL, min(MOST_CELL, width // CELLS))
    longitude, latitude = (cell_middles(angles, size) for angles in equirect_angles(width, width // 2))
    radius = size * math.sqrt(0.5) * 2 * math.pi / width
    middles = Projection.of(overlay.camera, longitude, latitude, "cpu")
    densest = _densest(overlay, width, middles.depth(0, slice(None), slice(None)), radius)
    for row, column in middles.reached(radius)[0].nonzero().tolist():
        rows, columns = (
            slice(size * index, min(size * (index + 1), end)) for index, end in ((row, width // 2), (column, width))
        )
        step = densest[row, column].item()
        # Halved until a pixel holds 2 to 4 of a photo's, and all are read. Rounding must not turn one sample into four.
        level = max(0, math.floor(math.log2(step)) - 1)
        yield Cell(rows, columns, level, max(1, math.ceil(step / 2**level - 1e-6)))


def _densest(overlay: Overlay, width: int, depth: torch.Tensor, radius: float) -> torch.Tensor:
    """How many photo pixels, in a row, a panorama's pixel covers at most within `radius` radians.

    depth: cosines of the angles from the photo's axis. A radian holds focal length / cosine^2 pixels along the radius,
    and fewer across. Beyond the photo's corners there are none.
    """
    camera = overlay.camera
    corners = CORNERS @ torch.linalg.inv(grid_from_world(camera))[0].mT
    least = 1 / corners.norm(dim=-1).max().item()  # depth 1 over the ray's length
    nearest = (depth.clamp(-1, 1).acos() + radius).clamp_max(math.pi / 2).cos().clamp_min(least)
    focal = camera.intrinsics[0, 0, 0].item() * overlay.pictures.shape[2] / camera.width
    return focal * 2 * math.pi / width / nearest.square()
