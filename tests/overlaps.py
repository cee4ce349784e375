"""How much all views of a depth sequence overlap, and who attends to whom because of it."""

from __future__ import annotations

import torch

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.correspondence import Correspondences
from mvdiffusion_pack.geometry.depth import DepthOverlaps, depth_correspondences, depth_neighbours


def depth_overlaps(cameras: Cameras, depth: torch.Tensor) -> torch.Tensor:
    """(V, V)"""
    return DepthOverlaps(cameras, depth).of(range(cameras.views))


def correspondences(cameras: Cameras, depth: torch.Tensor, height: int, width: int, **least: float) -> Correspondences:
    """Those of views that overlap by more than the `min_overlap` of `depth_neighbours`."""
    neighbours = depth_neighbours(depth_overlaps(cameras, depth), **least)
    return depth_correspondences(cameras, depth, height, width, neighbours)
