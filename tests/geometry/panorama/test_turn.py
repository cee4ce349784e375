"""Panoramas that are turned: which way, over the wrap and the poles, and without loss where none is needed."""

from __future__ import annotations

import pytest
import torch
from sphere import cameras_at, psnr, smooth, view_directions

from mvdiffusion_pack.geometry.cameras import rotation_from_angles
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views, turn_panoramas
from mvdiffusion_pack.geometry.panorama.placing import turned

ANGLES = [(0, 0, 0), (90, 0, 0), (-33.3, 0, 0), (0, 40, 0), (0, 0, 25), (20, 180, 0), (130, -70, 160)]


def panorama(height: int = 90) -> torch.Tensor:
    return smooth(equirect_directions(2 * height, height)).float()[None]


@pytest.mark.parametrize("angles", ANGLES, ids=str)
def test_each_direction_shows_what_the_turned_one_showed(angles):
    rotation = rotation_from_angles(*angles)
    expected = smooth(equirect_directions(180, 90) @ rotation.mT)
    assert (turn_panoramas(panorama(), rotation)[0] - expected).abs().max() < 2e-3


@pytest.mark.parametrize(("yaw", "pitch"), [(30, 0), (-100, 20), (75, -60)])
def test_new_middle_is_the_view_of_these_angles(yaw, pitch):
    """As Panorama Cameras count them: yaw to the right, pitch up."""
    view = cameras_at([(yaw, pitch)], 40, 32, 32)
    front = cameras_at([(0, 0)], 40, 32, 32)
    turned_panorama = turn_panoramas(panorama(), rotation_from_angles(yaw, pitch))
    found, expected = equirect_to_views(turned_panorama, front)[0], equirect_to_views(panorama(), view)[0]
    assert psnr(found, expected) > 55
    assert psnr(found[0], smooth(view_directions(view))[0]) > 50


def test_clockwise_roll_brings_the_right_side_down():
    """The camera turned clockwise sees on its right what was below."""
    rolled = turn_panoramas(panorama(), rotation_from_angles(0, 0, 90))[0]
    right = rolled[45, 135]
    assert torch.allclose(right, smooth(torch.tensor([0.0, 1, 0])), atol=0.03)


def test_turn_by_whole_columns_loses_nothing():
    noise = torch.rand(2, 20, 40, 3, generator=torch.Generator().manual_seed(0))
    turned_noise = turn_panoramas(noise, rotation_from_angles(27, 0))  # three columns
    assert torch.equal(turned_noise, noise.roll(-3, dims=2))
    assert torch.equal(turn_panoramas(turned_noise, rotation_from_angles(-27, 0)), noise)


def test_turn_and_turn_back_is_nearly_the_same():
    rotation = rotation_from_angles(50, 30, -20)
    again = turn_panoramas(turn_panoramas(panorama(), rotation), rotation.mT)
    assert psnr(again, panorama()) > 50


def test_covered_edges_do_not_darken():
    coverage = torch.zeros(1, 90, 180)
    coverage[:, 20:60, 30:140] = 1
    white = coverage[..., None].repeat(1, 1, 1, 3)
    pictures, covers = turned(white, rotation_from_angles(20, 15, 5), coverage)
    assert (covers > 0.01).any() and ((covers > 0.01) & (covers < 0.99)).any()
    assert pictures[covers > 0.01].min() > 0.999
    assert not pictures[covers == 0].any()


def test_no_coverage_is_a_whole_one():
    pictures, covers = turned(panorama(), rotation_from_angles(10, 20), None)
    assert covers.shape == pictures.shape[:3] and bool(covers.all())
