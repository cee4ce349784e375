"""Pictures known in every direction, and views rendered exactly from them: the measure of stitching and cutting."""

from __future__ import annotations

import math

import torch

from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, pixel_grid, rotation_from_angles
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews


def detailed(directions: torch.Tensor) -> torch.Tensor:
    """(..., 3) colours in 0..1 of (..., 3) unit directions, with detail that half a pixel of shift shows in."""
    longitude = torch.atan2(directions[..., 0], directions[..., 2])
    latitude = torch.asin((-directions[..., 1]).clamp(-1, 1))
    red = torch.sin(3 * longitude + 4 * torch.sin(5 * latitude))
    green = torch.cos(7 * longitude) * torch.cos(6 * latitude)
    blue = torch.sin(11 * latitude + 2 * torch.cos(9 * longitude))
    return 0.5 + 0.5 * torch.stack((red, green, blue), dim=-1)


def smooth(directions: torch.Tensor) -> torch.Tensor:
    """(..., 3) colours in 0..1 of (..., 3) unit directions that are smooth everywhere, over the poles too."""
    return 0.5 + 0.5 * directions


def view_directions(cameras: Cameras) -> torch.Tensor:
    """(V, h, w, 3) unit world directions of the views' pixel centres."""
    pixels = pixel_grid(cameras.width, cameras.height)
    pixels = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
    rays = pixels @ torch.linalg.inv(cameras.intrinsics)[:, None].mT @ cameras.rotation[:, None].mT
    return rays / rays.norm(dim=-1, keepdim=True)


def cameras_at(angles_deg: list[tuple[float, float]], fov_deg: float, width: int, height: int) -> PanoramaViews:
    """Cameras in one point that look along (yaw, pitch) pairs."""
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(angles_deg), 1, 1)
    cam_to_world[:, :3, :3] = torch.stack([rotation_from_angles(*angles) for angles in angles_deg])
    return PanoramaViews(
        intrinsics_from_fov(fov_deg, width, height).repeat(len(angles_deg), 1, 1), cam_to_world, width, height
    )


def seen_share(cameras: Cameras, view: int, other: int) -> float:
    """The share of a view's pixels that lie inside the other's picture."""
    x, y, z = (view_directions(cameras)[view] @ cameras.rotation[other]).unbind(-1)
    focal, middle = cameras.intrinsics[other, 0, 0], cameras.intrinsics[other, :2, 2]
    column, row = focal * x / z + middle[0], focal * y / z + middle[1]
    inside = (column > -0.5) & (column < cameras.width - 0.5) & (row > -0.5) & (row < cameras.height - 0.5) & (z > 0)
    return inside.double().mean().item()


def psnr(picture: torch.Tensor, reference: torch.Tensor) -> float:
    """Decibels of pictures in 0..1."""
    return -10 * math.log10(torch.mean((picture.double() - reference.double()) ** 2).item())
