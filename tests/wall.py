"""A depth sequence that is known exactly: cameras that move along a wall 2 m away."""

from __future__ import annotations

import torch

from mvdiffusion_pack.geometry.cameras import intrinsics_from_fov
from mvdiffusion_pack.geometry.posed import PosedViews

AWAY = 2.0  # metres from the wall


def along_a_wall(views: int, width: int = 64, height: int = 64, step: float = 0.4, **fields) -> PosedViews:
    """V cameras, 60 degrees wide, `step` metres apart, of which each sees 2.3 m of the wall."""
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    cam_to_world[:, 0, 3] = step * torch.arange(views)
    intrinsics = intrinsics_from_fov(60, width, height).repeat(views, 1, 1)
    depth = torch.full((views, height, width), AWAY)
    return PosedViews(intrinsics, cam_to_world, width, height, depth=depth, **fields)
