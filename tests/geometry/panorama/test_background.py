"""A panorama behind the views: it shows where no view looks, and the views fade into it without an edge."""

from __future__ import annotations

import math

import pytest
import torch
from sphere import cameras_at, detailed, psnr, smooth, view_directions

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import cube, ring, rings, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, resize_panoramas
from mvdiffusion_pack.geometry.panorama.stitch import stitch

BLENDS = ["feather", "multiband", "nearest"]
RING = ring(8, 90, 128, 128)


def known(width: int, picture=smooth) -> torch.Tensor:
    """(1, width / 2, width, 3) panorama of a picture that is known in every direction."""
    return picture(equirect_directions(width, width // 2)).float()[None]


@pytest.mark.parametrize("blend", BLENDS)
def test_without_views_over_it_the_background_is_seen_as_it_is(blend):
    background = known(512, detailed)
    equirect, coverage = stitch(torch.zeros(8, 128, 128, 3), RING, 512, blend, background)
    assert 0.2 < coverage.mean() < 0.8
    assert torch.equal(equirect[coverage == 0], background[coverage == 0])


@pytest.mark.parametrize("blend", BLENDS)
def test_well_inside_a_view_nothing_of_the_background_is_seen(blend):
    views = smooth(view_directions(RING)).float()
    alone, _ = stitch(views, RING, 512, blend)
    before, _ = stitch(views, RING, 512, blend, torch.ones(1, 256, 512, 3))
    inside = slice(128 - 50, 128 + 50)  # within 35 degrees of the horizon, where the ring reaches 38 and more
    assert torch.equal(alone[:, inside], before[:, inside])


@pytest.mark.parametrize("blend", BLENDS)
def test_views_of_the_same_sphere_leave_no_trace_in_it(blend):
    equirect, _ = stitch(smooth(view_directions(RING)).float(), RING, 512, blend, known(512))
    assert (equirect - known(512)).abs().max() < 0.03


def test_views_fade_into_the_background_without_an_edge():
    equirect, _ = stitch(torch.ones(8, 128, 128, 3), RING, 512, "feather", torch.zeros(1, 256, 512, 3))
    steps = torch.diff(equirect[0, ..., 0], dim=0).abs()
    pixel = 180 / 256  # degrees; five of them are the border
    assert steps.max() < 1.5 * pixel / 5
    assert equirect.max() == 1 and equirect.min() == 0


LAYOUTS = {
    "cube": cube(128, 128),
    "cube, turned": cube(128, 128, 33.3),
    "sphere": sphere(8, 90, 128, 128),
    "ring of 4 that meet": ring(4, 90, 128, 128, 20),
    "ring of 5": ring(5, 90, 128, 128),
    "two rings": rings(4, 100, 128, 96, 5, (30, -30)),
    "two views apart": cameras_at([(0, 0), (120, 40)], 70, 128, 96),
}
layouts = pytest.mark.parametrize("cameras", LAYOUTS.values(), ids=LAYOUTS)


def white_over_black(cameras: Cameras, blend: str = "feather") -> torch.Tensor:
    """(512, 1024) how opaque views are over a background."""
    white = torch.ones(cameras.views, cameras.height, cameras.width, 3)
    return stitch(white, cameras, 1024, blend, torch.zeros(1, 512, 1024, 3))[0][0, ..., 0]


def degrees_from_open_sky(cameras: Cameras) -> torch.Tensor:
    """(64, 128) angles between every eighth pixel of a panorama and the nearest of its pixels that no view sees."""
    directions = equirect_directions(1024, 512)
    seen = torch.zeros(512, 1024, dtype=torch.bool)
    for intrinsics, rotation in zip(cameras.intrinsics, cameras.rotation, strict=True):
        x, y, z = (directions @ rotation @ intrinsics.mT).unbind(-1)
        inside = [x + 0.5 * z, (cameras.width - 0.5) * z - x, y + 0.5 * z, (cameras.height - 0.5) * z - y]
        seen |= torch.stack(inside).amin(0) > -1e-6  # views that only meet leave no gap
    if seen.all():
        return torch.full((64, 128), 180.0)
    around = torch.nn.functional.pad(seen[None].float(), (1, 1), mode="circular")[0]
    beside_a_view = torch.nn.functional.max_pool2d(around[None], 3, stride=1, padding=(1, 0))[0] > 0
    sky, some = directions[beside_a_view & ~seen].float(), directions[::8, ::8].flatten(0, 1).float()
    cosine = torch.cat([(part @ sky.mT).amax(1) for part in some.split(256)])
    return cosine.clamp(-1, 1).acos().rad2deg().view(64, 128) * seen[::8, ::8]


@layouts
@pytest.mark.parametrize("blend", BLENDS)
def test_nothing_of_a_background_is_seen_farther_than_six_degrees_inside(cameras, blend):
    """Five degrees of fading, and what is lost where the nearest boundary is not that of a single view."""
    inside = degrees_from_open_sky(cameras) > 6
    assert inside.any() and white_over_black(cameras, blend)[::8, ::8][inside].min() > 1 - 1e-5


@layouts
def test_views_never_end_abruptly_in_a_background(cameras):
    opacity = white_over_black(cameras)
    steps = torch.cat((torch.diff(opacity, dim=0).flatten(), (opacity - opacity.roll(1, 1)).flatten()))
    assert steps.abs().max() < 1.05 * (360 / 1024) / 5


def test_over_a_straight_outer_edge_views_fade_by_the_sine_of_the_angle():
    cameras = cameras_at([(0, 0)], 90, 128, 128)
    x, y, z = equirect_directions(1024, 512).unbind(-1)
    sine = torch.stack((z + x, z - x, z + y, z - y)).amin(0) / math.sqrt(2)
    expected = (sine / math.sin(math.radians(5))).clamp(0, 1).float()
    torch.testing.assert_close(white_over_black(cameras), expected, rtol=0, atol=1e-4)


def test_a_cube_hides_its_background_everywhere():
    assert white_over_black(LAYOUTS["cube"]).min() > 1 - 1e-6


def test_one_background_serves_all_panoramas():
    background = known(512, detailed)
    equirect, _ = stitch(torch.rand(16, 128, 128, 3), RING, 512, background=background)
    assert torch.equal(equirect[0, :40], background[0, :40]) and torch.equal(equirect[1, :40], background[0, :40])


def test_each_panorama_has_its_own_background():
    backgrounds = torch.tensor([0.2, 0.7])[:, None, None, None].expand(2, 256, 512, 3)
    equirect, _ = stitch(torch.rand(16, 128, 128, 3), RING, 512, background=backgrounds)
    assert equirect[0, :40].unique().tolist() == pytest.approx([0.2])
    assert equirect[1, :40].unique().tolist() == pytest.approx([0.7])


@pytest.mark.parametrize(("size", "bar"), [(256, 30), (1024, 45), (2050, 45)])
def test_a_background_of_another_size_is_fitted_over_wrap_and_poles(size, bar):
    resized = resize_panoramas(known(size, detailed).movedim(-1, 1), 512).movedim(1, -1)
    assert psnr(resized, known(512, detailed)) > bar
    assert psnr(resized[:, :, [0, -1]], known(512, detailed)[:, :, [0, -1]]) > bar - 3


@pytest.mark.parametrize("width", [2048, 2050, 4098])
def test_fine_patterns_of_a_large_background_become_grey(width):
    stripes = torch.zeros(1, 3, width // 2, width)
    stripes[..., ::2] = 1
    torch.testing.assert_close(resize_panoramas(stripes, 512), torch.full((1, 3, 256, 512), 0.5), atol=0.07, rtol=0)


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (torch.zeros(1, 100, 100, 3), "^an equirectangular background is twice as wide as high, not 100 x 100 pixels$"),
        (torch.zeros(3, 128, 256, 3), "^there are 3 pictures in background for 2 panoramas$"),
        (torch.full((1, 128, 256, 3), torch.nan), "NaN"),
        (torch.zeros(128, 256, 3), "batch, height, width"),
    ],
)
def test_bad_backgrounds_are_refused(background, message):
    with pytest.raises(InputError, match=message):
        stitch(torch.zeros(16, 128, 128, 3), RING, 512, background=background)
