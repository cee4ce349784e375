"""A panorama behind the views: it shows where no view looks, and the views fade into it without an edge."""

from __future__ import annotations

import pytest
import torch
from sphere import detailed, psnr, smooth, view_directions

from mvdiffusion_pack.geometry.equirect import equirect_directions, resize_panoramas
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.stitch import stitch

BLENDS = ["feather", "multiband", "nearest"]
RING = ring(8, 90, 128, 128)


def sphere(width: int, picture=smooth) -> torch.Tensor:
    """(1, width / 2, width, 3) panorama of a picture that is known in every direction."""
    return picture(equirect_directions(width, width // 2)).float()[None]


@pytest.mark.parametrize("blend", BLENDS)
def test_without_views_over_it_the_background_is_seen_as_it_is(blend):
    background = sphere(512, detailed)
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
    equirect, _ = stitch(smooth(view_directions(RING)).float(), RING, 512, blend, sphere(512))
    assert (equirect - sphere(512)).abs().max() < 0.03


def test_views_fade_into_the_background_without_an_edge():
    equirect, _ = stitch(torch.ones(8, 128, 128, 3), RING, 512, "feather", torch.zeros(1, 256, 512, 3))
    steps = torch.diff(equirect[0, ..., 0], dim=0).abs()
    pixel = 180 / 256  # degrees; five of them are the border
    assert steps.max() < 1.5 * pixel / 5
    assert equirect.max() == 1 and equirect.min() == 0


def test_one_background_serves_all_panoramas():
    background = sphere(512, detailed)
    equirect, _ = stitch(torch.rand(16, 128, 128, 3), RING, 512, background=background)
    assert torch.equal(equirect[0, :40], background[0, :40]) and torch.equal(equirect[1, :40], background[0, :40])


def test_each_panorama_has_its_own_background():
    backgrounds = torch.tensor([0.2, 0.7])[:, None, None, None].expand(2, 256, 512, 3)
    equirect, _ = stitch(torch.rand(16, 128, 128, 3), RING, 512, background=backgrounds)
    assert equirect[0, :40].unique().tolist() == pytest.approx([0.2])
    assert equirect[1, :40].unique().tolist() == pytest.approx([0.7])


@pytest.mark.parametrize(("size", "bar"), [(256, 30), (1024, 45), (2050, 45)])
def test_a_background_of_another_size_is_fitted_over_wrap_and_poles(size, bar):
    resized = resize_panoramas(sphere(size, detailed).movedim(-1, 1), 512).movedim(1, -1)
    assert psnr(resized, sphere(512, detailed)) > bar
    assert psnr(resized[:, :, [0, -1]], sphere(512, detailed)[:, :, [0, -1]]) > bar - 3


@pytest.mark.parametrize("width", [2048, 2050, 4098])
def test_fine_patterns_of_a_large_background_become_grey(width):
    stripes = torch.zeros(1, 3, width // 2, width)
    stripes[..., ::2] = 1
    torch.testing.assert_close(resize_panoramas(stripes, 512), torch.full((1, 3, 256, 512), 0.5), atol=0.07, rtol=0)


@pytest.mark.parametrize(
    ("background", "message"),
    [
        (torch.zeros(1, 100, 100, 3), "equirectangular background is twice as wide as high, not 100 x 100"),
        (torch.zeros(3, 128, 256, 3), "3 backgrounds for 2 panoramas"),
        (torch.full((1, 128, 256, 3), torch.nan), "NaN"),
        (torch.zeros(128, 256, 3), "batch, height, width"),
    ],
)
def test_bad_backgrounds_are_refused(background, message):
    with pytest.raises(ValueError, match=message):
        stitch(torch.zeros(16, 128, 128, 3), RING, 512, background=background)
