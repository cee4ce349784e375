"""Pictures, depth and things of a room: by torch, rays against all primitives at once, or by compiled code."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..geometry.cameras import Cameras
from . import traced
from .light import (
    AMBIENT,
    AT_THE_POINT,
    CORNER,
    CORNER_WIDTH,
    FALLOFF,
    FROM_ABOVE,
    GAMMA,
    LAMP,
    lamps,
    offsets,
)
from .rays import Primitives, first_hits, in_own_axes, unit
from .room import SHAPES, Room
from .textures import accent_share

ENGINES = ("auto", "torch", "numba")
PAIRS = {"cpu": 2**19, "device": 2**26}  # rays times primitives in one piece


@dataclass(frozen=True, eq=False)
class Rendering:
    """V views of a room, on the device that they were rendered on.

    images: (V, H, W, 3) float32 in 0..1, antialiased.
    depth: (V, H, W) float32, z in metres at the pixels' centres. things: (V, H, W) int64 places in `Room.names`, there.
    """

    images: torch.Tensor
    depth: torch.Tensor
    things: torch.Tensor


def render(
    room: Room,
    cameras: Cameras,
    samples: int = 3,
    device: torch.device | str = "cpu",
    pairs: int | None = None,
    engine: str = "auto",
) -> Rendering:
    """What cameras inside a room see. Each pixel is the mean of `samples` x `samples` rays spread over it.

    pairs: how many rays times primitives torch works on at once, about 100 bytes each; by default as suits the device.
    engine: "torch"; "numba", which renders on the CPU, on the calling thread and without the interpreter's lock; or
        "auto": numba on the CPU, where it is installed. Their pictures differ only where rays graze edges.
    Raises ValueError for cameras outside of the room, for less than one sample, and for what numba cannot do.
    """
    if samples < 1:
        raise ValueError(f"A pixel needs at least 1 sample, not {samples}.")
    _check_inside(room, cameras)
    device = torch.device(device)
    if _chosen(engine, device, samples) == "numba":
        return Rendering(*traced.trace(room, cameras, samples))
    return _rendered(room, cameras, samples, device, pairs or PAIRS["cpu" if device.type == "cpu" else "device"])


def _chosen(engine: str, device: torch.device, samples: int) -> str:
    """The engine that renders: torch or numba."""
    if engine not in ENGINES:
        raise ValueError(f"Rooms are rendered by {', '.join(ENGINES[:-1])} or {ENGINES[-1]}, not by {engine}.")
    fits = device.type == "cpu" and samples <= traced.MOST_SAMPLES
    if engine == "numba" and not fits:
        raise ValueError(
            f"numba renders on the CPU, with up to {traced.MOST_SAMPLES} x {traced.MOST_SAMPLES} samples a pixel, not "
            f"on {device} with {samples} x {samples}: choose the engine 'torch' or 'auto'."
        )
    if engine == "auto":
        return "numba" if fits and importlib.util.find_spec("numba") else "torch"
    return engine


def _rendered(room: Room, cameras: Cameras, samples: int, device: torch.device, pairs: int) -> Rendering:
    """The same by torch, in pieces of a picture."""
    primitives = Primitives.of(room, device)
    shape = (cameras.views, cameras.height, cameras.width)
    images = torch.empty((*shape, 3), device=device)
    depth, things = torch.empty(shape, device=device), torch.empty(shape, dtype=torch.int64, device=device)
    lamp = lamps(room.size[1], samples)[..., None].to(device, torch.float32)
    side = max(1, math.isqrt(pairs // (samples**2 * len(room.thing))))
    world_from_pixels = (cameras.rotation @ torch.linalg.inv(cameras.intrinsics)).to(device, torch.float32)
    origins = cameras.cam_to_world[:, :3, 3, None, None].to(device, torch.float32)
    for view, origin in enumerate(origins):
        for rows, columns in _tiles(cameras.height, cameras.width, side):
            here = (view, slice(*rows), slice(*columns))
            size = (rows[1] - rows[0], columns[1] - columns[0])
            at_centres = _directions(world_from_pixels[view], rows, columns, 1)
            z, hit = first_hits(primitives, origin, at_centres)
            depth[here], things[here] = z.view(size), primitives.thing[hit].view(size)
            rays = _directions(world_from_pixels[view], rows, columns, samples)
            z, hit = first_hits(primitives, origin, rays)
            colours = _shaded(primitives, room.size, lamp, origin + z * rays, hit)
            images[here] = colours.mean(1).view(3, *size).movedim(0, -1)
    return Rendering(images, depth, things)


def _tiles(height: int, width: int, side: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(first, end) rows and columns of the pieces of a picture."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield (top, min(top + side, height)), (left, min(left + side, width))


def _directions(
    world_from_pixels: torch.Tensor, rows: tuple[int, int], columns: tuple[int, int], samples: int
) -> torch.Tensor:
    """(3, samples^2, pixels) directions with z = 1 in the camera, so that a ray's parameter is its depth."""
    offset = offsets(samples).to(world_from_pixels)
    y = offset[:, None, None, None] + torch.arange(*rows).to(offset)[:, None]
    x = offset[:, None, None] + torch.arange(*columns).to(offset)
    x, y = torch.broadcast_tensors(x, y)
    # Written out: matrix products may be rounded to fewer bits on a device.
    parts = [a * x + b * y + c for a, b, c in world_from_pixels.unbind()]
    return torch.stack(parts).view(3, samples**2, -1)


def _shaded(
    primitives: Primitives,
    size: tuple[float, float, float],
    lamp: torch.Tensor,
    points: torch.Tensor,
    hit: torch.Tensor,
) -> torch.Tensor:
    """(3, S, n) colours as displayed of (3, S, n) points on the primitives that were hit there."""
    normal, u, v = _surface(primitives, points, hit)
    main, accent = primitives.colours[hit].movedim(-1, 0).unbind(-1)
    albedo = torch.lerp(main, accent, accent_share(primitives.texture[hit], u, v).expand_as(main))
    to_lamp = lamp - points
    square = (to_lamp**2).sum(0)
    facing = ((normal * to_lamp).sum(0) / square.sqrt()).clamp(min=0)
    lit = first_hits(primitives, lamp, -to_lamp)[0] > 1 - AT_THE_POINT
    ambient = AMBIENT * (1 - FROM_ABOVE * normal[1]) * _openness(size, points, normal)
    light = ambient + LAMP * facing * lit / (1 + FALLOFF * square)
    light += primitives.glow[hit] * (1 - light).clamp(min=0)
    return (albedo * light).clamp(0, 1) ** (1 / GAMMA)


def _surface(
    primitives: Primitives, points: torch.Tensor, hit: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normals (3, ...) and places on the surface u, v (...), in the texture's periods."""
    centre, half_size, turn = (
        part[hit].movedim(-1, 0) for part in (primitives.centre, primitives.half_size, primitives.turn)
    )
    shape, period = primitives.shape[hit], primitives.period[hit]
    own = torch.stack(in_own_axes(points - centre, turn, half_size))
    is_box, is_cylinder = shape == SHAPES.index("box"), shape == SHAPES.index("cylinder")
    flat = is_box | (is_cylinder & (own[1] ** 2 > own[0] ** 2 + own[2] ** 2))
    # The face of a box or a cylinder's end is the axis along which a point is farthest out.
    largest = own.abs().amax(0)
    face = own.where(own.abs() == largest, 0)
    outwards = torch.stack((own[0], own[1].masked_fill(is_cylinder, 0), own[2]))
    x, y, z = unit(face.where(flat, outwards) / half_size)
    c, s = turn
    metres, around = own * half_size, torch.atan2(own[0], -own[2]) * half_size[0]
    across = metres[2].where(x.abs() > 0.5, metres[0])
    v = metres[2].where(y.abs() > 0.5, metres[1])
    return torch.stack((c * x + s * z, y, c * z - s * x)), across.where(is_box, around) / period, v / period


def _openness(size: tuple[float, float, float], points: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """(...) share of the ambient light that reaches points: less beside walls, floor and ceiling."""
    half = points.new_tensor(size)[:, None, None] / 2
    middle = points.new_tensor([0, -size[1] / 2, 0])[:, None, None]
    least = (half - (points - middle).abs()).clamp(min=0)
    dark = CORNER * torch.exp(-least / CORNER_WIDTH) * (1 - normal.abs())
    return (1 - dark).prod(0)


def _check_inside(room: Room, cameras: Cameras) -> None:
    (width, height, length), (x, y, z) = room.size, cameras.cam_to_world[:, :3, 3].unbind(-1)
    inside = (x.abs() < width / 2) & (y < 0) & (y > -height) & (z.abs() < length / 2)
    if not inside.all():
        view = int((~inside).nonzero()[0, 0])
        raise ValueError(
            f"Camera {view} stands outside of the room, at {cameras.cam_to_world[view, :3, 3].tolist()}: rooms are "
            f"seen from inside, and this one reaches from -{width / 2:.2f}, -{height:.2f}, -{length / 2:.2f} to "
            f"{width / 2:.2f}, 0, {length / 2:.2f}."
        )
