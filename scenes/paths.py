"""Walks through a room: cameras on a smooth path that keeps away from everything."""

from __future__ import annotations

import math
from random import Random

import torch

from ..geometry.cameras import Cameras, intrinsics_from_fov, rotation_from_angles
from .room import Room

CLEARANCE = 0.3  # metres that stay between a camera and walls or things
STEP = 0.1  # metres between the places that a path may start, bend and end at
TRIES = 200
TURN = (50.0, 140.0)  # degrees that a walk turns by, in all
LOOKS = 40
OVERHEAD, UNDERFOOT = 2.0, 0.05  # metres above the floor: what lies wholly above or below is in nobody's way


def walk(room: Room, seed: int, views: int, width: int, height: int, fov_deg: float = 60.0) -> Cameras:
    """`views` cameras on a smooth walk through a room, looking around slowly; the same for the same seed.

    They stay CLEARANCE away from walls and from everything that stands on the floor, also from what lies below them.
    Raises ValueError for fewer than one view, and for a room without a place to stand.
    """
    if views < 1:
        raise ValueError(f"A walk needs at least 1 view, not {views}.")
    rng = Random(seed)
    places = _path(room, rng, views)
    eye = -rng.uniform(1.3, 1.6)
    yaws, sway = _yaws(room, rng, places), rng.uniform(0, 2 * math.pi)
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    for view, pose in enumerate(cam_to_world):
        along = view / max(views - 1, 1)
        pitch = -10 + 4 * math.sin(2 * math.pi * along + sway)
        pose[:3, :3] = rotation_from_angles(yaws[view].item(), pitch)
        pose[:3, 3] = torch.tensor([places[view, 0], eye, places[view, 1]])
    return Cameras(intrinsics_from_fov(fov_deg, width, height).repeat(views, 1, 1), cam_to_world, width, height)


def clearance(room: Room, places: torch.Tensor) -> torch.Tensor:
    """(N,) metres from (N, 2) places (x, z), seen from above, to the nearest wall or thing; 0 or less inside of one.

    Round things count as the boxes around them.
    """
    half = torch.tensor([room.size[0], room.size[2]], dtype=torch.float64) / 2
    to_walls = (half - places.abs()).amin(-1)
    top, bottom = (-(room.centre[:, 1] + side * room.half_size[:, 1]) for side in (-1, 1))
    inside = (room.centre[:, [0, 2]].abs() < half).all(-1)  # not what the room is closed with
    standing = inside & (top > UNDERFOOT) & (bottom < OVERHEAD)
    x, z = (places[:, axis, None] - room.centre[standing, 2 * axis] for axis in (0, 1))
    c, s = room.yaw[standing].cos(), room.yaw[standing].sin()
    across = (c * x - s * z).abs() - room.half_size[standing, 0]
    along = (s * x + c * z).abs() - room.half_size[standing, 2]
    outside = (across.clamp(min=0) ** 2 + along.clamp(min=0) ** 2).sqrt()
    to_things = outside + torch.maximum(across, along).clamp(max=0)
    return torch.minimum(to_walls, to_things.amin(-1))


def _path(room: Room, rng: Random, views: int) -> torch.Tensor:
    """(views, 2) places (x, z) on a curve from one free place to another: the longest of those that were tried."""
    free = _free_places(room)
    tries = [[rng.randrange(len(free)) for _ in range(3)] for _ in range(TRIES)]
    starts, bends, ends = free[torch.tensor(tries)].unbind(1)
    # The longest first: only as many are looked at as are in the way of something. Of equals the first that was drawn.
    for number in (ends - starts).norm(dim=-1).argsort(descending=True, stable=True).tolist():
        curve = _curve(starts[number], bends[number], ends[number], views)
        if clearance(room, curve).min() >= CLEARANCE:
            return curve
    return free[:1].repeat(views, 1)


def _free_places(room: Room) -> torch.Tensor:
    """(N, 2) places (x, z) on a grid at which a camera may be."""
    x, z = (torch.arange(-extent / 2, extent / 2, STEP, dtype=torch.float64) for extent in (room.size[0], room.size[2]))
    grid = torch.stack(torch.meshgrid(x, z, indexing="ij"), dim=-1).view(-1, 2)
    # In parts that stay in the cache, which is quicker.
    free = grid[torch.cat([clearance(room, part) for part in grid.split(128)]) >= CLEARANCE]
    if not len(free):
        raise ValueError(f"The room has no place that is {CLEARANCE} m away from everything.")
    return free


def _curve(start: torch.Tensor, bend: torch.Tensor, end: torch.Tensor, views: int) -> torch.Tensor:
    """(views, 2) points of the parabola that leaves `start` and reaches `end` in the directions from and to `bend`."""
    along = torch.linspace(0, 1, views, dtype=torch.float64)[:, None]
    return (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end


def _yaws(room: Room, rng: Random, places: torch.Tensor) -> torch.Tensor:
    """(views,) degrees that turn slowly: of several turns the one that never looks at a wall from near."""
    along = torch.linspace(0, 1, len(places), dtype=torch.float64)
    eased = along**2 * (3 - 2 * along)
    turns = [rng.uniform(-180, 180) + rng.choice((-1, 1)) * rng.uniform(*TURN) * eased for _ in range(LOOKS)]
    return turns[int(_to_wall(room, places, torch.stack(turns)).amin(-1).argmax())]


def _to_wall(room: Room, places: torch.Tensor, yaws: torch.Tensor) -> torch.Tensor:
    """(L, N) metres from (N, 2) places in the directions (L, N), in degrees, to the walls."""
    radians = yaws.deg2rad()
    ahead = torch.stack((radians.sin(), radians.cos()), dim=-1)
    half = torch.tensor([room.size[0], room.size[2]], dtype=torch.float64) / 2
    return ((half - places * ahead.sign()) / ahead.abs().clamp(min=1e-9)).amin(-1)
