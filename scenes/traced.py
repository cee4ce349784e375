"""A room traced in compiled code: what `tiles.trace` needs, as arrays."""

from __future__ import annotations

import numpy as np
import torch

from ..geometry.cameras import Cameras
from . import light, textures
from .room import Room

SHADES = 1024


def trace(room: Room, cameras: Cameras, samples: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, depth and things as `Rendering` has them."""
    from . import tiles

    shape = (cameras.views, cameras.height, cameras.width)
    images, depth = np.empty((*shape, 3), np.float32), np.empty(shape, np.float32)
    things = np.empty(shape, np.int64)
    lamps = light.lamps(room.size[1], samples).mT.numpy()
    low, high = lamps.min(0), lamps.max(0)
    c, s, (a, b, d) = room.yaw.cos(), room.yaw.sin(), room.half_size.mT
    o = torch.zeros_like(c)
    owns = torch.stack((c / a, o, -s / a, o, 1 / b, o, s / d, o, c / d), dim=-1).view(-1, 3, 3)
    worlds = cameras.rotation @ torch.linalg.inv(cameras.intrinsics)
    origins = cameras.cam_to_world[:, :3, 3]
    starts = torch.einsum("pij,vpj->vpi", owns, origins[:, None] - room.centre)
    rows = owns @ worlds[:, None]
    offsets = light.offsets(samples)
    planes = torch.cartesian_prod(offsets, offsets).flip(-1).view(-1, 2)
    middle = len(planes) // 2
    if samples % 2 == 0:
        middle = len(planes)
        planes = torch.cat((planes, torch.zeros(1, 2, dtype=torch.float64)))
    display = np.linspace(0, 1, SHADES + 1) ** (2 / light.GAMMA)
    f = lambda x: np.ascontiguousarray(np.asarray(x), np.float32)
    turns = torch.stack((c, s), dim=-1)
    primitives = (
        f(owns),
        f(room.centre),
        room.shape.int().numpy(),
        room.thing.numpy(),
        f(room.half_size),
        f(turns),
        f(room.colours**light.GAMMA),
        f(room.period),
        f(room.glow),
        room.texture.int().numpy(),
    )
    numbers = f([light.AMBIENT, light.LAMP, light.FALLOFF, light.FROM_ABOVE, light.CORNER, light.CORNER_WIDTH])
    lighting = (
        f([(low + high) / 2, (high - low) / 2]),
        f(lamps),
        f(room.size),
        tuple(numbers),
        np.float32(1 - light.AT_THE_POINT),
        f(display),
    )
    patterns = f(list(textures.COURSES.values())), f([*textures.SPREAD, textures.BRICKS]), f(textures.HILLS)
    side = max(2, 16 // samples)
    tiles.trace(
        primitives,
        (f(starts), f(rows), f(origins), f(worlds)),
        lighting,
        patterns,
        f(planes),
        samples**2,
        middle,
        side,
        images,
        depth,
        things,
    )
    return tuple(torch.from_numpy(x) for x in (images, depth, things))
