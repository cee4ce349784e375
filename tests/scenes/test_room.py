"""Random rooms: what the seed decides, and that what stands in them is in order."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from mvdiffusion_pack.scenes.room import Room, random_room

SEEDS = range(40)
SURFACES = {"ceiling", "door", "window", "picture"}


def same(one: Room, other: Room) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Room)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def furniture(room: Room) -> list[int]:
    """The things that stand on the floor."""
    return [thing for thing, name in enumerate(room.names) if thing > 2 and name not in SURFACES]


def outline(room: Room, thing: int) -> torch.Tensor:
    """(8 n, 3) corners of the boxes around a thing's primitives."""
    own = room.thing == thing
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    x, y, z = (signs * room.half_size[own][:, None]).unbind(-1)
    c, s = room.yaw[own].cos()[:, None], room.yaw[own].sin()[:, None]
    turned = torch.stack((c * x + s * z, y, c * z - s * x), dim=-1)
    return (room.centre[own][:, None] + turned).flatten(0, 1)


def test_the_seed_decides():
    assert same(random_room(3), random_room(3))
    assert not same(random_room(3), random_room(4))


def test_a_room_is_the_same_on_every_machine():
    room = random_room(0)
    assert room.size == pytest.approx((6.3776874061001925, 3.0063635223522422, 4.68228632332338), abs=1e-12)
    assert room.centre.sum().item() == pytest.approx(-115.81363018693287, abs=1e-9)
    assert room.names[-3:] == ("floor lamp with a pink shade", "teal chair", "wooden table")


@pytest.mark.parametrize("seed", SEEDS)
def test_size_and_pieces(seed: int):
    room = random_room(seed)
    width, height, length = room.size
    assert 3 <= width <= 7 and 2.4 <= height <= 3.2 and 3 <= length <= 7
    assert 4 <= len(furniture(room)) <= 10
    assert {"door", "window"} <= set(room.names)


@pytest.mark.parametrize("seed", SEEDS)
def test_furniture_stands_on_the_floor_inside_and_apart(seed: int):
    room = random_room(seed)
    half = torch.tensor([room.size[0], room.size[2]], dtype=torch.float64) / 2
    areas = []
    for thing in furniture(room):
        corners = outline(room, thing)
        assert corners[:, 1].max().abs() < 1e-9 and corners[:, 1].min() > -room.size[1]
        assert (corners[:, [0, 2]].abs() <= half).all()
        areas.append((corners[:, [0, 2]].amin(0), corners[:, [0, 2]].amax(0)))
    for number, (low, high) in enumerate(areas):
        for other_low, other_high in areas[:number]:
            assert (torch.maximum(low, other_low) >= torch.minimum(high, other_high)).any()
