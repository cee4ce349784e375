"""The panorama's pixels: where they look, and views cut out of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sphere import cameras_at, smooth, view_directions
from wall import along_a_wall

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_from_directions, equirect_to_views


def panorama(width: int = 512) -> torch.Tensor:
    return smooth(equirect_directions(width, width // 2))[None].float()


def spot(longitude_deg: float, latitude_deg: float, width: int = 256) -> torch.Tensor:
    """A black panorama with one bright spot."""
    longitude, latitude = math.radians(longitude_deg), math.radians(latitude_deg)
    level = math.cos(latitude)
    centre = torch.tensor([level * math.sin(longitude), -math.sin(latitude), level * math.cos(longitude)])
    bright = (equirect_directions(width, width // 2) @ centre.double() > math.cos(math.radians(4))).float()
    return bright[None, :, :, None].repeat(1, 1, 1, 3)


def brightest(view: torch.Tensor) -> tuple[float, float]:
    """Centroid (x, y) of a (h, w, 3) view's light, -1..1."""
    light = view.mean(-1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, view.shape[0]), torch.linspace(-1, 1, view.shape[1]), indexing="ij")
    return ((x * light).sum() / light.sum()).item(), ((y * light).sum() / light.sum()).item()


def test_rows_and_columns_look_where_they_should():
    right, down, forward = equirect_directions(64, 32).unbind(-1)
    assert (down[0] < -0.99).all() and (down[-1] > 0.99).all()
    assert (forward[15:17, 31:33] > 0.99).all()
    assert (forward[15:17, [0, 63]] < -0.99).all()
    assert (right[15:17, 48] > 0.99).all() and (right[15:17, 15] < -0.99).all()


def test_directions_are_unit_vectors():
    torch.testing.assert_close(equirect_directions(30, 15).norm(dim=-1), torch.ones(15, 30, dtype=torch.float64))


def test_pixels_of_directions_are_the_pixels():
    y, x = torch.meshgrid(torch.arange(24), torch.arange(48), indexing="ij")
    pixels = equirect_from_directions(3.0 * equirect_directions(48, 24), 48)
    torch.testing.assert_close(pixels, torch.stack((x, y), dim=-1).double(), rtol=0, atol=1e-9)


def test_axes_meet_the_pixels_worked_out_by_hand():
    axes = torch.tensor([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, -1, 0], [0, 1, 0]], dtype=torch.float64)
    expected = torch.tensor([[49.5, 24.5], [74.5, 24.5], [24.5, 24.5], [49.5, -0.5], [49.5, 49.5]], dtype=torch.float64)
    torch.testing.assert_close(equirect_from_directions(axes, 100), expected)


@pytest.mark.parametrize(
    ("longitude", "latitude", "axis", "sign"), [(20, 0, 0, 1), (-20, 0, 0, -1), (0, 20, 1, -1), (0, -20, 1, 1)]
)
def test_what_is_to_the_right_or_above_appears_there(longitude, latitude, axis, sign):
    views, _ = equirect_to_views(spot(longitude, latitude), cameras_at([(0, 0)], 90, 64, 64))
    expected = [0.0, 0.0]
    expected[axis] = sign * math.tan(math.radians(20)) * 64 / 63
    assert brightest(views[0]) == pytest.approx(expected, abs=0.02)


def test_a_camera_turned_right_and_up_has_the_spot_there_in_its_middle():
    views, _ = equirect_to_views(spot(100, 50), cameras_at([(100, 50)], 60, 64, 64))
    assert brightest(views[0]) == pytest.approx((0, 0), abs=0.02)


@settings(max_examples=25, deadline=None)
@given(yaw=st.floats(-180, 180), pitch=st.floats(-90, 90), fov=st.floats(30, 130))
def test_views_show_the_sphere_wherever_they_look(yaw, pitch, fov):
    cameras = cameras_at([(yaw, pitch)], fov, 48, 36)
    views, _ = equirect_to_views(panorama(), cameras)
    torch.testing.assert_close(views.double(), smooth(view_directions(cameras)), rtol=0, atol=1.5e-3)


@pytest.mark.parametrize("angles", [(180, 0), (0, 90), (30, -90)])
def test_nothing_dark_comes_in_at_the_wrap_and_the_poles(angles):
    views, masks = equirect_to_views(torch.full((1, 64, 128, 3), 0.75), cameras_at([angles], 90, 100, 100))
    torch.testing.assert_close(views, torch.full_like(views, 0.75))
    torch.testing.assert_close(masks, torch.ones_like(masks))


@pytest.mark.parametrize(("pitch", "row"), [(89.99, 0), (-89.99, -1)])
def test_beyond_a_pole_lies_the_other_side(pitch, row):
    picture = torch.rand(1, 8, 16, 3, generator=torch.Generator().manual_seed(3))
    camera = cameras_at([(360 * (11 + 0.5) / 16 - 180, pitch)], 0.001, 3, 3)
    views, _ = equirect_to_views(picture, camera)
    between = (picture[0, row, 11] + picture[0, row, 11 - 8]) / 2
    torch.testing.assert_close(views[0, 1, 1], between, rtol=0, atol=2e-3)


def test_rolling_the_panorama_turns_the_cameras():
    picture = torch.rand(1, 32, 64, 3, generator=torch.Generator().manual_seed(0))
    rolled, _ = equirect_to_views(picture.roll(5, 2), cameras_at([(170, 20)], 90, 64, 64))
    turned, _ = equirect_to_views(picture, cameras_at([(170 - 360 * 5 / 64, 20)], 90, 64, 64))
    torch.testing.assert_close(rolled, turned, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("fov", "size", "limit"), [(90, 64, 0.01), (90, 128, 0.01), (90, 300, 0.01), (30, 116, 0.1)])
def test_a_fine_checkerboard_becomes_grey_in_coarser_views(fov, size, limit):
    y, x = torch.meshgrid(torch.arange(1024), torch.arange(2048), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].repeat(1, 1, 1, 3)
    views, _ = equirect_to_views(board, cameras_at([(33, 10)], fov, size, size))
    assert (views - 0.5).abs().max() < limit


def test_a_panorama_of_odd_height_is_averaged_too():
    y, x = torch.meshgrid(torch.arange(513), torch.arange(1026), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].repeat(1, 1, 1, 3)
    views, _ = equirect_to_views(board, cameras_at([(33, 10)], 90, 64, 64))
    assert (views - 0.5).abs().max() < 0.05


def test_views_finer_than_the_panorama_are_not_averaged():
    picture = torch.rand(1, 64, 128, 3, generator=torch.Generator().manual_seed(1))
    camera = cameras_at([(360 * 0.5 / 128, 180 * 0.5 / 64)], 10, 9, 9)
    views, _ = equirect_to_views(picture, camera)
    torch.testing.assert_close(views[0, 4, 4], picture[0, 31, 64], rtol=0, atol=1e-4)


def test_the_mask_is_read_like_a_colour():
    picture = panorama(256)
    views, masks = equirect_to_views(picture, ring(3, 80, 40, 30, 10), mask=picture[..., 1])
    torch.testing.assert_close(masks, views[..., 1])


def test_one_mask_serves_all_panoramas():
    mask = panorama(64)[..., 0]
    _, masks = equirect_to_views(torch.zeros(2, 32, 64, 3), ring(3, 80, 20, 20), mask)
    torch.testing.assert_close(masks[:3], masks[3:])


def test_views_come_panorama_by_panorama():
    pictures = torch.rand(2, 32, 64, 3, generator=torch.Generator().manual_seed(2))
    cameras = ring(3, 80, 20, 10)
    views, masks = equirect_to_views(pictures, cameras)
    assert views.shape == (6, 10, 20, 3) and masks.shape == (6, 10, 20)
    torch.testing.assert_close(views[3:], equirect_to_views(pictures[1:], cameras)[0])


def test_half_precision_and_alpha_are_taken():
    picture = panorama(128)
    given_alpha = torch.cat((picture, torch.zeros_like(picture[..., :1])), dim=-1).half()
    views, _ = equirect_to_views(given_alpha, ring(2, 80, 32, 32))
    assert views.dtype == torch.float32 and views.shape[-1] == 3
    torch.testing.assert_close(views, equirect_to_views(picture, ring(2, 80, 32, 32))[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("equirect", "mask", "message", "remedy"),
    [
        (torch.zeros(1, 32, 63, 3), None, "not 63 x 32 pixels, though nearly so. 64 x 32 would", "scale_to_two_to_one"),
        (torch.zeros(1, 30, 90, 3), None, "twice as wide as high, not 90 x 30", "pad_to_two_to_one"),
        (torch.zeros(1, 60, 90, 3), None, "twice as wide as high, not 90 x 60", "two_to_one"),
        (torch.zeros(1, 32, 64, 1), None, r"3 or 4 channels\), not \(1, 32, 64, 1\)", ""),
        (torch.full((1, 32, 64, 3), math.nan), None, "NaN", "nan_pictures"),
        (torch.zeros(1, 32, 64, 3), torch.full((1, 32, 64), math.nan), "NaN", "nan_mask"),
        (
            torch.zeros(1, 32, 64, 3),
            torch.zeros(1, 16, 32),
            r"\(1, 32, 64\) like the panorama, not \(1, 16, 32\)",
            "mask_size",
        ),
        (torch.zeros(1, 32, 64, 3), torch.zeros(1, 64, 64), r"not \(1, 64, 64\)", "unpainted_mask"),
    ],
)
def test_bad_panoramas_are_refused(equirect, mask, message, remedy):
    with pytest.raises(InputError, match=message) as raised:
        equirect_to_views(equirect, ring(4, 100, 16, 16), mask)
    assert raised.value.remedy == remedy


def test_cameras_in_different_places_cut_no_panorama():
    with pytest.raises(InputError, match="stand in different places"):
        equirect_to_views(torch.zeros(1, 32, 64, 3), along_a_wall(2))
