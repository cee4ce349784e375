"""Where the views of a panorama look: one function per layout, all with the same result."""

from __future__ import annotations

import math

import torch

from .cameras import Cameras, intrinsics_from_fov, rotation_from_angles


def _panorama(
    angles_deg: list[tuple[float, float]], rings: tuple[int, ...], fov_deg: float, size: tuple[int, int]
) -> Cameras:
    """Cameras in one point that look along (yaw, pitch) pairs; `size` is (width, height)."""
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(angles_deg), 1, 1)
    cam_to_world[:, :3, :3] = torch.stack([rotation_from_angles(yaw, pitch) for yaw, pitch in angles_deg])
    intrinsics = intrinsics_from_fov(fov_deg, *size).repeat(len(angles_deg), 1, 1)
    return Cameras(intrinsics, cam_to_world, *size, rings)


def ring(
    views: int, fov_deg: float, width: int, height: int, start_yaw_deg: float = 0.0, pitch_deg: float = 0.0
) -> Cameras:
    """`views` evenly turned views of one pitch; view 0 looks along `start_yaw_deg`, view i to the right of view i - 1.

    Raises ValueError for fewer than one view, a field of view outside (0, 180) or an empty image.
    """
    if views < 1:
        raise ValueError(f"A ring needs at least 1 view, not {views}.")
    if not 0 < fov_deg < 180:
        raise ValueError(f"The field of view must lie between 0 and 180 degrees (exclusive), not {fov_deg}.")
    if not (math.isfinite(start_yaw_deg) and math.isfinite(pitch_deg)):
        raise ValueError(f"A ring needs a finite yaw and pitch in degrees, not {start_yaw_deg} and {pitch_deg}.")
    if width < 1 or height < 1:
        raise ValueError(f"Views need a positive size, not {width} x {height}.")
    angles = [(start_yaw_deg + 360.0 * view / views, pitch_deg) for view in range(views)]
    return _panorama(angles, (views,), fov_deg, (width, height))


LAYOUTS = {"ring": ring}
