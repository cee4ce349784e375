"""Rays against the primitives of a room, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .light import GAMMA
from .room import SHAPES, Room

TINY = 1e-9  # in place of a direction's part that is 0

Axes = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # along x, y and z


@dataclass(frozen=True, eq=False)
class Primitives:
    """A room's primitives on a device, float32. turn: (P, 2) cosine and sine of the yaw; reach: (P,) around the centre.

    colours: linear, not as displayed.
    """

    shape: torch.Tensor
    centre: torch.Tensor
    half_size: torch.Tensor
    turn: torch.Tensor
    reach: torch.Tensor
    colours: torch.Tensor
    period: torch.Tensor
    glow: torch.Tensor
    texture: torch.Tensor
    thing: torch.Tensor

    @classmethod
    def of(cls, room: Room, device: torch.device) -> Primitives:
        turn, reach = torch.stack((room.yaw.cos(), room.yaw.sin()), dim=-1), room.half_size.norm(dim=-1)
        floating = (room.centre, room.half_size, turn, reach, room.colours**GAMMA, room.period, room.glow)
        return cls(
            room.shape.to(device),
            *(part.to(device, torch.float32) for part in floating),
            room.texture.to(device),
            room.thing.to(device),
        )


def first_hits(
    primitives: Primitives, origins: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far along each of (3, S, n) directions the first hit is, and the primitive that is hit there; (S, n) both.

    origins: broadcast to the directions. Where nothing is hit the distance is infinite.
    """
    near = _may_hit(primitives, origins, directions)
    groups = [(near & (primitives.shape == number)).nonzero()[:, 0] for number in range(len(SHAPES))]
    entries = [
        entry(*_rays_in_own_axes(primitives, group, origins, directions))
        for entry, group in zip((_box, _sphere, _cylinder), groups, strict=True)
        if len(group)
    ]
    distance, place = torch.cat(entries).min(dim=0)
    return distance, torch.cat(groups)[place]


def _may_hit(primitives: Primitives, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(P,) bool: which primitives' surrounding spheres meet the cone that holds all rays. Others are never hit."""
    rays = unit(directions.flatten(1))
    axis = unit(rays.mean(1))
    half_angle = (rays * axis[:, None]).sum(0).min().clamp(-1, 1).acos()
    starts = origins.flatten(1)
    start = starts.mean(1)
    reach = primitives.reach + (starts - start[:, None]).norm(dim=0).max()
    away = primitives.centre - start
    distance = away.norm(dim=-1)
    angle = ((away * axis).sum(-1) / distance.clamp(min=TINY)).clamp(-1, 1).acos()
    return (distance <= reach) | (angle <= half_angle + (reach / distance).clamp(max=1).asin() + 0.01)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """(3, ...) vectors of length 1. Several times as fast as torch's function, which wants the 3 last."""
    return vectors * (vectors * vectors).sum(0).clamp(min=TINY**2).rsqrt()


def _rays_in_own_axes(
    primitives: Primitives, group: torch.Tensor, origins: torch.Tensor, directions: torch.Tensor
) -> tuple[Axes, Axes]:
    """Rays in the own axes of each primitive of a group, in its half sizes: (primitives, S, n) per axis."""
    centre, half_size, turn = (
        part[group].mT[..., None, None] for part in (primitives.centre, primitives.half_size, primitives.turn)
    )
    return in_own_axes(origins[:, None] - centre, turn, half_size), in_own_axes(directions[:, None], turn, half_size)


def in_own_axes(vectors: torch.Tensor, turn: torch.Tensor, half_size: torch.Tensor) -> Axes:
    """(3, ...) vectors of the world in own axes that have (2, ...) turns, in (3, ...) half sizes."""
    (x, y, z), (c, s), (a, b, d) = vectors, turn, half_size
    return x * (c / a) - z * (s / a), y / b, x * (s / d) + z * (c / d)


def _slab(start: torch.Tensor, direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave -1..1 of one axis."""
    inverse = 1 / direction.where(direction.abs() > TINY, TINY)
    middle, half = -start * inverse, inverse.abs()
    return middle - half, middle + half


def _entry(enter: torch.Tensor, leave: torch.Tensor) -> torch.Tensor:
    """The distance at which rays come in from outside; infinite for those that do not."""
    return enter.masked_fill((enter > leave) | (enter <= 0), torch.inf)


def _box(start: Axes, direction: Axes) -> torch.Tensor:
    (x0, x1), (y0, y1), (z0, z1) = (_slab(*axis) for axis in zip(start, direction, strict=True))
    return _entry(torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1))


def _round(start: Sequence[torch.Tensor], direction: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave the unit circle or sphere of these axes, from the point nearest to its middle."""
    square = sum(d * d for d in direction).clamp(min=TINY**2)
    middle = -sum(o * d for o, d in zip(start, direction, strict=True)) / square
    left = 1 - sum((o + middle * d) ** 2 for o, d in zip(start, direction, strict=True))
    half = (left.clamp(min=0) / square).sqrt().masked_fill(left < 0, -torch.inf)
    return middle - half, middle + half


def _sphere(start: Axes, direction: Axes) -> torch.Tensor:
    return _entry(*_round(start, direction))


def _cylinder(start: Axes, direction: Axes) -> torch.Tensor:
    enter, leave = _round(start[::2], direction[::2])
    y0, y1 = _slab(start[1], direction[1])
    return _entry(torch.maximum(enter, y0), torch.minimum(leave, y1))
