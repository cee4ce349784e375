"""Where panoramas of a room are taken from."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import torch

from ..geometry.cameras import Cameras
from ..geometry.layouts import ring
from .paths import clearance
from .room import Room

AMPLE = 0.6  # metres around a viewpoint that are to be free
EYE = (1.4, 1.6)  # metres above the floor
TRIES = 64
LEAST = 0.05  # metres around a viewpoint without which it is refused


def viewpoint(room: Room, seed: int) -> torch.Tensor:
    """(3,) float64: a place at eye level, chosen by the seed, with AMPLE room around it.

    Where none of TRIES places has that, the freest of them. Raises ValueError where that one has next to no room.
    """
    rng = Random(seed)
    width, _, length = room.size
    eye = -rng.uniform(*EYE)
    tries = [(rng.uniform(-0.5, 0.5) * width, rng.uniform(-0.5, 0.5) * length) for _ in range(TRIES)]
    free = clearance(room, torch.tensor(tries, dtype=torch.float64)).tolist()
    best = next((i for i, metres in enumerate(free) if metres >= AMPLE), max(range(TRIES), key=free.__getitem__))
    if free[best] < LEAST:
        raise ValueError("The room has no place to stand.")
    return torch.tensor((tries[best][0], eye, tries[best][1]), dtype=torch.float64)


def at_viewpoint(cameras: Cameras, room: Room, seed: int) -> Cameras:
    """Cameras that `layouts` made, moved to the seed's viewpoint in the room."""
    cam_to_world = cameras.cam_to_world.clone()
    cam_to_world[:, :3, 3] = viewpoint(room, seed)
    return replace(cameras, cam_to_world=cam_to_world)


def panorama_cameras(
    room: Room,
    seed: int,
    views: int = 8,
    fov_deg: float = 90.0,
    width: int = 512,
    height: int = 512,
    start_yaw_deg: float = 0.0,
) -> Cameras:
    """A ring of cameras, as `layouts.ring` makes it, that stand at the seed's viewpoint in the room."""
    return at_viewpoint(ring(views, fov_deg, width, height, start_yaw_deg), room, seed)
