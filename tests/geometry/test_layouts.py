"""Layouts: where their views look, in which order, and what all of them see together."""

from __future__ import annotations

import pytest
import torch
from sphere import psnr, smooth, view_directions

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.grid import edge_planes
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import cube, pitches_from_text, ring, rings, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.panorama.stitch import stitch

WHOLE = {
    "sphere": sphere(8, 90, 256, 256),
    "sphere, turned": sphere(8, 90, 256, 256, 77.7),
    "sphere, not square": sphere(9, 95, 320, 256),
    "three rings": rings(8, 90, 256, 256, 0, (0, 60, -60)),
    "cube": cube(256, 256),
    "cube, turned": cube(256, 256, 33.3),
}
whole = pytest.mark.parametrize("cameras", WHOLE.values(), ids=WHOLE)


def looks_at(cameras: Cameras) -> list[tuple[int, int]]:
    """(yaw, pitch) of each view in whole degrees, yaw in 0..359, 0 where it has none."""
    x, y, z = cameras.rotation[:, :, 2].round(decimals=9).unbind(-1)
    yaw, pitch = torch.atan2(x, z).rad2deg().round() % 360, torch.asin(-y).rad2deg().round()
    return list(zip(yaw.int().tolist(), pitch.int().tolist(), strict=True))


def test_ring_is_the_recorded_one():
    from golden_model import case

    cameras = ring(8, 90, 128, 128)
    torch.testing.assert_close(cameras.intrinsics, case("pano")["K"][0])
    torch.testing.assert_close(cameras.rotation, case("pano")["R"][0])


def test_ring_starts_at_its_yaw_and_goes_right():
    assert looks_at(ring(4, 90, 64, 64, start_yaw_deg=90, pitch_deg=30)) == [(90, 30), (180, 30), (270, 30), (0, 30)]


def test_sphere_is_a_level_ring_three_up_and_three_down_between_them():
    cameras = sphere(4, 90, 64, 64, 10)
    level = [(10, 0), (100, 0), (190, 0), (280, 0)]
    assert looks_at(cameras) == [*level, (10, 60), (130, 60), (250, 60), (70, -60), (190, -60), (310, -60)]
    assert cameras.rings == (4, 3, 3)


def test_rings_come_in_the_order_of_their_pitches():
    cameras = rings(2, 90, 64, 64, 20, (40, -30))
    assert looks_at(cameras) == [(20, 40), (200, 40), (20, -30), (200, -30)]
    assert cameras.rings == (2, 2)


def test_rings_of_one_pitch_are_a_ring():
    one, other = rings(5, 80, 128, 64, 7, (12,)), ring(5, 80, 128, 64, 7, 12)
    assert torch.equal(one.cam_to_world, other.cam_to_world) and one.rings == other.rings


def test_cube_is_front_right_back_left_up_down():
    cameras = cube(64, 64)
    assert looks_at(cameras) == [(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)]
    assert cameras.rings == ()


def test_faces_of_a_cube_join_where_cube_maps_join():
    """The front's upper edge is up's lower one, and its lower edge down's upper one: x to the right in all of them."""
    front, *_, up, down = view_directions(cube(64, 64))
    half_pixel = 0.06
    torch.testing.assert_close(front[0], up[-1], atol=half_pixel, rtol=0)
    torch.testing.assert_close(front[-1], down[0], atol=half_pixel, rtol=0)


@whole
def test_every_direction_lies_in_a_view(cameras: Cameras):
    distance = (edge_planes(cameras) @ equirect_directions(720, 360).flatten(0, 1).mT).amin(1).amax(0)
    assert distance.min() > (-1e-12 if not cameras.rings else 0.04)  # sine of the angle to the nearest edge


@whole
@pytest.mark.parametrize("blend", ["feather", "multiband", "nearest"])
@pytest.mark.parametrize("width", [1024, 1028])  # pixel centres beside the cube's edges, and on them
def test_smooth_sphere_comes_back_everywhere(cameras: Cameras, width: int, blend: str):
    equirect, coverage = stitch(smooth(view_directions(cameras)), cameras, width, blend)
    assert coverage.min() == 1
    known = smooth(equirect_directions(width, width // 2))
    for rows in (slice(0, width // 16), slice(width // 16, -width // 16), slice(-width // 16, None)):
        assert psnr(equirect[0, rows], known[rows]) >= 65
    assert psnr(equirect[0, :, [0, -1]], known[:, [0, -1]]) >= 65


@whole
def test_cut_and_joined_again_is_the_panorama(cameras: Cameras):
    panorama = smooth(equirect_directions(1024, 512))[None].float()
    views, _ = equirect_to_views(panorama, cameras)
    equirect, _ = stitch(views, cameras, 1024)
    assert psnr(equirect, panorama) >= 65


@pytest.mark.parametrize(
    ("text", "pitches"),
    [("0, 60, -60", (0, 60, -60)), ("30", (30,)), (" -12.5;\n90 , -90,", (-12.5, 90, -90))],
)
def test_pitches_are_numbers_with_commas_or_spaces_between(text, pitches):
    assert pitches_from_text(text) == pitches


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("", ""), (" ,", " ,"), ("0, up", "up"), ("91", "91"), ("nan", "nan"), ("0, -90.5", "-90.5"), ("inf", "inf")],
)
def test_what_are_no_pitches_is_refused(text, wrong):
    with pytest.raises(InputError, match=f"^pitches must be numbers.*not '{wrong}'$"):
        pitches_from_text(text)


@pytest.mark.parametrize("fov", [0.0, -10.0, 180.0, 200.0, float("nan")])
def test_field_of_view_outside_of_0_to_180_is_refused(fov):
    with pytest.raises(InputError, match=f"between 0 and 180.*{fov}"):
        ring(8, fov, 64, 64)


def test_infinite_yaw_is_refused():
    with pytest.raises(InputError, match=r"yaw.*inf"):
        ring(8, 90, 64, 64, start_yaw_deg=float("inf"))


@pytest.mark.parametrize("layout", [lambda: ring(0, 90, 64, 64), lambda: sphere(0, 90, 64, 64)], ids=["ring", "sphere"])
def test_ring_of_no_views_is_refused(layout):
    with pytest.raises(InputError, match="at least 1 view, not 0"):
        layout()


def test_cube_with_faces_that_are_not_square_is_refused():
    with pytest.raises(InputError, match="faces of a cube are square, not 64 x 32"):
        cube(64, 32)
