"""Viewpoints: free, at eye level, decided by the seed; panoramas are taken from there."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.scenes.furniture import Finish, Piece, on
from mvdiffusion_pack.scenes.paths import clearance
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import Room, random_room
from mvdiffusion_pack.scenes.viewpoints import AMPLE, panorama_cameras, viewpoint

GREY = Finish((0.5, 0.5, 0.5))


def free(room: Room, place: torch.Tensor) -> float:
    return clearance(room, place[None, [0, 2]]).item()


@pytest.mark.parametrize("seed", range(12))
def test_there_is_room_around_it_at_eye_level(seed: int):
    room = random_room(seed)
    place = viewpoint(room, 100 + seed)
    assert place.dtype == torch.float64 and place.shape == (3,)
    assert free(room, place) >= AMPLE and 1.4 <= -place[1] <= 1.6


def test_the_seed_decides_and_places_are_spread():
    room = random_room(0)
    assert torch.equal(viewpoint(room, 5), viewpoint(room, 5))
    places = torch.stack([viewpoint(room, seed) for seed in range(30)])
    assert len(places.unique(dim=0)) == 30
    assert (places.std(0) > torch.tensor([0.3, 0.03, 0.3])).all()


def test_in_a_narrow_room_it_is_the_freest_of_many():
    room = Room.of((1.0, 2.5, 1.0), [Piece("cup", [on("box", 0.45, 0, 0.45, (0.1, 0.1, 0.1), GREY)])])
    assert min(free(room, viewpoint(room, seed)) for seed in range(8)) > 0.33


def test_a_full_room_has_none():
    room = Room.of((2.0, 2.5, 2.0), [Piece("block", [on("box", 0, 0, 0, (1.99, 1, 1.99), GREY)])])
    with pytest.raises(ValueError, match="no place to stand"):
        viewpoint(room, 0)


def test_panoramas_are_rings_at_the_viewpoint():
    room = random_room(2)
    cameras, level = panorama_cameras(room, 7, 6, 80.0, 24, 16, 30.0), ring(6, 80.0, 24, 16, 30.0)
    assert torch.equal(cameras.rotation, level.rotation) and torch.equal(cameras.intrinsics, level.intrinsics)
    assert torch.equal(cameras.cam_to_world[:, :3, 3], viewpoint(room, 7).expand(6, 3))
    assert (cameras.width, cameras.height, cameras.rings) == (24, 16, (6,)) and cameras.in_one_point
    assert render(room, cameras, 1).depth.min() > 0.3
