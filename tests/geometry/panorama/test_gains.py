"""Views and photos of different brightness: how near levelling brings them to the picture that all of them are of."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sphere import cameras_at, psnr, view_directions

from mvdiffusion_pack.geometry.cameras import Cameras, rotation_from_angles
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import cube, ring, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions
from mvdiffusion_pack.geometry.panorama.gains import photo_gains, view_gains
from mvdiffusion_pack.geometry.panorama.source import source_camera
from mvdiffusion_pack.geometry.panorama.stitch import Overlay, stitch
from mvdiffusion_pack.geometry.pictures import view_planes

RING = ring(8, 90, 128, 128)
WIDTH = 512


def shown(directions: torch.Tensor) -> torch.Tensor:
    """(..., 3) colours in 0.2..0.7 with some detail, smooth over the poles too; no gain in 0.8..1.25 clips them."""
    return 0.45 + 0.25 * torch.sin(7 * directions).float()


def scattered_gains(views: int, channels: int = 1) -> torch.Tensor:
    """(V, 1, 1, channels) in 0.8..1.25, both ends among them; their geometric mean per channel is 1."""
    share = torch.rand(views, channels, generator=torch.Generator().manual_seed(5)).argsort(0) / (views - 1)
    return torch.exp((2 * share - 1) * math.log(1.25))[:, None, None]


def quality(equirect: torch.Tensor, coverage: torch.Tensor) -> float:
    """PSNR of a panorama against the known one, up to one factor."""
    equirect, expected = (
        picture[coverage > 0] for picture in (equirect, shown(equirect_directions(WIDTH, WIDTH // 2))[None])
    )
    factor = (equirect * expected).sum() / equirect.square().sum()
    return psnr(factor * equirect, expected)


def largest_step(equirect: torch.Tensor) -> float:
    """The largest difference of (H, W, 3) pixels side by side within 30 degrees of the horizon, over the wrap, too."""
    middle = equirect[len(equirect) // 3 : -len(equirect) // 3]
    return (middle - middle.roll(1, 1)).abs().max().item()


@pytest.mark.parametrize("blend", ["feather", "multiband"])
@pytest.mark.parametrize(
    "cameras", [RING, sphere(8, 90, 128, 128), ring(8, 60, 128, 128)], ids=["ring", "sphere", "60"]
)
def test_the_known_sphere_comes_back_up_to_one_factor(cameras, blend):
    views = shown(view_directions(cameras)) * scattered_gains(cameras.views)
    before, after = (quality(*stitch(views, cameras, WIDTH, blend, level=level)) for level in (False, True))
    assert before < 30
    assert after > 55


@pytest.mark.parametrize("blend", ["feather", "multiband", "nearest"])
def test_seams_of_gains_go(blend):
    views = torch.full((8, 128, 128, 3), 0.5) * scattered_gains(8)
    before, after = (largest_step(stitch(views, RING, WIDTH, blend, level=level)[0][0]) for level in (False, True))
    assert before > 0.004
    assert after < 0.001


def test_each_channel_has_its_gain():
    gains = scattered_gains(8, 3)
    views = view_planes(shown(view_directions(RING)) * gains, RING)
    torch.testing.assert_close(view_gains(views, RING)[..., 0, 0], 1 / gains[:, 0, 0], rtol=0.02, atol=0)


def test_what_clipped_says_nothing():
    gains = scattered_gains(8)
    views = (1.8 * shown(view_directions(RING)) * gains).clamp(0, 1)
    share = (views == 1).float().mean((1, 2))
    assert share.max() > 0.4 and share.min() > 0.05
    levelled = view_gains(view_planes(views, RING), RING)[..., 0, 0] * gains[:, 0, 0]
    torch.testing.assert_close(levelled / levelled.mean(0), torch.ones(8, 3), rtol=0.02, atol=0)


def test_dark_overlaps_count_little():
    """Views 0 and 2 disagree by a factor of 2 in the dark alone: it is left there, and not spread over all three."""
    cameras = ring(3, 150, 64, 64)
    directions = view_directions(cameras)
    dark = torch.atan2(directions[..., 0], directions[..., 2]).rad2deg().add(60).abs() < 30
    views = torch.where(dark, torch.tensor([0.02, 0.5, 0.04])[:, None, None], 0.5)[:, None].float()
    torch.testing.assert_close(view_gains(views, cameras), torch.ones(3, 1, 1, 1), rtol=0.02, atol=0)


def test_poles_are_places_like_any_other():
    cameras = ring(8, 90, 64, 64)
    over_poles = cameras.cam_to_world.clone()
    over_poles[:, :3, :3] = rotation_from_angles(0, 0, 90) @ cameras.rotation
    views = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(6))  # that disagree
    turned = view_gains(views, replace(cameras, cam_to_world=over_poles))
    torch.testing.assert_close(turned, view_gains(views, cameras), rtol=0.01, atol=0)


def test_the_whole_gets_neither_lighter_nor_darker():
    views = torch.rand(8, 128, 128, 3, generator=torch.Generator().manual_seed(1)) * scattered_gains(8, 3) * 0.7
    gains = view_gains(view_planes(views, RING), RING)
    torch.testing.assert_close(gains.log().mean(0), torch.zeros(3, 1, 1), rtol=0, atol=1e-3)


def test_groups_of_views_that_do_not_meet_are_levelled_apart():
    cameras = cameras_at([(0, 0), (40, 0), (180, 0), (220, 0)], 60, 64, 64)
    views = torch.tensor([0.4, 0.5, 0.2, 0.25])[:, None, None, None].expand(-1, 3, 64, 64)
    levelled = (views * view_gains(views, cameras))[:, 0, 0, 0]
    expected = torch.tensor([0.2, 0.2, 0.05, 0.05]).sqrt()
    torch.testing.assert_close(levelled, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("cameras", [ring(1, 90, 32, 32), cube(64, 64), cameras_at([(0, 0), (120, 0)], 90, 32, 32)])
def test_views_that_overlap_nothing_stay_as_they_are(cameras):
    views = torch.rand(cameras.views, cameras.height, cameras.width, 3, generator=torch.Generator().manual_seed(2))
    for blend in ("feather", "multiband"):
        torch.testing.assert_close(
            stitch(views, cameras, 256, blend, level=True), stitch(views, cameras, 256, blend), rtol=0, atol=0
        )


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_black_or_white_views_stay_as_they_are(grey):
    views = torch.full((8, 32, 32, 3), grey)
    assert torch.equal(stitch(views, RING, 256, level=True)[0], stitch(views, RING, 256)[0])


def test_one_black_view_is_left_black_and_out_of_account():
    views = torch.full((8, 3, 32, 32), 0.5).index_fill(0, torch.tensor(3), 0.0)
    torch.testing.assert_close(view_gains(views, RING), torch.ones(8, 3, 1, 1))


def test_panoramas_are_levelled_apart():
    first, second = (shown(view_directions(RING)) * gains for gains in (scattered_gains(8), scattered_gains(8).flip(0)))
    together, _ = stitch(torch.cat((first, second)), RING, WIDTH, level=True)
    torch.testing.assert_close(together[1:], stitch(second, RING, WIDTH, level=True)[0], rtol=0, atol=1e-5)


def test_nothing_leaves_what_a_picture_can_hold():
    views = torch.rand(8, 128, 128, 3, generator=torch.Generator().manual_seed(3)) * scattered_gains(8)
    overlay = Overlay(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4)) * 0.5, photo_camera())
    equirect, _ = stitch(views.clamp(0, 1), RING, WIDTH, "multiband", overlay=overlay, level=True)
    assert equirect.min() >= 0 and equirect.max() <= 1


def photo_camera(yaw_deg: float = 20.0, pitch_deg: float = 10.0) -> Cameras:
    return source_camera(64, 48, RING, yaw_deg, pitch_deg, 5, 60)


@pytest.mark.parametrize("background", [None, torch.full((1, 64, 128, 3), 0.5)])
@pytest.mark.parametrize("yaw", [20, 180])
def test_a_photo_is_levelled_to_the_panorama_under_it(background, yaw):
    views, overlay = torch.full((8, 64, 64, 3), 0.5), Overlay(torch.full((1, 48, 64, 3), 0.65), photo_camera(yaw))
    before, after = (
        stitch(views, RING, WIDTH, background=background, overlay=overlay, level=level)[0][0] for level in (False, True)
    )
    assert before.max() == pytest.approx(0.65)
    assert largest_step(before) > 0.01
    assert after.max() < 0.501
    assert largest_step(after) < 0.001


def test_a_photo_over_a_background_alone_is_levelled_to_that():
    overlay, below = Overlay(torch.full((1, 48, 64, 3), 0.65), photo_camera(0, 85)), torch.full((1, 64, 128, 3), 0.5)
    equirect, _ = stitch(torch.full((8, 64, 64, 3), 0.5), RING, WIDTH, background=below, overlay=overlay, level=True)
    assert (equirect - 0.5).abs().max() < 0.001


def test_a_tinted_photo_keeps_its_detail_and_loses_its_tint():
    camera = photo_camera()
    photo = shown(view_directions(camera)) * torch.tensor([1.25, 1.0, 0.8])
    panorama = shown(equirect_directions(WIDTH, WIDTH // 2))[None]
    gains = photo_gains(Overlay(photo, camera), panorama)
    torch.testing.assert_close(gains.flatten(), torch.tensor([0.8, 1.0, 1.25]), rtol=0.02, atol=0)


def test_each_panorama_levels_the_one_photo_to_itself():
    views = torch.tensor([0.4, 0.6]).repeat_interleave(8)[:, None, None, None].expand(-1, 64, 64, 3)
    overlay = Overlay(torch.full((1, 48, 64, 3), 0.5), photo_camera())
    equirect, coverage = stitch(views, RING, WIDTH, overlay=overlay, level=True)
    for panorama, seen, grey in zip(equirect, coverage, (0.4, 0.6), strict=True):
        assert (panorama[seen > 0] - grey).abs().max() < 0.001


@pytest.mark.parametrize(("photo_gain", "panorama_gain"), [(1.2, 1.6), (1.6, 1.2)])
def test_what_clipped_in_photo_or_panorama_says_nothing_of_the_photo(photo_gain, panorama_gain):
    camera = photo_camera()
    photo = (photo_gain * shown(view_directions(camera))).clamp_max(1)
    panorama = (panorama_gain * shown(equirect_directions(256, 128))).clamp_max(1)
    gains = photo_gains(Overlay(photo, camera), panorama[None]).flatten()
    torch.testing.assert_close(gains, torch.full((3,), panorama_gain / photo_gain), rtol=0.01, atol=0)


def test_the_pole_under_a_photo_is_a_place_like_any_other():
    photo, panorama = (
        torch.rand(1, 6, 8, 3, generator=torch.Generator().manual_seed(7)),
        torch.full((1, 256, 512, 3), 0.5),
    )
    level, upwards = (photo_gains(Overlay(photo, photo_camera(0, pitch)), panorama) for pitch in (0, 90))
    torch.testing.assert_close(upwards, level, rtol=0.002, atol=0)


def test_a_photo_half_over_nothing_is_levelled_to_what_there_is():
    overlay = Overlay(torch.full((1, 48, 64, 3), 0.65), photo_camera(0, 50))
    equirect, coverage = stitch(torch.full((8, 64, 64, 3), 0.5), RING, WIDTH, overlay=overlay, level=True)
    assert (equirect[coverage > 0] - 0.5).abs().max() < 0.001


def test_a_photo_over_nothing_stays_as_it_is():
    views, photo = torch.full((1, 64, 64, 3), 0.5), torch.full((1, 48, 64, 3), 0.65)
    overlay = Overlay(photo, photo_camera(180))
    equirect = stitch(views, ring(1, 90, 64, 64), WIDTH, overlay=overlay, level=True)[0]
    assert torch.equal(equirect, stitch(views, ring(1, 90, 64, 64), WIDTH, overlay=overlay)[0])


def test_a_photo_between_pixels_is_refused_as_without():
    overlay = Overlay(torch.zeros(1, 32, 32, 3), source_camera(32, 32, RING, 0.1, fov_deg=0.01))
    with pytest.raises(InputError, match=r"^the source touches no pixel"):
        stitch(torch.zeros(8, 32, 32, 3), RING, 128, overlay=overlay, level=True)


def test_nan_is_refused_as_without():
    with pytest.raises(InputError, match="NaN"):
        stitch(torch.full((8, 32, 32, 3), math.nan), RING, 128, level=True)
