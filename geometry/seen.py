"""Where another view shows what a view shows, at any size of their pictures."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .cameras import pixel_grid
from .correspondence import apply_homography
from .grid import EDGE, grid_from_pixels
from .scene import Scene

BLOCK = 2**18  # pixels of a band: bounds memory


def seen_bands(
    scene: Scene, view: int, other: int, size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yields a view's rows band by band, and `seen_in` of them."""
    step = max(1, BLOCK // size[0])
    for top in range(0, size[1], step):
        rows = slice(top, min(top + step, size[1]))
        yield rows, *seen_in(scene, view, other, size, rows)


def seen_in(
    scene: Scene, view: int, other: int, size: tuple[int, int], rows: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where some rows of a view lie in another: (2, rows, w) grid coordinates, and (rows, w) where they overlap.

    size: width and height of the images. Points beyond the middles of the other image's border pixels do not count:
    nothing can be read there but by guessing.
    """
    grid_from_camera = grid_from_pixels(scene.width, scene.height)
    camera_from_image = torch.linalg.inv(grid_from_camera) @ grid_from_pixels(*size)
    pixels = pixel_grid(size[0], rows.stop - rows.start)
    pixels[..., 1] += rows.start
    pixels, _ = apply_homography(camera_from_image, pixels)
    points, same = scene.points_in(other, view, pixels)
    grid, _ = apply_homography(grid_from_camera, points)
    inside = grid.abs() <= 1 - 1 / torch.tensor(size, dtype=torch.float64) + EDGE
    return grid.movedim(-1, 0), same & inside.all(-1)
