"""Cameras: which way is up, and what they promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, pixel_grid, rotation_from_angles
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews

ANGLES = st.floats(-180, 180)


def test_yaw_turns_to_the_right_and_pitch_up():
    forward = torch.tensor([0, 0, 1], dtype=torch.float64)
    right, up = rotation_from_angles(90, 0) @ forward, rotation_from_angles(0, 90) @ forward
    torch.testing.assert_close(right, torch.tensor([1, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(up, torch.tensor([0, -1, 0], dtype=torch.float64))


def test_roll_turns_the_picture_clockwise():
    camera_right = torch.tensor([1, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(
        rotation_from_angles(0, 0, 90) @ camera_right, torch.tensor([0, 1, 0], dtype=torch.float64)
    )


@given(yaw=ANGLES, pitch=ANGLES, roll=ANGLES)
def test_rotations_are_rigid(yaw, pitch, roll):
    rotation = rotation_from_angles(yaw, pitch, roll)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation) > 0


@given(fov=st.floats(5, 175), width=st.integers(2, 999), height=st.integers(2, 999))
def test_field_of_view_spans_the_outer_edges_of_the_pixels(fov, width, height):
    focal, centre = (float(intrinsics_from_fov(fov, width, height)[0, column]) for column in (0, 2))
    left, right = -0.5, width - 0.5
    assert math.degrees(math.atan((right - centre) / focal) - math.atan((left - centre) / focal)) == pytest.approx(fov)


def test_pixel_grid_is_x_then_y():
    assert pixel_grid(5, 3).shape == (3, 5, 2)
    assert pixel_grid(5, 3)[2, 4].tolist() == [4, 2]


def test_nan_in_cameras_is_refused():
    cameras = ring(2, 90, 64, 64)
    poses = cameras.cam_to_world.clone()
    poses[1, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        Cameras(cameras.intrinsics, poses, 64, 64)


def test_cameras_check_what_they_promise():
    good = ring(2, 90, 64, 64)
    flat, scaled = good.intrinsics.clone(), good.cam_to_world.clone()
    flat[0, 0, 0] = 0
    scaled[1, :3, :3] *= 2
    with pytest.raises(InputError, match="focal lengths"):
        Cameras(flat, good.cam_to_world, 64, 64)
    with pytest.raises(InputError, match="not rigid"):
        Cameras(good.intrinsics, scaled, 64, 64)
    with pytest.raises(InputError, match=r"float64, not torch\.float32"):
        Cameras(good.intrinsics.float(), good.cam_to_world, 64, 64)


def test_rings_must_hold_all_views():
    cameras = ring(3, 90, 64, 64)
    with pytest.raises(InputError, match="4 views, but there are 3 cameras"):
        PanoramaViews(cameras.intrinsics, cameras.cam_to_world, 64, 64, (4,))
