"""Photos over panoramas: equal to themselves where they are opaque, faded into what lies below at their border."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sphere import detailed, psnr, smooth, view_directions
from yardstick import yardsticks

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.panorama.source import source_camera, source_to_views
from mvdiffusion_pack.geometry.panorama.stitch import Overlay, stitch

RING = ring(8, 90, 64, 64)
BLENDS = ["feather", "multiband", "nearest"]
PLACES = [(0, 0), (180, 0), (-90, 30), (20, 90), (70, -85), (170, 50)]  # the wrap and both poles among them


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def edge_angles_deg(camera: Cameras, width: int) -> torch.Tensor:
    """(width / 2, width) angles of a panorama's pixels to the nearest plane through a photo's edge, inside > 0."""
    right, bottom = (
        math.atan((side / 2) / camera.intrinsics[0, axis, axis])
        for axis, side in enumerate((camera.width, camera.height))
    )
    x, y, z = (equirect_directions(width, width // 2) @ camera.rotation[0]).unbind(-1)
    sides = [
        z * math.sin(angle) - side * math.cos(angle)
        for angle, side in ((right, x), (right, -x), (bottom, y), (bottom, -y))
    ]
    return torch.stack(sides).amin(0).asin().rad2deg()


def ray_cast(photo: torch.Tensor, camera: Cameras, width: int, samples: int = 1) -> torch.Tensor:
    """(width / 2, width, 3) a (1, H, W, 3) photo at a panorama's pixels: means of `samples` squared rays in each.

    Rays meet the photo between pixel centres, where it is read bilinearly; beyond its centres its border goes on.
    """
    rays = equirect_directions(samples * width, samples * width // 2) @ camera.rotation[0] @ camera.intrinsics[0].mT
    x, y, z = rays.unbind(-1)
    sides = (x / z.clamp_min(1e-6), photo.shape[2]), (y / z.clamp_min(1e-6), photo.shape[1])
    (left, right_share), (top, bottom_share) = (
        (low.long().clamp_max(side - 2), at - low.clamp_max(side - 2))
        for at, side in ((at.clamp(0, side - 1), side) for at, side in sides)
        for low in [at.floor()]
    )
    rows = [
        torch.lerp(photo[0, row, left], photo[0, row, left + 1], right_share[..., None].float())
        for row in (top, top + 1)
    ]
    colours = torch.lerp(*rows, bottom_share[..., None].float())
    return colours.unflatten(0, (-1, samples)).unflatten(2, (-1, samples)).mean((1, 3))


def over_black(photo: torch.Tensor, camera: Cameras, border_deg: float, width: int = 512, blend: str = "feather"):
    """A photo over a whole black panorama, (width / 2, width, 3)."""
    black = torch.zeros(1, width // 2, width, 3)
    return stitch(torch.zeros(8, 64, 64, 3), RING, width, blend, black, Overlay(photo, camera, border_deg))[0][0]


@settings(max_examples=12, deadline=None)
@given(
    yaw=st.floats(-180, 180),
    pitch=st.floats(-90, 90),
    roll=st.floats(-180, 180),
    fov=st.floats(5, 150),
    border=st.sampled_from([0.0, 2.0, 30.0]),
    blend=st.sampled_from(BLENDS),
)
def test_where_it_is_opaque_nothing_else_is_seen_and_outside_nothing_of_it(yaw, pitch, roll, fov, border, blend):
    photo, views = noise(1, 48, 64, 3), noise(8, 64, 64, 3)
    camera = source_camera(64, 48, RING, yaw, pitch, roll, fov)
    equirect, _ = stitch(views, RING, 256, blend, overlay=Overlay(photo, camera, border))
    over_others, _ = stitch(1 - views, RING, 256, blend, overlay=Overlay(photo, camera, border))
    below, _ = stitch(views, RING, 256, blend)
    angles = edge_angles_deg(camera, 256)
    opaque = angles > border + 1e-3
    torch.testing.assert_close(equirect[0, opaque], over_others[0, opaque], rtol=0, atol=1e-6)
    assert torch.equal(equirect[0, angles < -1e-3], below[0, angles < -1e-3])


@pytest.mark.parametrize(("yaw", "pitch"), PLACES)
def test_where_the_photo_is_coarser_it_is_what_rays_meet(yaw, pitch):
    photo, camera = noise(1, 48, 64, 3), source_camera(64, 48, RING, yaw, pitch, 10, 60)
    opaque = edge_angles_deg(camera, 1024) > 1e-3
    expected = ray_cast(photo, camera, 1024)
    torch.testing.assert_close(over_black(photo, camera, 0.0, 1024)[opaque], expected[opaque], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("finer", "most"), [(1.3, 0.1), (2.2, 0.15), (3.1, 0.25), (5.0, 0.45)])
def test_where_the_photo_is_finer_it_is_the_mean_of_what_rays_meet(finer, most):
    """In its middle a pixel of the panorama holds `finer` squared pixels of the photo, and outside more."""
    side = round(256 / math.pi * finer)
    photo = noise(1, side, side, 3).repeat_interleave(2, 1).repeat_interleave(2, 2)
    camera = source_camera(2 * side, 2 * side, RING, 40, 20, 10, 90)
    inside = edge_angles_deg(camera, 512) > 2
    shown, expected = over_black(photo, camera, 0.0)[inside], ray_cast(photo, camera, 512, 4)[inside]
    assert (shown - expected).std() < most * expected.std()
    assert shown.std() == pytest.approx(expected.std().item(), rel=0.2)


def test_a_checkerboard_of_two_pixel_cells_has_no_moire():
    y, x = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    board = ((x // 2 + y // 2) % 2).float()[None, :, :, None].expand(-1, -1, -1, 3)
    camera = source_camera(512, 512, RING, 20, 10)
    inside = edge_angles_deg(camera, 512) > 2
    shown, expected = over_black(board, camera, 0.0)[inside], ray_cast(board, camera, 512, 4)[inside]
    assert expected.std() < 0.05 and shown.std() < 0.05
    assert (shown - expected).std() < 0.05


def test_cells_of_different_density_meet_without_a_seam():
    """What a ramp's mean is does not depend on the number of samples, so only errors of place would show."""
    camera = source_camera(2048, 1536, RING, 20, 10, 5, 100)
    photo = smooth(view_directions(camera)).float()
    inside = edge_angles_deg(camera, 1024) > 1
    difference = over_black(photo, camera, 0.0, 1024) - smooth(equirect_directions(1024, 512)).float()
    assert difference[inside].abs().max() < 1e-4


@pytest.mark.parametrize(("yaw", "pitch"), PLACES[:3])
def test_the_photo_keeps_detail_that_views_have_not(yaw, pitch):
    camera = source_camera(512, 384, RING, yaw, pitch, 10, 60)
    photo = detailed(view_directions(camera)).float()
    views = detailed(view_directions(RING)).float()
    equirect, _ = stitch(views, RING, 2048, overlay=Overlay(photo, camera))
    opaque = edge_angles_deg(camera, 2048) > 5
    expected = detailed(equirect_directions(2048, 1024))
    assert psnr(equirect[0][opaque], expected[opaque]) > 55


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(("yaw", "pitch"), PLACES)
def test_a_photo_of_the_same_sphere_leaves_no_trace(yaw, pitch, blend):
    camera = source_camera(256, 192, RING, yaw, pitch, 10, 60)
    photo, sphere = smooth(view_directions(camera)).float(), smooth(equirect_directions(512, 256)).float()
    equirect, _ = stitch(smooth(view_directions(RING)).float(), RING, 512, blend, sphere[None], Overlay(photo, camera))
    assert (equirect[0] - sphere).abs().max() < 0.03


@pytest.mark.parametrize("pitch", [0, 40, 90])
def test_the_wrap_is_a_place_like_any_other(pitch):
    photo = noise(1, 48, 64, 3)
    front, back = (source_camera(64, 48, RING, yaw, pitch, 20, 70) for yaw in (0, 180))
    torch.testing.assert_close(
        over_black(photo, back, 5.0), over_black(photo, front, 5.0).roll(256, 1), rtol=0, atol=2e-4
    )


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (180, 20)])
@pytest.mark.parametrize("border", [3.0, 10.0])
def test_the_border_fades_without_an_edge(yaw, pitch, border):
    equirect = over_black(torch.ones(1, 64, 64, 3), source_camera(64, 64, RING, yaw, pitch), border, 1024)[..., 0]
    steps = torch.cat((torch.diff(equirect, dim=0).flatten(), (equirect - equirect.roll(1, 1)).flatten()))
    assert steps.abs().max() < 1.2 * (360 / 1024) / border
    assert equirect.max() == 1 and equirect.min() == 0


def test_half_of_the_borders_sine_is_half_opaque():
    camera = source_camera(64, 64, RING)
    equirect = over_black(torch.ones(1, 64, 64, 3), camera, 10.0)[..., 0]
    angles = edge_angles_deg(camera, 512)
    expected = (angles.deg2rad().sin() / math.sin(math.radians(10))).clamp(0, 1)
    torch.testing.assert_close(equirect, expected.float(), rtol=0, atol=1e-5)


def test_without_a_border_the_photo_ends_sharply():
    equirect = over_black(torch.ones(1, 64, 64, 3), source_camera(64, 64, RING), 0.0)
    assert torch.minimum(equirect.abs(), (equirect - 1).abs()).max() < 1e-6
    assert 0.1 < equirect.mean() < 0.2


@pytest.mark.parametrize("fov", [2, 20, 90])
def test_the_widest_border_leaves_the_photos_middle_opaque(fov):
    camera = source_camera(64, 64, RING, fov_deg=fov)
    equirect = over_black(torch.ones(1, 64, 64, 3), camera, 45.0, 2048)
    middle = edge_angles_deg(camera, 2048) > 0.75 * fov / 2
    assert middle.any() and equirect[middle].min() > 1 - 1e-6


def test_where_nothing_is_below_the_photo_ends_sharply():
    camera = source_camera(64, 64, RING, pitch_deg=80, fov_deg=90)
    views, overlay = torch.zeros(8, 64, 64, 3), Overlay(torch.ones(1, 64, 64, 3), camera)
    equirect, _ = stitch(views, RING, 512, overlay=overlay)
    below = stitch(views, RING, 512)[1] > 0
    inside = edge_angles_deg(camera, 512)[None] > 0
    assert equirect[inside & ~below].min() > 1 - 1e-6
    assert equirect[inside & below].min() < 0.1


@pytest.mark.parametrize("pitch", [50, 80])
def test_where_the_views_end_the_photo_becomes_opaque_without_an_edge(pitch):
    camera = source_camera(64, 64, RING, pitch_deg=pitch, fov_deg=90)
    views, overlay = torch.zeros(8, 64, 64, 3), Overlay(torch.ones(1, 64, 64, 3), camera)
    shown = stitch(views, RING, 1024, overlay=overlay)[0][0, ..., 0]
    inside = edge_angles_deg(camera, 1024) > 0
    down, across = torch.diff(shown, dim=0).abs(), (shown - shown.roll(1, 1)).abs()
    steps = torch.cat((down[inside[1:] & inside[:-1]], across[inside & inside.roll(1, 1)]))
    assert steps.max() < 1.5 * (360 / 1024) / 5


@pytest.mark.parametrize("background", [None, torch.zeros(1, 128, 256, 3)])
@pytest.mark.parametrize(("yaw", "pitch"), PLACES)
def test_coverage_is_where_a_view_or_the_photo_looks(yaw, pitch, background):
    camera = source_camera(48, 64, RING, yaw, pitch, -30, 50)
    overlay = Overlay(noise(1, 64, 48, 3), camera)
    _, coverage = stitch(noise(8, 64, 64, 3), RING, 256, background=background, overlay=overlay)
    _, alone = stitch(noise(8, 64, 64, 3), RING, 256)
    expected = torch.maximum(alone, (edge_angles_deg(camera, 256) > 0).float()[None])
    assert torch.equal(coverage, expected)


@pytest.mark.parametrize("size", [(1024, 1024), (1001, 1003)])
def test_a_panorama_much_coarser_than_the_photo_is_averaged(size):
    y, x = torch.meshgrid(torch.arange(size[1]), torch.arange(size[0]), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].expand(-1, -1, -1, 3)
    camera = source_camera(*size, RING)
    equirect = over_black(board, camera, 0.0, 512)
    assert (equirect[edge_angles_deg(camera, 512) > 2] - 0.5).abs().max() < 0.01


def test_the_native_width_is_that_of_the_finest_of_views_and_photo():
    views = noise(8, 64, 64, 3)
    coarse, fine = (Overlay(noise(1, side, side, 3), source_camera(side, side, RING)) for side in (32, 256))
    assert stitch(views, RING, 0, overlay=coarse)[0].shape[2] == stitch(views, RING, 0)[0].shape[2] == 202
    assert stitch(views, RING, 0, overlay=fine)[0].shape[2] == stitch(noise(8, 256, 256, 3), RING, 0)[0].shape[2]


def test_one_photo_serves_all_panoramas():
    overlay = Overlay(noise(1, 64, 64, 3), source_camera(64, 64, RING))
    equirect, _ = stitch(noise(16, 64, 64, 3), RING, 256, overlay=overlay)
    opaque = edge_angles_deg(overlay.camera, 256) > 5.1
    assert torch.equal(equirect[0, opaque], equirect[1, opaque])
    assert not torch.equal(equirect[0], equirect[1])


def test_each_panorama_has_its_own_photo():
    photos, views, camera = noise(2, 64, 64, 3), noise(16, 64, 64, 3), source_camera(64, 64, RING)
    equirect, coverage = stitch(views, RING, 256, overlay=Overlay(photos, camera))
    alone = stitch(views[8:], RING, 256, overlay=Overlay(photos[1:], camera))
    torch.testing.assert_close((equirect[1:], coverage[1:]), alone, rtol=0, atol=1e-6)


def test_a_second_stitch_with_the_first_as_background_lays_over_a_second_photo():
    views, photo = noise(8, 64, 64, 3), noise(1, 48, 64, 3)
    panorama, _ = stitch(views, RING, 1024)
    twice, _ = stitch(photo, ring(1, 60, 64, 48, 30, 20), 1024, background=panorama)
    overlay = Overlay(photo, source_camera(64, 48, RING, 30, 20, fov_deg=60))
    once, _ = stitch(views, RING, 1024, overlay=overlay)
    rows = slice(171, 341)  # within 30 degrees of the horizon, where the ring does not end
    torch.testing.assert_close(twice[:, rows], once[:, rows], rtol=0, atol=1e-3)


def test_half_precision_and_alpha_are_taken():
    photo, camera = noise(1, 64, 64, 3).half(), source_camera(64, 64, RING)
    with_alpha = torch.cat((photo, torch.zeros_like(photo[..., :1])), dim=-1)
    equirect = over_black(with_alpha, camera, 5.0)
    assert equirect.dtype == torch.float32 and equirect.shape == (256, 512, 3)
    torch.testing.assert_close(equirect, over_black(photo.float(), camera, 5.0))


def test_a_photo_taken_through_cutting_projecting_and_stitching_comes_back():
    panorama = detailed(equirect_directions(2048, 1024)).float()[None]
    cameras = ring(8, 90, 256, 256)
    camera = source_camera(640, 480, cameras, 45, 10, 3, 75)
    photo, _ = equirect_to_views(panorama, camera)
    cut, _ = equirect_to_views(panorama, cameras)
    views, mask = source_to_views(photo, cameras, camera, cut, torch.ones(8, 256, 256))
    assert psnr(views[mask == 0], cut[mask == 0]) > 50
    equirect, coverage = stitch(views, cameras, 2048, overlay=Overlay(photo, camera))
    assert psnr(equirect[coverage > 0], panorama[coverage > 0]) > 55
    opaque = (edge_angles_deg(camera, 2048) > 5)[None]
    without, _ = stitch(views, cameras, 2048)
    assert psnr(equirect[opaque], panorama[opaque]) > psnr(without[opaque], panorama[opaque]) + 6


@pytest.mark.thorough
def test_a_photo_of_24_megapixels_adds_little():
    cameras, photo = ring(8, 90, 64, 64), noise(1, 1, 1, 3).expand(1, 4000, 6000, 3).contiguous()
    views, overlay = noise(8, 64, 64, 3), Overlay(photo, source_camera(6000, 4000, cameras))
    without, over = yardsticks(
        lambda: stitch(views, cameras, 4096), lambda: stitch(views, cameras, 4096, overlay=overlay)
    )
    assert over - without < 8


PHOTO, CAMERA = torch.zeros(1, 32, 32, 3), source_camera(32, 32, RING)


@pytest.mark.parametrize(
    ("pictures", "border", "message"),
    [
        (PHOTO[..., :2], 5.0, r"^the source must be.*3 or 4 channels.*\(1, 32, 32, 2\)$"),
        (PHOTO[0], 5.0, r"^the source must be.*not \(32, 32, 3\)$"),
        (PHOTO[:0], 5.0, "^there is nothing in the source, "),
        (PHOTO + math.nan, 5.0, "NaN or infinite numbers in the source"),
        (PHOTO.expand(3, -1, -1, -1), 5.0, "^there are 3 photos in source for 2 panoramas$"),
        (PHOTO, -1.0, "^border must be 0 to 45 degrees, not -1"),
        (PHOTO, 46.0, "^border must be 0 to 45 degrees, not 46"),
        (PHOTO, math.nan, "^border must be 0 to 45 degrees, not nan$"),
    ],
)
def test_bad_overlays_are_refused(pictures, border, message):
    with pytest.raises(InputError, match=message):
        stitch(torch.zeros(16, 64, 64, 3), RING, 256, overlay=Overlay(pictures, CAMERA, border))


def test_a_native_width_beyond_all_measure_is_refused():
    overlay = Overlay(torch.zeros(1, 4, 512, 3), source_camera(512, 4, RING, fov_deg=1))
    message = r"^a panorama as fine as the source would be 184\d\d\d pixels wide, and 32768 is the most$"
    with pytest.raises(InputError, match=message):
        stitch(torch.zeros(8, 64, 64, 3), RING, 0, overlay=overlay)


@pytest.mark.parametrize(("yaw", "pitch"), PLACES)
def test_photos_between_pixels_are_refused(yaw, pitch):
    """All these directions lie on the corners of pixels."""
    camera = source_camera(64, 48, RING, yaw, pitch, 0, 0.05)
    message = r"touches no pixel.* 0\.05 x 0\.038 degrees and .* 2 degrees apart$"
    with pytest.raises(InputError, match=message) as raised:
        over_black(noise(1, 48, 64, 3), camera, 0.0, 180)
    assert raised.value.remedy == "between_pixels"


def test_a_photo_that_touches_one_pixel_is_shown_there():
    camera = source_camera(64, 48, RING, 0.7, 0.7, 0, 0.05)
    assert (over_black(torch.ones(1, 48, 64, 3), camera, 0.0, 256) > 0).sum() == 3
