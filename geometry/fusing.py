"""What views share where they show the same: a pixel as the weighted mean of what all views show of its point.

MultiDiffusion (Bar-Tal et al. 2023) averages what overlapping crops of one picture predict. Here the crops are views.
Weights are edge distances, as in feathering, to a power: near the border between two views both count, and elsewhere
almost only the one that sees the point best, since the mean of two pictures is a blurred one.

Latents are read bicubically, by sparse sums. Pictures have too many pixels for such sums, and are fine enough to be
read bilinearly. Both are prepared once for a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F

from .cameras import Cameras
from .grid import edge_planes, grid_from_world, pixel_centres
from .pictures import read_continued
from .scene import Scene
from .seen import seen_bands, seen_in

POWER = 8  # of the edge distances
LEAST = 1e-4  # of them, as a part of the most: to their power that is still a number in float32
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


class Part(NamedTuple):
    """What a view reads of another one in a rectangle of its pixels: (2, r, c) grid coordinates, and (r, c) weights."""

    other: int
    rows: slice
    columns: slice
    grid: torch.Tensor
    share: torch.Tensor


@dataclass(frozen=True, eq=False)
class PictureReads:
    """How V views share pictures. own: (V, h, w) float32 weights of their own pixels. parts: what each view reads."""

    own: torch.Tensor
    parts: tuple[tuple[Part, ...], ...]

    def to(self, device: torch.device) -> PictureReads:
        """The same on a device."""
        parts = [
            [part._replace(grid=part.grid.to(device), share=part.share.to(device)) for part in of] for of in self.parts
        ]
        return PictureReads(self.own.to(device), tuple(map(tuple, parts)))


def picture_reads(scene: Scene, height: int, width: int) -> PictureReads:
    """Of pictures of this size; computed in float64 on the CPU, kept in float32."""
    own_grid, views = _own_grid(height, width), range(scene.views)
    own = torch.stack([_share(scene, view, own_grid).float() for view in views])
    parts = [
        tuple(part for other in views if other != view for part in _parts(scene, view, other, height, width))
        for view in views
    ]
    return PictureReads(own, tuple(parts))


def shared_pictures(pictures: torch.Tensor, reads: PictureReads) -> torch.Tensor:
    """(V, C, h, w) float32 pictures of a scene's views as means of what all of them show."""
    shared = []
    for picture, own, parts in zip(pictures, reads.own, reads.parts, strict=True):
        total, shares = picture * own, own.clone()
        for other, rows, columns, grid, share in parts:
            total[:, rows, columns] += share * read_continued(pictures[other][None], grid.clone())[0]
            shares[rows, columns] += share
        shared.append(total / shares)
    return torch.stack(shared)


def _parts(scene: Scene, view: int, other: int, height: int, width: int) -> Iterator[Part]:
    """What a view reads of another one, band by band. Nothing where they share less than a block of 8 x 8 pixels."""
    coarse = max(1, width // 8), max(1, height // 8)
    if not seen_in(scene, view, other, coarse, slice(0, coarse[1]))[1].any():
        return
    for rows, grid, overlap in seen_bands(scene, view, other, (width, height)):
        seen = overlap.any(0).nonzero().flatten().tolist()
        if seen:
            columns = slice(seen[0], seen[-1] + 1)
            grid, overlap = grid[..., columns], overlap[:, columns]
            share = _share(scene, other, grid) * overlap
            yield Part(other, rows, columns, grid.float(), share.float())


def _reads_of_view(scene: Scene, view: int, height: int, width: int):
    """The sums of one view's n pixels: (n,) how many terms each has, (T,) pixels and weights, whether any is shared.

    Its own pixels are their own terms.
    """
    pixels = torch.arange(height * width)
    owner, source = [pixels], [pixels[:, None] + view * height * width]
    weight = [_share(scene, view, _own_grid(height, width)).reshape(-1, 1)]
    for other in set(range(scene.views)) - {view}:
        grid, overlap = seen_in(scene, view, other, (width, height), slice(0, height))
        seen = overlap.flatten().nonzero().flatten()
        if not len(seen):
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


def _own_grid(height: int, width: int) -> torch.Tensor:
    """(2, height, width) grid coordinates of a picture's pixels."""
    return torch.stack(torch.meshgrid(pixel_centres(width), pixel_centres(height), indexing="xy"))


def _share(scene: Scene, view: int, grid: torch.Tensor) -> torch.Tensor:
    """(...) weights of a view at its (2, ...) grid coordinates: edge distances, as a part of the most, to a power."""
    cameras = cast(Cameras, scene)  # as all scenes are
    planes, world_from_grid = edge_planes(cameras)[view], torch.linalg.inv(grid_from_world(cameras)[view])
    rays = world_from_grid @ torch.cat((grid, torch.ones_like(grid[:1]))).flatten(1)
    distance = (planes @ F.normalize(rays, dim=0)).amin(0)
    middle = (planes @ F.normalize(world_from_grid[:, 2], dim=0)).amin()
    return (distance / middle).clamp_min(LEAST).pow(POWER).reshape(grid.shape[1:])


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
