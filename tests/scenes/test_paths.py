"""Walks: inside, away from everything, smooth."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.scenes.paths import CLEARANCE, clearance, walk
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import random_room

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_keeps_away_from_walls_and_things(seed: int):
    """By points on the boxes around all primitives that reach lower than the eye."""
    room = random_room(seed)
    cameras = walk(room, seed, 16, 32, 24)
    places = cameras.cam_to_world[:, [0, 2], 3]
    half = torch.tensor([room.size[0], room.size[2]], dtype=torch.float64) / 2
    assert (places.abs() <= half - CLEARANCE + 1e-9).all()
    # Points all over each primitive, seen from above; those outside of the room belong to its walls.
    steps = torch.linspace(-1, 1, 21, dtype=torch.float64)
    x, z = (torch.cartesian_prod(steps, steps) * room.half_size[:, None, [0, 2]]).unbind(-1)
    c, s = room.yaw.cos()[:, None], room.yaw.sin()[:, None]
    points = room.centre[:, None, [0, 2]] + torch.stack((c * x + s * z, c * z - s * x), dim=-1)
    standing = (room.thing > 2) & (room.centre[:, 1] + room.half_size[:, 1] > -2)
    assert torch.cdist(places, points[standing].flatten(0, 1)).min() >= CLEARANCE - 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_is_smooth(seed: int):
    cameras = walk(random_room(seed), seed, 24, 32, 24)
    steps = cameras.cam_to_world[:, :3, 3].diff(dim=0).norm(dim=-1)
    turns = (cameras.rotation[1:].mT @ cameras.rotation[:-1]).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert 0.2 < steps.sum() and steps.max() < 0.6
    assert ((turns - 1) / 2).clamp(-1, 1).acos().rad2deg().max() < 12


def test_a_walk_is_decided_by_its_seed():
    room = random_room(0)
    one, same, other = (walk(room, seed, 4, 32, 24).cam_to_world for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_walk_is_the_same_on_every_machine():
    poses = walk(random_room(1), 8, 24, 32, 24).cam_to_world
    expected = torch.tensor(
        [[-0.4687284882, -1.4820279314, -0.0275492380], [0.5312715118, -1.4820279314, 2.6724507620]]
    )
    torch.testing.assert_close(poses[[0, -1], :3, 3], expected.double(), atol=1e-6, rtol=0)
    assert poses.sum().item() == pytest.approx(16.21358268921303, abs=1e-6)


def test_what_a_walk_sees_is_not_nearer_than_its_clearance_at_eye_level():
    room = random_room(5)
    cameras = walk(room, 3, 3, 31, 23)
    assert render(room, cameras, 1).depth[:, 11].min() >= CLEARANCE * 0.8  # z is shorter than the ray


def test_clearance_of_places():
    room = random_room(0)
    half = torch.tensor([room.size[0], room.size[2]], dtype=torch.float64) / 2
    inside_a_thing = room.centre[room.thing == room.names.index("bookshelf")][:, [0, 2]].mean(0)
    beside_a_wall, within = clearance(room, torch.stack((half * torch.tensor([1, 0]), inside_a_thing)))
    assert beside_a_wall <= 0 and within <= 0.001


def test_no_views_are_refused():
    with pytest.raises(ValueError, match="at least 1 view"):
        walk(random_room(0), 0, 0, 32, 24)
