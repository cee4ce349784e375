"""Noise that is drawn once for a scene: white in each view, and alike where views show the same.

A scene is cut into *cells*, the parts of pixels of the first view that sees them. Every cell lies in one pixel of each
view that shows it, at most, and has a number of its own. A pixel is the sum of its cells' numbers over the root of how
many there are: of variance 1, and independent of all other pixels of its view, which have other cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .cameras import pixel_grid
from .correspondence import apply_homography
from .grid import grid_from_pixels
from .scene import Scene
from .seen import seen_in

PARTS = 4  # cells along a pixel's side: views that look at a point from nearer still find one for most of their pixels


@dataclass(frozen=True, eq=False)
class SharedNoise:
    """N cells of a scene in V views of `height` x `width` pixels.

    cells, pixels: for each view (n,) int64 which cells it shows, and in which of its pixels.
    """

    count: int
    height: int
    width: int
    cells: tuple[torch.Tensor, ...]
    pixels: tuple[torch.Tensor, ...]

    @staticmethod
    def of(scene: Scene, height: int, width: int) -> SharedNoise:
        """Computed in float64 on the CPU."""
        cells = [[] for _ in range(scene.views)]
        pixels = [[] for _ in range(scene.views)]
        count = 0
        for view in range(scene.views):
            new = _parts(_first_seen(scene, view, height, width), width)
            for other in range(view, scene.views):
                inside, pixel = _pixels_in(scene, other, view, new, height, width)
                cells[other].append(inside + count)
                pixels[other].append(pixel)
            count += len(new)
        joined = (tuple(torch.cat(parts) for parts in found) for found in (cells, pixels))
        return SharedNoise(count, height, width, *joined)

    def draw(self, own: torch.Tensor) -> torch.Tensor:
        """(V, C, h, w) float32 noise for a scene, in place of noise `own` that each view has for itself.

        That says how it is drawn: the same noise gives the same again. It stays where a pixel has no cell.
        """
        own = own.float().cpu()
        generator = torch.Generator().manual_seed(int.from_bytes(own.flatten()[:2].numpy().tobytes(), "little"))
        numbers = torch.randn((self.count, own.shape[1]), generator=generator)
        size = self.height * self.width
        drawn = []
        for noise, cells, pixels in zip(own, self.cells, self.pixels, strict=True):
            sums = torch.zeros((size, own.shape[1])).index_add_(0, pixels, numbers[cells])
            many = pixels.bincount(minlength=size)[:, None]
            shared = (sums / many.clamp_min(1).sqrt()).mT.reshape(noise.shape)
            drawn.append(shared.where(many.mT.reshape(noise.shape[1:]) > 0, noise))
        return torch.stack(drawn)


def _first_seen(scene: Scene, view: int, height: int, width: int) -> torch.Tensor:
    """(n,) the pixels of a view that no earlier one shows."""
    seen = torch.zeros((height, width), dtype=torch.bool)
    for earlier in range(view):
        seen |= seen_in(scene, view, earlier, (width, height), slice(0, height))[1]
    return (~seen.flatten()).nonzero().flatten()


def _parts(pixels: torch.Tensor, width: int) -> torch.Tensor:
    """(n PARTS^2, 2) the middles of the parts of (n,) pixels, as (x, y) in pixels."""
    steps = (pixel_grid(PARTS, PARTS).reshape(-1, 2) + 0.5) / PARTS - 0.5
    corners = torch.stack((pixels % width, pixels // width), dim=-1)
    return (corners[:, None] + steps).flatten(0, 1)


def _pixels_in(
    scene: Scene, other: int, view: int, points: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of a view's (n, 2) points another one shows, and in which of its pixels; (m,) each."""
    grid_from_camera, grid_from_image = grid_from_pixels(scene.width, scene.height), grid_from_pixels(width, height)
    if other != view:
        at, _ = apply_homography(torch.linalg.inv(grid_from_camera) @ grid_from_image, points)
        at, shown = scene.points_in(other, view, at)
        points, _ = apply_homography(torch.linalg.inv(grid_from_image) @ grid_from_camera, at)
    else:
        shown = torch.ones(len(points), dtype=torch.bool)
    column, row = points.round().unbind(-1)
    shown &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return shown.nonzero().flatten(), (row * width + column)[shown].long()
