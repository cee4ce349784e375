"""Frames of Depth Anything 3's geometry: of a room whose depth and poses are known, as the host would describe it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from overlaps import depth_overlaps
from rooms import UNIT, described, pose, seen

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.sequence import da3
from mvdiffusion_pack.geometry.sequence.da3 import da3_frames
from mvdiffusion_pack.geometry.sequence.frames import Frame, posed_views

WIDTH, HEIGHT = 90, 60


def room() -> list[Frame]:
    """Five pictures of a room, each half a metre and 12 degrees from the last one."""
    places = [(0.5 * i - 1, 0.1 * i, 0.2 * i) for i in range(5)]
    poses = [pose(12 * i - 20, place, pitch_deg=3 * i) for i, place in enumerate(places)]
    return [seen(str(i), cam_to_world, WIDTH, HEIGHT) for i, cam_to_world in enumerate(poses)]


def stacked(frames: list[Frame]) -> tuple[Cameras, torch.Tensor]:
    """The cameras and (V, H, W) depth of frames."""
    parts = (torch.stack([getattr(frame, part) for frame in frames]) for part in ("intrinsics", "cam_to_world"))
    return Cameras(*parts, WIDTH, HEIGHT), torch.stack([frame.depth for frame in frames])


def test_frames_are_those_that_were_described():
    frames = room()
    read = list(da3_frames(described(frames), depth_scale=UNIT))
    assert [frame.name for frame in read] == ["0", "1", "2", "3", "4"]
    for frame, expected in zip(read, frames, strict=True):
        torch.testing.assert_close(frame.intrinsics, expected.intrinsics, rtol=1e-6, atol=0)
        torch.testing.assert_close(frame.cam_to_world, expected.cam_to_world, rtol=0, atol=2e-6)
        torch.testing.assert_close(frame.depth, expected.depth, rtol=1e-6, atol=0)
        assert torch.equal(frame.image, expected.image) and frame.prompt == ""


def test_views_overlap_as_those_that_were_described():
    """With depth in error by 2 % and a tenth of it spoiled, of which the confidence tells."""
    frames = room()
    spoiled = torch.rand((5, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)) < 0.1
    geometry = described(frames, noise=0.02)
    geometry["depth"][spoiled] *= 5
    geometry["confidence"][spoiled] = 1.02
    read = list(da3_frames(geometry, depth_scale=UNIT))
    assert all(torch.equal(frame.depth == 0, lost) for frame, lost in zip(read, spoiled, strict=True))
    known = [replace(frame, depth=frame.depth.where(~lost, 0)) for frame, lost in zip(frames, spoiled, strict=True)]
    overlaps, expected = depth_overlaps(*stacked(read)), depth_overlaps(*stacked(known))
    assert (expected - torch.eye(5)).max() > 0.5 and expected.min() < 0.3
    torch.testing.assert_close(overlaps, expected, rtol=0, atol=0.01)


def test_views_and_key_frames_are_those_of_the_folder_source():
    frames = room()
    read, expected = (
        posed_views(source, 64, 64, 0.3, 0.6)[0] for source in (da3_frames(described(frames, 0.01), UNIT), frames)
    )
    assert read.keyframes == expected.keyframes
    torch.testing.assert_close(read.overlaps, expected.overlaps, rtol=0, atol=0.01)


def test_without_a_scale_the_median_depth_is_two_metres():
    frames = room()
    read = list(da3_frames(described(frames), max_frames=3))
    depth = torch.stack([frame.depth for frame in read])
    assert depth.median().item() == pytest.approx(2, rel=1e-3)
    grown = depth[0, 0, 0] / frames[0].depth[0, 0]
    for frame, expected in zip(read, frames, strict=False):
        moved = grown * expected.cam_to_world[:3, 3]
        torch.testing.assert_close(frame.cam_to_world[:3, 3], moved.double(), rtol=0, atol=1e-4)


def test_median_of_large_pictures_is_that_of_a_part_of_them(monkeypatch):
    monkeypatch.setattr(da3, "SAMPLES", 1000)
    depth = torch.stack([frame.depth for frame in da3_frames(described(room()))])
    assert depth.median().item() == pytest.approx(2, rel=0.02)


def test_depth_that_is_none_does_not_count():
    geometry = described(room())
    geometry["depth"][0, 0, :4] = torch.tensor([torch.nan, torch.inf, 0, -1])
    geometry["confidence"][0, 0, 4] = torch.nan
    read = list(da3_frames(geometry))
    assert (read[0].depth[0, :5] == 0).all()
    assert all((frame.depth.flatten()[5:] > 0).all() for frame in read)


@pytest.mark.parametrize(
    "confidence, min_confidence, kept",
    [
        (1.2, 0.1, True),
        (1.1, 0.1, False),
        (1.9, 0.5, False),
        (2.1, 0.5, True),
        (1.0, 0.0, True),
        (0.5, 0.0, True),
        (torch.inf, 1.0, True),
    ],
)
def test_confidence_is_one_less_its_inverse(confidence, min_confidence, kept):
    geometry = described(room())
    geometry["confidence"][:, 1:] = torch.inf
    geometry["confidence"][:, 0] = confidence
    for frame in da3_frames(geometry, min_confidence=min_confidence):
        assert (frame.depth[0] > 0).all() == kept and (frame.depth[1:] > 0).all()


def test_images_may_be_of_half_precision_and_have_alpha():
    geometry = described(room())
    geometry["image"] = torch.cat((geometry["image"], torch.zeros(5, HEIGHT, WIDTH, 1)), dim=-1).half() * 1.1
    for frame, expected in zip(da3_frames(geometry), room(), strict=True):
        assert frame.image.dtype == torch.float32
        torch.testing.assert_close(frame.image, (1.1 * expected.image).clamp(max=1), rtol=0, atol=2e-3)


def test_without_confidence_all_depth_counts():
    geometry = described(room())
    del geometry["confidence"]
    assert all((frame.depth > 0).all() for frame in da3_frames(geometry, min_confidence=0.9))


def test_start_stride_and_most_count_pictures():
    assert [frame.name for frame in da3_frames(described(room()), start=1, stride=2)] == ["1", "3"]
    assert [frame.name for frame in da3_frames(described(room()), max_frames=3)] == ["0", "1", "2"]


def test_pictures_of_no_use_are_left_out_and_named():
    geometry, told = described(room()), []
    geometry["extrinsics"][0, 0, 1, 2] = torch.nan
    geometry["intrinsics"][0, 1, 0, 0] = 7e7
    geometry["confidence"][3] = 1.0
    assert [frame.name for frame in da3_frames(geometry, on_skipped=told.append)] == ["2", "4"]
    assert told == [
        "skipped frame 0 (pose not finite), frame 1 (field of view not estimated), frame 3 (no depth that is certain "
        "enough)"
    ]


def test_nobody_is_told_where_nothing_is_left_out():
    told = []
    assert len(list(da3_frames(described(room()), on_skipped=told.append))) == 5 and told == []


@pytest.mark.parametrize("factor", [-1.0, 1.1])
def test_poses_that_mirror_or_grow_are_left_out(factor):
    geometry, told = described(room()), []
    geometry["extrinsics"][0, 2, :, :3] *= factor
    assert len(list(da3_frames(geometry, on_skipped=told.append))) == 4
    assert told == ["skipped frame 2 (pose not rigid)"]


def test_rounded_rotations_become_rotations():
    frames, geometry = room(), described(room())
    geometry["extrinsics"] = geometry["extrinsics"].bfloat16()
    for frame, expected in zip(da3_frames(geometry, UNIT), frames, strict=True):
        rotation = frame.cam_to_world[:3, :3]
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(rotation, expected.cam_to_world[:3, :3], rtol=0, atol=4e-3)


def test_principal_points_that_were_estimated_are_put_into_the_middle():
    """As `ray_pose` gives them: each a little off, so that none alone tells the size that the model ran at."""
    frames, geometry = room(), described(room())
    geometry["intrinsics"][0, :, 0, 2] *= torch.tensor([1.07, 0.98, 1.01, 0.99, 1.02])
    for frame, expected in zip(da3_frames(geometry), frames, strict=True):
        torch.testing.assert_close(frame.intrinsics, expected.intrinsics, rtol=1e-6, atol=0)


def test_frames_are_made_when_they_are_asked_for():
    geometry = described(room())
    frames = da3_frames(geometry)
    next(frames)
    geometry["image"][1] = 0.25
    assert (next(frames).image == 0.25).all()


def test_fewer_than_two_pictures_are_refused_before_the_first_frame():
    geometry = described(room())
    geometry["confidence"][1:] = 1.0
    with pytest.raises(InputError, match=r"^1 of the 5 .* \(skipped frames 1, 2, 3, 4 .*\)$") as raised:
        da3_frames(geometry)
    assert raised.value.remedy == "few_pictures"


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"start": -1}, "start must be 0 or more, .* not -1, 1 and 0"),
        ({"stride": 0}, "stride 1 or more .* not 0, 0 and 0"),
        ({"max_frames": -1}, "max_frames 0 .* not 0, 1 and -1"),
        ({"depth_scale": float("nan")}, "depth_scale is nan"),
        ({"depth_scale": -1.0}, "depth_scale is -1"),
        ({"min_confidence": float("nan")}, "min_confidence must lie between 0 and 1, not nan"),
    ],
)
def test_numbers_out_of_their_range_are_refused(numbers, match):
    with pytest.raises(InputError, match=match):
        da3_frames(described(room()), **numbers)


@pytest.mark.parametrize("lacking", ["depth", "image"])
def test_what_is_no_geometry_is_refused(lacking):
    geometry = {key: value for key, value in described(room()).items() if key != lacking}
    for given in (geometry, torch.zeros(3)):
        with pytest.raises(InputError, match=r"^geometry is not what Run Depth Anything 3 makes$"):
            da3_frames(given)


def test_start_beyond_the_last_picture_is_refused():
    with pytest.raises(InputError, match=r"^start is 5, and there are 5 pictures in geometry$") as raised:
        da3_frames(described(room()), start=5)
    assert raised.value.remedy == "lower_start"


def identities(*shape: int) -> torch.Tensor:
    return torch.eye(shape[-1]).expand(1, *shape)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"mode": "mono"}, "single pictures"),
        ({"extrinsics": identities(5, 4, 4), "intrinsics": identities(5, 3, 3)}, "identities"),
    ],
)
def test_geometry_without_poses_is_refused(changes, match):
    with pytest.raises(InputError, match=f"^geometry .*{match}") as raised:
        da3_frames(described(room(), **changes))
    assert raised.value.remedy == "estimate_poses"
