"""Rendering by compiled code: a room and its cameras in the arrays that `compiled.tiles` works on."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..geometry.cameras import Cameras
from .light import GAMMA, lamps, offsets
from .room import Room

LARGEST_SIDE = 16  # pixels of a tile: in a larger one too many primitives are seen somewhere
MOST_RAYS = 400  # of a tile: 8 x 8 pixels of 2 x 2 samples and their middles are 320
MOST_SAMPLES = math.isqrt(MOST_RAYS - 1)


def trace(room: Room, cameras: Cameras, samples: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, depth and things as `render.Rendering` has them, of at most MOST_SAMPLES^2 samples a pixel."""
    from .compiled import tiles  # imports numba, and once takes seconds to compile

    shape = (cameras.views, cameras.height, cameras.width)
    images, depth = np.empty((*shape, 3), np.float32), np.empty(shape, np.float32)
    things = np.empty(shape, np.int64)
    own_from_world = _own_from_world(room)
    lamp = lamps(room.size[1], samples).mT
    tiles.trace(
        _primitives(room, own_from_world),
        _views(room, cameras, own_from_world),
        _floats(_lamps(room, lamp, own_from_world)),
        _grid(samples, lamp),
        _floats(room.size),
        images,
        depth,
        things,
    )
    return torch.from_numpy(images), torch.from_numpy(depth), torch.from_numpy(things)


def _floats(numbers) -> np.ndarray:
    return torch.as_tensor(numbers).to(torch.float32).contiguous().numpy()


def _own_from_world(room: Room) -> torch.Tensor:
    """(P, 3, 3) from the world's directions to each primitive's own axes and half sizes."""
    c, s, zero, one = room.yaw.cos(), room.yaw.sin(), torch.zeros_like(room.yaw), torch.ones_like(room.yaw)
    turns = torch.stack((c, zero, -s, zero, one, zero, s, zero, c), dim=-1).view(-1, 3, 3)
    return turns / room.half_size[..., None]


def _primitives(room: Room, own_from_world: torch.Tensor) -> tuple[np.ndarray, ...]:
    return (
        room.shape.contiguous().numpy(),
        _floats(own_from_world),
        _floats(room.centre),
        room.thing.contiguous().numpy(),
        _floats(room.half_size),
        _floats(torch.stack((room.yaw.cos(), room.yaw.sin()), dim=-1)),
        _floats(room.colours**GAMMA),
        _floats(room.period),
        _floats(room.glow),
        room.texture.contiguous().numpy(),
    )


def _views(room: Room, cameras: Cameras, own_from_world: torch.Tensor) -> tuple[np.ndarray, ...]:
    """Each camera's place (V, P, 3) in each primitive's own axes, and (V, P, 3, 3) from pixels (x, y, 1) to directions
    there; then place (V, 3) and (V, 3, 3) directions in the world.
    """
    world_from_pixels = cameras.rotation @ torch.linalg.inv(cameras.intrinsics)
    places = cameras.cam_to_world[:, :3, 3]
    own_places = own_from_world @ (places[:, None] - room.centre)[..., None]
    own_from_pixels = own_from_world @ world_from_pixels[:, None]
    return _floats(own_places[..., 0]), _floats(own_from_pixels), _floats(places), _floats(world_from_pixels)


def _grid(samples: int, lamp: torch.Tensor) -> tuple[np.ndarray, np.ndarray, int, int, int]:
    """(S, 2) shifts x, y of the S rays of a pixel and (S, 3) where the lamp is for each; how many of them make colours;
    which one goes through the pixel's middle; and how many pixels a tile is wide.
    """
    y, x = torch.meshgrid(offsets(samples), offsets(samples), indexing="ij")
    shifts, middle = torch.stack((x, y), dim=-1).view(-1, 2), samples**2 // 2
    if samples % 2 == 0:
        middle = samples**2
        shifts, lamp = torch.cat((shifts, torch.zeros_like(shifts[:1]))), torch.cat((lamp, lamp[:1]))
    side = min(LARGEST_SIDE, math.isqrt(MOST_RAYS // len(shifts)))
    return _floats(shifts), _floats(lamp), samples**2, middle, side


def _lamps(room: Room, lamp: torch.Tensor, own_from_world: torch.Tensor) -> torch.Tensor:
    """(P, 2, 3) middle and half size, in each primitive's own axes, of what the lamp's points (S, 3) lie in."""
    middle, half = (lamp.amax(0) + lamp.amin(0)) / 2, (lamp.amax(0) - lamp.amin(0)) / 2
    return torch.stack(
        ((own_from_world @ (middle - room.centre)[..., None])[..., 0], own_from_world.abs() @ half), dim=1
    )
