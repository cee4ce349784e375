"""`Cameras`: where pictures were taken from, and where their pixels look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from .grid import middle
from .input_error import InputError


@dataclass(frozen=True, eq=False)
class Cameras:
    """V pinhole cameras that share one image size. Immutable; every tensor is float64 on the CPU.

    By themselves they cut and join pictures; what can be sampled is a `Scene`: `PanoramaViews`, `PosedViews`.

    intrinsics: (V, 3, 3), pixels of a `width` x `height` image, pixel centres at integers.
    cam_to_world: (V, 4, 4), rigid.
    width, height: size of the images in pixels.
    """

    intrinsics: torch.Tensor
    cam_to_world: torch.Tensor
    width: int
    height: int

    rings: ClassVar[tuple[int, ...]] = ()  # none: those of a panorama have some

    def __post_init__(self) -> None:
        views = self.intrinsics.shape[0]
        if self.intrinsics.shape != (views, 3, 3) or self.cam_to_world.shape != (views, 4, 4):
            raise InputError(
                f"cameras need intrinsics (V, 3, 3) and poses (V, 4, 4), not {tuple(self.intrinsics.shape)} and "
                f"{tuple(self.cam_to_world.shape)}"
            )
        if {self.intrinsics.dtype, self.cam_to_world.dtype} != {torch.float64}:
            raise InputError(f"cameras are float64, not {self.intrinsics.dtype} and {self.cam_to_world.dtype}")
        if not (torch.isfinite(self.intrinsics).all() and torch.isfinite(self.cam_to_world).all()):
            raise InputError("the intrinsics or poses of the cameras hold NaN or infinite numbers")
        if (self.intrinsics[:, [0, 1], [0, 1]] <= 0).any():
            raise InputError("the cameras have focal lengths that are not positive")
        if not torch.allclose(self.rotation @ self.rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-4):
            raise InputError("the cameras' poses are not rigid: their 3 x 3 part must be a rotation")

    @property
    def views(self) -> int:
        """The number of cameras, V."""
        return self.intrinsics.shape[0]

    @property
    def rotation(self) -> torch.Tensor:
        """(V, 3, 3) camera-to-world rotations; the third column is the viewing direction."""
        return self.cam_to_world[:, :3, :3]

    @property
    def fov_deg(self) -> torch.Tensor:
        """(V, 2) horizontal and vertical fields of view in degrees, of cameras that look through their middle."""
        half_size = torch.tensor([self.width, self.height], dtype=torch.float64) / 2
        return 2 * torch.atan(half_size / self.intrinsics[:, [0, 1], [0, 1]]).rad2deg()

    @property
    def in_one_point(self) -> bool:
        """Whether all cameras stand in one place, so that their views are parts of one panorama."""
        positions = self.cam_to_world[:, :3, 3]
        return bool((positions - positions[0]).abs().max() <= 1e-6)


def rotation_from_angles(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0) -> torch.Tensor:
    """(3, 3) camera-to-world: yaw to the right about the world's vertical, then pitch up, then roll clockwise.

    Raises InputError for angles that are not finite.
    """
    if not all(map(math.isfinite, (yaw_deg, pitch_deg, roll_deg))):
        raise InputError(f"yaw, pitch and roll must be finite, not {yaw_deg:g}, {pitch_deg:g} and {roll_deg:g} degrees")
    yaw, pitch, roll = (math.radians(angle) for angle in (yaw_deg, pitch_deg, roll_deg))
    cy, sy, cp, sp, cr, sr = (
        math.cos(yaw),
        math.sin(yaw),
        math.cos(pitch),
        math.sin(pitch),
        math.cos(roll),
        math.sin(roll),
    )
    world_from_yawed = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
    yawed_from_pitched = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]], dtype=torch.float64)
    pitched_from_rolled = torch.tensor([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]], dtype=torch.float64)
    return world_from_yawed @ yawed_from_pitched @ pitched_from_rolled


def intrinsics_from_fov(fov_deg: float, width: int, height: int) -> torch.Tensor:
    """(3, 3) intrinsics of a camera with square pixels and a horizontal field of view in degrees, inside (0, 180)."""
    focal = (width / 2) / math.tan(math.radians(fov_deg) / 2)
    return torch.tensor(
        [[focal, 0, middle(width)], [0, focal, middle(height)], [0, 0, 1]],
        dtype=torch.float64,
    )


def pixel_grid(width: int, height: int) -> torch.Tensor:
    """(height, width, 2) pixel centres (x, y) of a view, float64."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    return torch.stack((x, y), dim=-1)
