"""Frames resized to views, and the sequence's cameras, key frames and prompts."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from overlaps import depth_overlaps
from rooms import pose, seen, walk

from mvdiffusion_pack.geometry.cameras import pixel_grid
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.sequence.frames import best_overlaps, fit, named_frames, posed_views

side = st.integers(20, 90)


def views_of(frames, width=64, height=64, min_overlap=0.3, keyframe_overlap=0.6):
    return posed_views(frames, width, height, min_overlap, keyframe_overlap)


# ---- Resizing


def test_frame_of_that_size_stays_as_it_is():
    frame = seen("0", pose(20), 96, 64)
    frame = replace(frame, intrinsics=frame.intrinsics + torch.tensor([[0.1, 0.2, 0.7], [0, 0.3, 1 / 3], [0, 0, 0]]))
    fitted = fit(frame, 96, 64)
    for part in ("image", "depth", "intrinsics", "cam_to_world"):
        assert torch.equal(getattr(fitted, part), getattr(frame, part)), part


@settings(max_examples=60, deadline=None)
@given(width=side, height=side, new_width=side, new_height=side)
def test_each_depth_is_that_of_the_pixel_nearest_to_where_it_was(width, height, new_width, new_height):
    """A depth map that numbers its pixels says which of them were read; the new intrinsics say where they should be."""
    frame = seen("0", pose(0), width, height)
    number = torch.arange(width * height, dtype=torch.float32).view(height, width)
    fitted = fit(replace(frame, depth=number), new_width, new_height)
    pixels = torch.cat((pixel_grid(new_width, new_height), torch.ones(new_height, new_width, 1)), dim=-1).double()
    old_from_new = frame.intrinsics @ torch.linalg.inv(fitted.intrinsics)
    x, y, _ = (pixels @ old_from_new.mT).unbind(-1)
    column, row = fitted.depth % width, fitted.depth // width
    assert ((column - x).abs() <= 0.5 + 1e-6).all()
    assert ((row - y).abs() <= 0.5 + 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(width=side, height=side, new_width=side, new_height=side)
def test_crop_is_the_largest_in_the_middle(width, height, new_width, new_height):
    frame = seen("0", pose(0), width, height)
    fitted = fit(frame, new_width, new_height)
    corners = torch.tensor([[-0.5, -0.5, 1], [new_width - 0.5, new_height - 0.5, 1]], dtype=torch.float64)
    first, last = corners @ (frame.intrinsics @ torch.linalg.inv(fitted.intrinsics)).mT
    margins = torch.stack((first[:2] + 0.5, torch.tensor([width, height]) - 0.5 - last[:2]))
    torch.testing.assert_close(margins[0], margins[1], rtol=0, atol=1e-9)
    assert margins.min().abs() < 1e-9
    torch.testing.assert_close(fitted.intrinsics[0, 0], fitted.intrinsics[1, 1])


def test_depth_is_read_at_the_pixel_that_holds_the_centre():
    frame = seen("0", pose(0), 640, 480)
    rows, columns = (torch.arange(count) for count in (192, 256))
    expected = frame.depth[((rows + 0.5) * 2.5).long()][:, ((columns + 0.5) * 2.5).long()]
    assert torch.equal(fit(frame, 256, 192).depth, expected)


def test_intrinsics_of_a_known_crop():
    frame = seen("0", pose(0), 640, 480)
    fitted = fit(frame, 192, 192)
    focal = frame.intrinsics[0, 0] / 2.5
    expected = torch.tensor([[focal, 0, 95.5], [0, focal, 95.5], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(fitted.intrinsics, expected)


@pytest.mark.parametrize("size", [(192, 192), (320, 192), (256, 192), (64, 192)])
def test_resized_frame_is_what_a_camera_of_that_size_sees(size):
    """The room is smooth but at its edges, where the nearest pixel may lie on the other wall."""
    frame = fit(seen("0", pose(30, (0.3, 0.2, -0.4), 10), 640, 480), *size)
    pixels = torch.cat((pixel_grid(*size), torch.ones(size[1], size[0], 1)), dim=-1).double()
    rays = pixels @ torch.linalg.inv(frame.intrinsics).mT @ frame.cam_to_world[:3, :3].mT
    points = frame.cam_to_world[:3, 3] + frame.depth[..., None] * rays
    on_wall = (points.abs() - torch.tensor([3.0, 1.5, 4.0])).abs().amin(-1)
    assert on_wall.quantile(0.9) < 0.03
    coloured = (0.5 + 0.45 * torch.sin(2 * points)).float()
    assert (coloured - frame.image).abs().mean() < 0.01


def test_image_of_another_size_shows_the_same():
    small, large = (seen("0", pose(40), *size) for size in ((160, 120), (640, 480)))
    fitted = fit(replace(small, image=large.image), 64, 64)
    assert (fitted.image - fit(small, 64, 64).image).abs().mean() < 0.005


def test_fine_stripes_become_grey():
    frame = seen("0", pose(0), 64, 64)
    stripes = (torch.arange(512) % 2).float()[None, :, None].expand(512, -1, 3)
    image = fit(replace(frame, image=stripes), 64, 64).image
    assert (image - 0.5).abs().max() < 0.02


def test_image_of_other_proportions_is_refused():
    frame = seen("7", pose(0), 64, 48)
    with pytest.raises(InputError, match=r"frame 7 is 160 x 90 pixels and its depth map 64 x 48"):
        fit(replace(frame, image=torch.zeros(90, 160, 3)), 64, 64)


# ---- Cameras of a sequence


def test_views_are_the_frames_in_order():
    frames = walk(5, 80, 64)
    cameras, images, _ = views_of(frames, min_overlap=0.2)
    assert (cameras.width, cameras.height, cameras.min_overlap) == (64, 64, 0.2)
    assert cameras.names == ("0", "1", "2", "3", "4")
    for view, frame in enumerate(frames):
        fitted = fit(frame, 64, 64)
        assert torch.equal(images[view], fitted.image) and torch.equal(cameras.depth[view], fitted.depth)
        assert torch.equal(cameras.cam_to_world[view], frame.cam_to_world)


@pytest.mark.parametrize("keyframe_overlap", [0.3, 0.6, 0.9])
def test_key_frames_are_where_the_overlap_has_fallen(keyframe_overlap):
    frames = walk(12)
    cameras, _, _ = views_of(frames, keyframe_overlap=keyframe_overlap)
    overlaps = depth_overlaps(cameras, cameras.depth)
    first, *others, last = cameras.keyframes
    assert (first, last) == (0, 11)
    for one, next_one in zip((first, *others), (*others, last), strict=True):
        assert (overlaps[one, one + 1 : next_one] > keyframe_overlap).all()
        assert overlaps[one, next_one] <= keyframe_overlap or next_one == last


def test_every_frame_is_a_key_frame_at_overlap_1():
    frames = walk(4)
    cameras, _, _ = views_of([frames[0], *frames], keyframe_overlap=1.0)
    assert cameras.keyframes == (0, 1, 2, 3, 4)


def test_last_frame_is_a_key_frame_though_it_overlaps():
    cameras, _, _ = views_of(walk(3, turn_deg=1.0))
    assert cameras.keyframes == (0, 2)


def test_key_frame_that_overlaps_no_other_is_named():
    frames = [*walk(6, turn_deg=2.0), seen("40", pose(180), 64, 64)]
    with pytest.raises(InputError, match=r"^frame 40 overlaps no other key frame"):
        views_of(frames, keyframe_overlap=1.0)


def test_key_frames_that_overlap_no_other_are_named():
    frames = [seen(str(12 + yaw), pose(yaw), 64, 64, fov_deg=40.0) for yaw in (0, 90, 180)]
    with pytest.raises(InputError, match=r"^frames 12, 102, 192 overlap no other key frame"):
        views_of(frames)


def test_best_overlap_is_that_with_another_view():
    cameras, _, _ = views_of(walk(6))
    overlaps = cameras.overlaps
    expected = [max(overlaps[view, other] for other in range(6) if other != view) for view in range(6)]
    assert best_overlaps(cameras).tolist() == expected


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_frames_are_refused(count):
    with pytest.raises(InputError, match=f"{count} of the frames can be used, and at least 2"):
        views_of(walk(count))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("", "", ""), ("", "", "")),
        (("a", "b", "c"), ("a", "b", "c")),
        (("a", "", "", "", "b"), ("a", "a", "a", "b", "b")),
        (("", "", "a", ""), ("a", "a", "a", "a")),
    ],
)
def test_frames_without_a_prompt_take_the_nearest(given, expected):
    frames = [replace(frame, prompt=prompt) for frame, prompt in zip(walk(len(given)), given, strict=True)]
    assert views_of(frames)[2] == expected


@pytest.mark.parametrize("frames", [10, 40])
def test_full_size_pictures_are_not_kept(frames):
    alive, most = weakref.WeakSet(), 0

    def watched():
        nonlocal most
        for frame in walk(frames, turn_deg=1.0):
            image = torch.zeros(480, 480, 3)
            alive.add(image)
            most = max(most, len(alive))
            yield replace(frame, image=image)
            del image

    views_of(watched())
    assert most <= 2


def test_long_lists_of_frames_are_cut_short():
    assert named_frames(["3"]) == "frame 3"
    assert named_frames(["3", "12"]) == "frames 3, 12"
    assert named_frames([str(number) for number in range(20)]).endswith(" 9, 10, 11 and 8 more")
