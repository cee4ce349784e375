"""What views share where they show the same: a pixel as the weighted mean of what all views show of its point.

MultiDiffusion (Bar-Tal et al. 2023) averages what overlapping crops of one picture predict. Here the crops are views:
what another one shows of a point lies between its pixels and is read bicubically, which keeps detail that a bilinear
read loses. Weights are edge distances, as in feathering, to a power: near the border between two views
both count, and elsewhere almost only the one that sees the point best, since the mean of two pictures is a blurred one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .grid import EDGE, edge_planes, grid_from_world, pixel_centres
from .scene import Scene
from .seen import seen_in

POWER = 8  # of the edge distances
CUBIC = -0.5  # the slope of the bicubic kernel: Catmull and Rom's


@dataclass(frozen=True, eq=False)
class SharedReads:
    """V h w weighted sums of the pixels of V views, view by view and row by row.

    pixel: (T,) int32, which of the V h w pixels are read. weight: (T,) float32, by how much; those of a sum make 1.
    ends: (V h w + 1,) int32, where each sum begins in them.
    """

    pixel: torch.Tensor
    weight: torch.Tensor
    ends: torch.Tensor

    def to(self, device: torch.device) -> SharedReads:
        """The same on a device."""
        return SharedReads(self.pixel.to(device), self.weight.to(device), self.ends.to(device))


def shared_reads(scene: Scene, height: int, width: int) -> SharedReads | None:
    """The sums of a scene's views at `height` x `width` pixels each; None where no view shows what another shows."""
    found = [_reads_of_view(scene, view, height, width) for view in range(scene.views)]
    if not any(shared for *_, shared in found):
        return None
    counts, pixel, weight = (torch.cat(part) for part in list(zip(*found, strict=True))[:3])
    return SharedReads(pixel.int(), weight.float(), F.pad(counts.cumsum(0), (1, 0)).int())


def _reads_of_view(scene: Scene, view: int, height: int, width: int):
    """The sums of one view's n pixels: (n,) how many terms each has, (T,) pixels and weights, whether any is shared.

    Its own pixels are their own terms.
    """
    columns, rows = pixel_centres(width), pixel_centres(height)
    own_grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy")).flatten(1)
    pixels = torch.arange(height * width)
    owner, source, weight = (
        [pixels],
        [pixels[:, None] + view * height * width],
        [_share(scene, view, own_grid)[:, None]],
    )
    for other in range(scene.views):
        grid, overlap = seen_in(scene, view, other, (width, height), slice(0, height))
        seen = overlap.flatten().nonzero().flatten()
        if other == view or not len(seen):
            continue
        grid = grid.flatten(1)[:, seen]
        taps, kernel = _cubic_taps(grid, height, width)
        owner.append(seen)
        source.append(taps + other * height * width)
        weight.append(kernel * _share(scene, other, grid)[:, None])
    owners = torch.cat([who.repeat_interleave(what.shape[1]) for who, what in zip(owner, source, strict=True)])
    sources, weights = (torch.cat([part.flatten() for part in parts]) for parts in (source, weight))
    total = torch.zeros(height * width, dtype=torch.float64).index_add_(0, owners, weights)
    order = owners.argsort(stable=True)
    counts = owners.bincount(minlength=height * width)
    return counts, sources[order], (weights / total[owners])[order], len(owner) > 1


def _share(scene: Scene, view: int, grid: torch.Tensor) -> torch.Tensor:
    """(n,) weights of a view at its (2, n) grid coordinates: edge distances, as a part of the most, to a power."""
    planes, world_from_grid = edge_planes(scene)[view], torch.linalg.inv(grid_from_world(scene)[view])
    rays = world_from_grid @ torch.cat((grid, torch.ones_like(grid[:1])))
    distance = (planes @ F.normalize(rays, dim=0)).amin(0) + EDGE
    middle = (planes @ F.normalize(world_from_grid[:, 2], dim=0)).amin()
    return (distance / middle).clamp_min(EDGE) ** POWER


def _cubic_taps(grid: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 16) pixels that (2, n) grid coordinates are read from, and their bicubic weights; borders are continued."""
    taps, weights = [], []
    for position, size in zip(grid, (width, height), strict=True):
        centres = pixel_centres(size)
        place = (position - centres[0]) / (2 / size)
        low = place.floor()
        steps = torch.arange(-1, 3)
        taps.append((low[:, None].long() + steps).clamp(0, size - 1))
        weights.append(_cubic((place - low)[:, None] - steps))
    (column, row), (across, down) = taps, weights
    return (row[:, :, None] * width + column[:, None]).flatten(1), (down[:, :, None] * across[:, None]).flatten(1)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """The kernel of bicubic reading at distances of up to two pixels (Keys 1981)."""
    d, a = distance.abs(), CUBIC
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return torch.where(d <= 1, near, far).where(d < 2, 0)
