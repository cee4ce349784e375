"""Photos in the views that they touch: exact masks, right colours, no aliasing, and several in a row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sphere import cameras_at, detailed, directions_of, psnr, smooth, view_directions
from yardstick import yardsticks

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.panorama.source import source_camera, source_to_views

RING = ring(8, 90, 64, 64)
ANGLES, FOVS, SIDES = st.floats(-180, 180), st.floats(10, 160), st.integers(5, 60)


def photo_of(camera: Cameras, picture=smooth) -> torch.Tensor:
    """(1, H, W, 3) what a camera sees of a sphere that is known in every direction."""
    return picture(view_directions(camera)).float()


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7))


def photo_pixels(cameras: Cameras, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, h, w, 2) where the rays of the views' pixels meet the photo, and (V, h, w) whether that is in front."""
    x, y, z = (view_directions(cameras) @ camera.rotation[0] @ camera.intrinsics[0].mT).unbind(-1)
    return torch.stack((x / z, y / z), dim=-1), z > 0


# The camera of the photo


def test_without_angles_the_photo_looks_as_view_0_does():
    cameras = ring(8, 70, 64, 48, 33, 12)
    camera = source_camera(64, 48, cameras)
    torch.testing.assert_close(camera.cam_to_world, cameras.cam_to_world[:1])
    torch.testing.assert_close(camera.intrinsics, cameras.intrinsics[:1])


@pytest.mark.parametrize("pitch", [0.0, 30.0])
def test_a_yaw_of_45_degrees_is_view_1_of_eight(pitch):
    cameras = ring(8, 90, 64, 64, 10, pitch)
    torch.testing.assert_close(source_camera(64, 64, cameras, yaw_deg=45).cam_to_world, cameras.cam_to_world[1:2])


def test_pitch_looks_up_and_roll_turns_clockwise():
    camera = source_camera(64, 64, RING, 90, 30, 20)
    right, down, forward = camera.rotation[0].mT
    assert forward.tolist() == pytest.approx([math.cos(math.radians(30)), -0.5, 0])
    assert right[1] > 0 and down[1] > 0  # the photo's right side sinks


def test_field_of_view_is_over_the_width():
    camera = source_camera(300, 200, RING, fov_deg=40)
    assert camera.intrinsics[0, 0, 0].item() == pytest.approx(150 / math.tan(math.radians(20)))
    assert (camera.width, camera.height) == (300, 200)


def test_field_of_view_0_is_that_of_view_0_whatever_the_size():
    camera = source_camera(1000, 10, ring(8, 70, 64, 48))
    assert 2 * math.degrees(math.atan(500 / camera.intrinsics[0, 0, 0].item())) == pytest.approx(70)


@pytest.mark.parametrize("fov", [-1.0, 180.0, 270.0, math.nan])
def test_field_of_view_outside_of_0_to_180_is_refused(fov):
    with pytest.raises(InputError, match=f"between 0 and 180.*or be 0 for that of view 0, not {fov}"):
        source_camera(64, 64, RING, fov_deg=fov)


@pytest.mark.parametrize("angle", ["yaw_deg", "pitch_deg", "roll_deg"])
def test_angles_that_are_not_finite_are_refused(angle):
    with pytest.raises(InputError, match=r"yaw, pitch and roll of the source must be finite, not .*inf"):
        source_camera(64, 64, RING, **{angle: math.inf})


def test_an_empty_photo_is_refused():
    with pytest.raises(InputError, match="positive size, not 64 x 0"):
        source_camera(64, 0, RING)


# The mask


@settings(max_examples=60, deadline=None)
@given(
    angles=st.lists(st.tuples(ANGLES, st.floats(-90, 90), ANGLES), min_size=1, max_size=3),
    view=st.tuples(FOVS, SIDES, SIDES),
    photo=st.tuples(ANGLES, st.floats(-90, 90), ANGLES, FOVS),
    size=st.tuples(SIDES, SIDES),
)
def test_mask_is_what_casting_rays_says(angles, view, photo, size):
    cameras = cameras_at(angles, *view)
    camera = source_camera(*size, cameras, *photo)
    pixels, in_front = photo_pixels(cameras, camera)
    beyond = torch.stack((-0.5 - pixels, pixels - torch.tensor(size) + 0.5)).amax(0).amax(-1)
    expected = in_front & (beyond < 0)
    assume(expected.any())
    _, mask = source_to_views(noise(1, size[1], size[0], 3), cameras, camera)
    sure = ~in_front | (beyond.abs() > 1e-6)
    assert torch.equal(mask[sure], 1 - expected[sure].float())


def test_a_photo_of_view_0_gives_all_of_it_and_half_of_its_neighbours():
    _, mask = source_to_views(noise(1, 64, 64, 3), RING, source_camera(64, 64, RING))
    assert mask[0].max() == 0
    assert mask[2:7].min() == 1
    assert mask[1, :, 32:].min() == 1 and mask[1, 16:48, :31].max() == 0
    assert torch.equal(mask[1], mask[7].flip(-1))


# The colours


@pytest.mark.parametrize("size", [(64, 64), (512, 512)])
def test_a_photo_at_view_0s_pose_and_size_is_view_0_bit_for_bit(size):
    cameras, photo = ring(8, 90, *size), noise(1, size[1], size[0], 3)
    views, _ = source_to_views(photo, cameras, source_camera(*size, cameras))
    assert torch.equal(views[0], photo[0])


@pytest.mark.parametrize("cameras", [ring(8, 90, 100, 75, 10, 20), ring(5, 100, 333, 77)])
def test_a_photo_at_view_1s_pose_and_size_is_view_1(cameras):
    photo = noise(1, cameras.height, cameras.width, 3)
    camera = source_camera(cameras.width, cameras.height, cameras, yaw_deg=360 / cameras.views)
    views, mask = source_to_views(photo, cameras, camera)
    assert mask[1].max() == 0
    torch.testing.assert_close(views[1], photo[0], rtol=0, atol=2e-5)


def test_a_photo_of_twice_the_size_is_averaged_pixel_by_pixel():
    photo = noise(1, 128, 128, 3)
    views, _ = source_to_views(photo, RING, source_camera(128, 128, RING))
    averaged = photo.unflatten(1, (64, 2)).unflatten(3, (64, 2)).mean((2, 4))
    torch.testing.assert_close(views[0], averaged[0], rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    yaw=ANGLES,
    pitch=st.floats(-80, 80),
    roll=ANGLES,
    fov=st.floats(30, 120),
    cameras=st.sampled_from([ring(8, 90, 64, 64), ring(6, 100, 80, 48, 20, 30), ring(3, 140, 100, 60, 0, -40)]),
)
def test_views_show_the_sphere_wherever_the_photo_looks(yaw, pitch, roll, fov, cameras):
    camera = source_camera(320, 240, cameras, yaw, pitch, roll, fov)
    pixels, in_front = photo_pixels(cameras, camera)
    size = torch.tensor([320, 240])
    assume((in_front & (pixels > 0).all(-1) & (pixels < size - 1).all(-1)).any())
    views, mask = source_to_views(photo_of(camera), cameras, camera)
    given = mask == 0
    difference = (views[given] - smooth(view_directions(cameras))[given]).abs()
    assert difference.max() < 0.02


def test_detail_comes_through():
    cameras = ring(8, 90, 256, 256)
    camera = source_camera(1024, 768, cameras, 20, 10, 5)
    views, mask = source_to_views(photo_of(camera, detailed), cameras, camera)
    # A view's pixel is the mean over its area, which this many directions inside it stand for.
    fine, seen = ring(8, 90, 1024, 1024), (mask == 0).flatten(1).any(1).nonzero().flatten().tolist()
    directions = torch.stack([directions_of(fine, view) for view in seen]).unflatten(1, (256, 4)).unflatten(3, (256, 4))
    given = (mask == 0)[seen]
    assert psnr(views[seen][given], detailed(directions).mean((2, 4))[given]) > 55


def test_half_a_pixel_of_shift_would_be_seen():
    cameras = ring(8, 90, 256, 256)
    camera = source_camera(1024, 768, cameras, 20, 10, 5)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 2] += 2  # photo pixels, half a pixel of the view
    shifted, mask = source_to_views(photo_of(camera, detailed), cameras, replace(camera, intrinsics=intrinsics))
    assert psnr(shifted[mask == 0], detailed(view_directions(cameras))[mask == 0]) < 45


@pytest.mark.parametrize("roll", [0.0, 30.0])
@pytest.mark.parametrize("size", [(640, 512), (641, 513)])
def test_a_fine_checkerboard_becomes_grey(size, roll):
    width, height = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].expand(-1, -1, -1, 3)
    views, mask = source_to_views(board, RING, source_camera(width, height, RING, 20, 10, roll, 100))
    inner = torch.nn.functional.max_pool2d(mask[:, None], 3, stride=1, padding=1)[:, 0] == 0
    assert (views[inner] - 0.5).abs().max() < 0.05


def test_a_fine_checkerboard_becomes_grey_where_a_photo_is_wider_than_any_lens():
    y, x = torch.meshgrid(torch.arange(768), torch.arange(1024), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].expand(-1, -1, -1, 3)
    cameras = ring(8, 90, 32, 32)
    camera = source_camera(1024, 768, cameras, fov_deg=165)
    views, mask = source_to_views(board, cameras, camera)
    pixels, _ = photo_pixels(cameras, camera)
    outer = (mask == 0) & ((pixels - torch.tensor([511.5, 383.5])).norm(dim=-1) > 300)
    assert outer.sum() > 200
    assert (views[outer] - 0.5).abs().mean() < 0.02


@pytest.mark.parametrize("finer", [1.5, 2.5, 3.5, 5.5, 10.5])
def test_noise_is_averaged_over_the_views_pixel(finer):
    """Of n independent pixels the mean varies by the root of n less; a view pixel holds finer^2 of them."""
    side = round(64 * finer)
    photo = noise(1, side, side, 3)
    views, _ = source_to_views(photo, RING, source_camera(side, side, RING))
    assert (views[0].std() * finer / photo.std()).item() == pytest.approx(0.85, abs=0.2)


def test_views_finer_than_the_photo_are_not_averaged():
    photo = noise(1, 16, 16, 3)
    cameras = ring(8, 90, 16 * 9, 16 * 9)
    views, _ = source_to_views(photo, cameras, source_camera(16, 16, cameras))
    torch.testing.assert_close(views[0, 4::9, 4::9], photo[0], rtol=0, atol=1e-5)


def test_nothing_dark_comes_in_at_the_photos_edge():
    for size in (8, 40, 300):
        views, mask = source_to_views(torch.ones(1, size, size, 3), RING, source_camera(size, size, RING, 13, 7, 20))
        assert views[mask == 0].min() == pytest.approx(1)


def test_what_nothing_gives_is_grey():
    views, mask = source_to_views(torch.ones(1, 64, 64, 3), RING, source_camera(64, 64, RING))
    assert views[mask == 1].unique().tolist() == [0.5]


def test_half_precision_and_alpha_are_taken():
    photo, camera = noise(1, 64, 64, 3), source_camera(64, 64, RING)
    with_alpha = torch.cat((photo, torch.zeros_like(photo[..., :1])), dim=-1).half()
    views, mask = source_to_views(with_alpha, RING, camera)
    assert views.dtype == mask.dtype == torch.float32 and views.shape[-1] == 3
    torch.testing.assert_close(views, source_to_views(photo, RING, camera)[0], rtol=0, atol=1e-3)


@pytest.mark.thorough
def test_a_large_photo_is_read_quickly():
    cameras, photo = ring(8, 90, 512, 512), noise(1, 1, 1, 3).expand(1, 4000, 6000, 3).contiguous()
    (spent,) = yardsticks(lambda: source_to_views(photo, cameras, source_camera(6000, 4000, cameras)))
    assert spent < 8


# Several photos


def test_chained_photos_are_each_where_they_would_be_alone():
    first, second = noise(2, 48, 64, 3).split(1)
    left, right = (source_camera(64, 48, RING, yaw, fov_deg=70) for yaw in (-40, 140))
    views, mask = source_to_views(second, RING, right, *source_to_views(first, RING, left))
    (views_left, mask_left), (views_right, mask_right) = (
        source_to_views(first, RING, left),
        source_to_views(second, RING, right),
    )
    assert torch.equal(mask, mask_left * mask_right)
    assert torch.equal(views[mask_left == 0], views_left[mask_left == 0])
    assert torch.equal(views[mask_right == 0], views_right[mask_right == 0])


def test_the_later_photo_lies_above():
    below, above = torch.zeros(1, 64, 64, 3), torch.ones(1, 64, 64, 3)
    small = source_camera(64, 64, RING, fov_deg=30)
    views, mask = source_to_views(above, RING, small, *source_to_views(below, RING, source_camera(64, 64, RING)))
    assert views[0, 32, 32].tolist() == [1, 1, 1] and views[0, 2, 2].tolist() == [0, 0, 0]
    assert mask[0].max() == 0


def test_a_photo_over_a_cut_panorama_leaves_the_rest_as_it_was():
    panorama = detailed(equirect_directions(256, 128)).float()[None]
    cut, masks = equirect_to_views(panorama, RING, noise(1, 128, 256))
    camera = source_camera(64, 64, RING, 100, fov_deg=50)
    views, mask = source_to_views(torch.ones(1, 64, 64, 3), RING, camera, cut, masks)
    _, placed = source_to_views(torch.ones(1, 64, 64, 3), RING, camera)
    assert torch.equal(views[placed == 1], cut[placed == 1])
    assert torch.equal(mask, masks * placed)


def test_what_is_given_is_not_changed_in_place():
    cut, masks = torch.full((8, 64, 64, 3), 0.25), torch.ones(8, 64, 64)
    source_to_views(torch.ones(1, 64, 64, 3), RING, source_camera(64, 64, RING), cut, masks)
    assert cut.unique().tolist() == [0.25] and masks.min() == 1


def test_several_photos_are_several_panoramas():
    photos, camera = noise(2, 48, 64, 3), source_camera(64, 48, RING, 10, 20, 30)
    views, mask = source_to_views(photos, RING, camera)
    assert views.shape == (16, 64, 64, 3) and mask.shape == (16, 64, 64)
    assert torch.equal(views[8:], source_to_views(photos[1:], RING, camera)[0])
    assert torch.equal(mask[:8], mask[8:])


@pytest.mark.parametrize(("photos", "panoramas"), [(1, 2), (2, 1), (2, 2)])
def test_one_photo_or_one_panorama_serves_all(photos, panoramas):
    pictures, cut = noise(photos, 48, 64, 3), noise(8 * panoramas, 64, 64, 3)
    camera = source_camera(64, 48, RING)
    views, mask = source_to_views(pictures, RING, camera, cut, torch.ones(8 * panoramas, 64, 64))
    assert views.shape == (16, 64, 64, 3) and mask.shape == (16, 64, 64)
    for index, rows in enumerate(views.split(8)):
        photo, panorama = pictures[index % photos][None], cut.split(8)[index % panoramas]
        assert torch.equal(rows, source_to_views(photo, RING, camera, panorama, torch.ones(8, 64, 64))[0])


# Bad input

CAMERA = source_camera(32, 32, RING)
PHOTO = torch.zeros(1, 32, 32, 3)
VIEWS, MASK = torch.zeros(8, 64, 64, 3), torch.ones(8, 64, 64)


@pytest.mark.parametrize(
    ("image", "views", "mask", "message"),
    [
        (PHOTO[..., :2], None, None, r"^the image must be.*3 or 4 channels.*\(1, 32, 32, 2\)$"),
        (PHOTO[0], None, None, r"^the image must be.*not \(32, 32, 3\)$"),
        (PHOTO[:0], None, None, "^there is nothing in the image, "),
        (PHOTO + math.nan, None, None, "NaN or infinite numbers in the image$"),
        (PHOTO, VIEWS, None, "^there is a views input and no mask$"),
        (PHOTO, None, MASK, "^there is a mask input and no views$"),
        (PHOTO, VIEWS[:, :32], MASK[:, :32], "^the views are 64 x 32 pixels and the cameras' 64 x 64$"),
        (PHOTO, VIEWS[:7], MASK[:7], "^there are 7 views, which is not a multiple of the 8 cameras$"),
        (PHOTO, VIEWS, MASK[:1], r"^the mask must be \(8, 64, 64\) like the views, not \(1, 64, 64\)$"),
        (PHOTO, VIEWS, MASK[:, :32], r"^the mask must be \(8, 64, 64\) like the views, not \(8, 32, 64\)$"),
        (PHOTO, VIEWS, MASK * math.nan, "NaN or infinite numbers in the mask$"),
        (PHOTO, VIEWS * math.nan, MASK, "NaN or infinite numbers in the views$"),
        (PHOTO.expand(3, -1, -1, -1), VIEWS.repeat(2, 1, 1, 1), MASK.repeat(2, 1, 1), "3 images.*of 2 panoramas"),
    ],
)
def test_bad_input_is_refused(image, views, mask, message):
    with pytest.raises(InputError, match=message):
        source_to_views(image, RING, CAMERA, views, mask)


def test_cameras_in_different_places_are_refused():
    poses = RING.cam_to_world.clone()
    poses[1, 0, 3] = 0.1
    with pytest.raises(InputError, match=r"^a photo fits only views .* stand in different places$"):
        source_to_views(PHOTO, replace(RING, cam_to_world=poses), CAMERA)


def test_a_photo_between_pixels_says_how_large_these_are():
    camera = source_camera(8000, 10, RING)
    message = r"covers 90 x 0\.143 degrees.* fall between pixels, which are .* degrees wide$"
    with pytest.raises(InputError, match=message) as raised:
        source_to_views(torch.zeros(1, 10, 8000, 3), RING, camera)
    assert raised.value.remedy == "between_view_pixels"


def test_a_photo_that_touches_no_view_says_where_it_points():
    camera = source_camera(64, 32, ring(8, 90, 64, 64, 10), 20, 80, fov_deg=30)
    message = r"touches no view.*yaw 30\.0, pitch 80\.0 degrees and covers 30 x 15\.3 degrees"
    with pytest.raises(InputError, match=message) as raised:
        source_to_views(PHOTO, ring(8, 90, 64, 64, 10), camera)
    assert raised.value.remedy == "beside_views"


def test_a_photo_between_pixels_touches_no_view():
    camera = source_camera(32, 32, RING, fov_deg=0.01)
    with pytest.raises(InputError, match="touches no view"):
        source_to_views(PHOTO, RING, camera)
