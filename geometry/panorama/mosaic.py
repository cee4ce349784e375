"""A small panorama that is drawn again and again while its views change: all that follows from cameras is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..cameras import Cameras
from .equirect import equirect_angles
from .lattice import Projection


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Which two view pixels each panorama pixel is mixed of, and how.

    taps: (2, H, 2 H) numbers of pixels among all pixels of the V views in order.
    weights: (2, H, 2 H, 1) float32, proportional to the edge distance (see lattice.py); 0 where no view looks.
    """

    taps: torch.Tensor
    weights: torch.Tensor

    @staticmethod
    def of(cameras: Cameras, view_size: tuple[int, int], width: int) -> Mosaic:
        """For views of (width, height) pixels and a panorama `width` (even) wide: the two best views, nearest pixels.

        Good for previews; `stitch` reads between pixels and mixes all views.
        """
        view_width, view_height = view_size
        projection = Projection.of(cameras, *equirect_angles(width, width // 2), "cpu")
        everywhere = slice(None), slice(None)
        distances = torch.stack([projection.distance(view, *everywhere) for view in range(cameras.views)])
        best, views = distances.clamp_min_(0).topk(min(2, cameras.views), dim=0)
        size = torch.tensor([view_width, view_height])[:, None, None]
        taps = torch.zeros_like(views)
        for view in range(cameras.views):
            chosen = views == view
            column, row = ((projection.position(view, *everywhere) + 1) / 2 * size).long()
            column, row = column.clamp(0, view_width - 1), row.clamp(0, view_height - 1)
            taps = torch.where(chosen, (view * view_height + row) * view_width + column, taps)
        weights = best / best.sum(0).clamp_min(1e-30)
        return Mosaic(taps, weights[..., None])

    def draw(self, views: torch.Tensor) -> torch.Tensor:
        """(V, h, w, C) views to the (H, 2 H, C) panorama, float32; black where no view looks."""
        pixels = views.flatten(0, 2).float()
        return (pixels[self.taps] * self.weights).sum(0)
