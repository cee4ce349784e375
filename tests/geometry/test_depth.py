"""Correspondences of posed views with depth: the recorded ones, and laws that hold for any scene."""

from __future__ import annotations

import pytest
import torch
from golden_model import case
from hypothesis import given, settings
from hypothesis import strategies as st
from overlaps import correspondences, depth_overlaps

from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, pixel_grid, rotation_from_angles
from mvdiffusion_pack.geometry.correspondence import Correspondences
from mvdiffusion_pack.geometry.depth import (
    NO_DEPTH,
    NO_POINT,
    carry,
    depth_correspondences,
    depth_hints,
    depth_neighbours,
    depth_overlap,
    depth_projection,
    inverse_depth,
    lift,
    paired,
)
from mvdiffusion_pack.geometry.input_error import InputError

any_case = pytest.mark.parametrize("name", ["depth", "depth_odd"])
sizes = st.sampled_from([(64, 64), (128, 64), (64, 192)])  # width, height
shift = st.floats(-1, 1)
STRIDE = 8


def recorded(name: str) -> tuple[Cameras, torch.Tensor]:
    """The cameras and (V, H, W) float32 depth of a recorded case."""
    data = case(name)
    depth = data["depths"][0]
    views, height, width = depth.shape
    return Cameras(data["K"].repeat(views, 1, 1), data["poses"][0], width, height), depth


def posed(size: tuple[int, int], *poses: tuple[torch.Tensor, tuple[float, float, float]]) -> Cameras:
    """Cameras 60, 65, ... degrees wide with these (rotation, position)."""
    width, height = size
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(poses), 1, 1)
    for pose, (rotation, position) in zip(cam_to_world, poses, strict=True):
        pose[:3, :3], pose[:3, 3] = rotation, torch.tensor(position, dtype=torch.float64)
    intrinsics = torch.stack([intrinsics_from_fov(60 + 5 * view, width, height) for view in range(len(poses))])
    return Cameras(intrinsics, cam_to_world, width, height)


def same_place(size: tuple[int, int], views: int = 2) -> Cameras:
    """Views with one pose and one set of intrinsics."""
    cameras = posed(size, *[(rotation_from_angles(20, -30), (1, 2, 3))] * views)
    return Cameras(cameras.intrinsics[:1].repeat(views, 1, 1), cameras.cam_to_world, *size)


def rough(cameras: Cameras, seed: int = 0, missing: float = 0.1) -> torch.Tensor:
    """(V, H, W) float32 random depth of 1 to 3 m, a share of it without a reading."""
    generator = torch.Generator().manual_seed(seed)
    shape = (cameras.views, cameras.height, cameras.width)
    depth = 1 + 2 * torch.rand(shape, generator=generator)
    return depth.where(torch.rand(shape, generator=generator) >= missing, 0)


def features(cameras: Cameras, stride: int = STRIDE) -> tuple[int, int]:
    """Height and width of features with one pixel per `stride`."""
    return cameras.height // stride, cameras.width // stride


def query_pixels(cameras: Cameras, stride: int = STRIDE) -> torch.Tensor:
    """(n, 2) image pixels at which queries stand."""
    height, width = features(cameras, stride)
    return pixel_grid(width, height).reshape(-1, 2) * stride + stride // 2


def own_numbers(corr: Correspondences, view: int) -> torch.Tensor:
    """(n, k) the numbers of one view's samples, each taken out of its pair."""
    tables = [corr.table_of(pair) for pair in corr.pairs if pair.query_view == view]
    return torch.cat([torch.where(table.cosines, table.code[..., 1], table.code[..., 0]) for table in tables], dim=1)


# ---- The recorded cases


def test_image_points_are_the_recorded_ones():
    cameras, depth = recorded("depth")
    points = carry(depth_projection(cameras, 1, 0), lift(pixel_grid(cameras.width, cameras.height), depth[0]))
    expected = case("depth")["correspondence_0_1"][0].double()
    assert torch.equal(points.movedim(0, -1) == NO_POINT, expected == -1e6)
    torch.testing.assert_close(points.movedim(0, -1), expected, rtol=1e-7, atol=1e-6)


@any_case
def test_overlapping_views_are_the_recorded_ones(name):
    overlaps = depth_overlaps(*recorded(name))
    assert torch.equal((overlaps > 0.3).to(torch.uint8), case(name)["overlap_mask"][0])


def test_recorded_view_that_overlaps_no_other_reads_the_one_before_it():
    cameras, depth = recorded("depth_odd")
    corr = correspondences(cameras, depth, 3, 3)
    assert not case("depth_odd")["overlap_mask"][0, 3, :3].any()
    assert [(pair.query_view, pair.key_view) for pair in corr.pairs] == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 2)]
    assert not corr.tables[-1].valid.any()


def published_samples(cameras: Cameras, depth: torch.Tensor, view: int, key_view: int, stride: int):
    """Points (n, 2), validity (n,) and numbers (n,) as DESIGN.md section 5 states them, pixel by pixel."""
    pixels = query_pixels(cameras, stride)
    points, valid, numbers = [], [], []
    for x, y in pixels.tolist():
        own = depth[view, int(y), int(x)].double()
        ray = torch.linalg.solve(cameras.intrinsics[view], torch.tensor([x, y, 1], dtype=torch.float64))
        world = cameras.cam_to_world[view] @ torch.cat((ray * own, torch.ones(1)))
        seen = cameras.intrinsics[key_view] @ torch.linalg.solve(cameras.cam_to_world[key_view], world)[:3]
        point = seen[:2] / (seen[2] + 1e-6) if own > 0 else torch.full((2,), -1e6, dtype=torch.float64)
        column, row = (round(number) for number in point.tolist())
        inside = 0 <= column < cameras.width and 0 <= row < cameras.height and own > 0
        theirs = depth[key_view, row, column].double() if inside else torch.zeros((), dtype=torch.float64)
        points.append(point)
        valid.append(bool(theirs > 0))
        numbers.append((own - (theirs if theirs > 0 else 1e6)).abs())
    return torch.stack(points), torch.tensor(valid), torch.stack(numbers)


@pytest.mark.parametrize("stride", [16, 32, 64])
@any_case
def test_samples_of_the_recorded_scenes(name, stride):
    cameras, depth = recorded(name)
    corr = correspondences(cameras, depth, *features(cameras, stride))
    for view in range(cameras.views):
        pairs = [pair for pair in corr.pairs if pair.query_view == view]
        samples = [published_samples(cameras, depth, view, pair.key_view, stride) for pair in pairs]
        flat = torch.stack([numbers for _, _, numbers in samples], dim=1).flatten().tolist()
        flat += [0.0] * (len(flat) % 2)
        for neighbour, (pair, (points, valid, _)) in enumerate(zip(pairs, samples, strict=True)):
            table = corr.table_of(pair)
            assert torch.equal(table.query, torch.arange(len(points)))
            assert torch.equal(table.valid[:, 0], valid)
            torch.testing.assert_close((table.coords[valid, 0] + 0.5) * stride, points[valid], rtol=0, atol=1e-9)
            numbers = [number * len(pairs) + neighbour for number in range(len(points))]
            assert table.cosines[:, 0].tolist() == [number % 2 == 1 for number in numbers]
            expected = [flat[number - number % 2 : number - number % 2 + 2] for number in numbers]
            torch.testing.assert_close(table.code[:, 0].tolist(), expected, rtol=0, atol=1e-9)


# ---- Geometry


@settings(max_examples=30, deadline=None)
@given(size=sizes, x=shift, y=shift, z=shift, distance=st.floats(1.5, 5))
def test_flat_wall_is_found_where_it_was_moved_to(size, x, y, z, distance):
    """The second camera stands (x, y, z) beside the first one and looks the same way: at a wall before both."""
    cameras = posed(size, (torch.eye(3), (0, 0, 0)), (torch.eye(3), (x, y, z)))
    wall = torch.tensor([distance, distance - z])[:, None, None].expand(2, cameras.height, cameras.width)
    corr = correspondences(cameras, wall, *features(cameras))
    table = corr.tables[0]
    own, other = cameras.intrinsics
    middle = (torch.tensor(size, dtype=torch.float64) - 1) / 2
    at_wall = (query_pixels(cameras) - middle) / own[0, 0] * distance - torch.tensor([x, y])
    expected = at_wall / (distance - z) * other[0, 0] + middle
    torch.testing.assert_close((table.coords[:, 0] + 0.5) * STRIDE, expected, rtol=1e-5, atol=1e-3)
    edge = ((expected + 0.5).abs() < 1e-2) | ((expected - torch.tensor(size) + 0.5).abs() < 1e-2)
    inside = ((expected > -0.5) & (expected < torch.tensor(size) - 0.5)).all(-1)
    assert torch.equal(table.valid[:, 0][~edge.any(-1)], inside[~edge.any(-1)])
    numbers = own_numbers(corr, 0)[table.valid]
    torch.testing.assert_close(numbers, torch.full_like(numbers, abs(z)), rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(size=sizes, yaw=st.floats(-20, 20), pitch=st.floats(-20, 20), roll=st.floats(-90, 90), x=shift, y=shift, z=shift)
def test_points_carried_there_and_back_are_where_they_were(size, yaw, pitch, roll, x, y, z):
    rotations = rotation_from_angles(30, 50), rotation_from_angles(30 + yaw, 50 + pitch, roll)
    cameras = posed(size, (rotations[0], (1, 2, 3)), (rotations[1], (1 + x, 2 + y, 3 + z)))
    pixels, depth = pixel_grid(*size), 2 + rough(cameras, missing=0)[0]
    there, back = depth_projection(cameras, 1, 0), depth_projection(cameras, 0, 1)
    lifted = lift(pixels, depth)
    z = there[2, :3] @ lifted.flatten(1) + there[2, 3]
    points = carry(there, lifted).movedim(0, -1)
    returned = carry(back, lift(points, z.view(depth.shape))).movedim(0, -1)
    seen = (z > 0.1).view(depth.shape)
    torch.testing.assert_close(returned[seen], pixels[seen], rtol=1e-3, atol=1e-2)
    assert (points[z.view(depth.shape) <= 0] == NO_POINT).all()


@given(size=sizes, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_views_in_one_place_see_each_pixel_at_itself(size, seed):
    cameras = same_place(size)
    depth = rough(cameras, seed)[:1].repeat(2, 1, 1)
    corr = correspondences(cameras, depth, *features(cameras))
    pixels = query_pixels(cameras)
    column, row = pixels.long().unbind(-1)
    has_depth = depth[0, row, column] > 0
    table = corr.tables[0]
    assert torch.equal(table.valid[:, 0], has_depth)
    torch.testing.assert_close((table.coords[has_depth, 0] + 0.5) * STRIDE, pixels[has_depth], rtol=0, atol=1e-3)
    assert torch.equal(own_numbers(corr, 0)[:, 0], torch.where(has_depth, 0.0, NO_DEPTH).double())


def test_points_behind_the_other_camera_are_not_seen():
    """The published model would see all of them: mirrored through the camera's centre."""
    rotations = rotation_from_angles(0, 0), rotation_from_angles(180, 0)
    cameras = posed((64, 64), *[(rotation, (0, 0, 0)) for rotation in rotations])
    depth = rough(cameras)
    assert torch.equal(depth_overlaps(cameras, depth), torch.eye(2, dtype=torch.float64))
    for table in correspondences(cameras, depth, 8, 8).tables:
        assert not table.valid.any() and torch.isfinite(table.coords).all()


def test_without_a_reading_at_either_end_a_sample_is_invalid_but_has_a_number():
    cameras = same_place((64, 64))
    depth = rough(cameras, missing=0)
    depth[1, :, :32] = 0
    corr = correspondences(cameras, depth, 8, 8)
    left = torch.arange(64) % 8 < 4
    for table in corr.tables:
        assert torch.equal(table.valid[:, 0], ~left)
    own = depth[0, 4::8, 4::8].double().flatten()
    assert torch.equal(own_numbers(corr, 0)[left, 0], NO_DEPTH - own[left])
    assert (own_numbers(corr, 1)[left] == NO_DEPTH).all()


def test_pixels_without_depth_do_not_lie_in_their_camera():
    """Lifted by 0 they would, and the second camera sees the first one before it."""
    cameras = posed((64, 64), (torch.eye(3), (0, 0, 0)), (torch.eye(3), (0, 0, -1)))
    depth = rough(cameras, missing=0)
    depth[0] = 0
    assert depth_overlap(cameras, depth, 0, 1) == 0
    table = correspondences(cameras, depth, 8, 8).tables[0]
    assert not table.valid.any()
    assert (table.coords == NO_POINT / STRIDE - 0.5).all()


@pytest.mark.parametrize("size", [(5, 7), (43, 21)])
def test_feature_sizes_that_do_not_divide_the_images_work(size):
    cameras = same_place((192, 128))
    corr = correspondences(cameras, rough(cameras, missing=0), *size)
    assert all(table.valid.all() for table in corr.tables)


def test_depth_of_another_size_is_refused():
    cameras = same_place((64, 128))
    for function in (depth_overlaps, lambda *given: depth_correspondences(*given, 8, 4, [[1], [0]])):
        with pytest.raises(InputError, match=r"\(2, 128, 64\).*not \(2, 64, 128\)"):
            function(cameras, torch.ones(2, 64, 128))


# ---- Overlaps and neighbours


@given(size=sizes, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_overlap_is_the_smaller_share_of_pixels_that_land(size, seed):
    poses = [(rotation_from_angles(15 * view, 5 * view), (0.2 * view, 0, -0.1 * view)) for view in range(4)]
    cameras = posed(size, *poses, (rotation_from_angles(150, 0), (0, 0, 0)))
    depth = rough(cameras, seed)
    overlaps = depth_overlaps(cameras, depth)
    limits = torch.tensor(size)[:, None, None]
    for a, b in torch.combinations(torch.arange(5)).tolist():
        shares = []
        for view, other in ((a, b), (b, a)):
            points = carry(depth_projection(cameras, other, view), lift(pixel_grid(*size), depth[view]))
            shares.append(((points >= 0) & (points < limits)).all(0).double().mean().item())
        assert overlaps[a, b] == overlaps[b, a] == min(shares)
        assert depth_overlap(cameras, depth, a, b) == min(shares)
    assert torch.equal(overlaps.diagonal(), torch.ones(5, dtype=torch.float64))


def test_pixels_without_depth_count_as_misses():
    cameras = same_place((64, 64))
    depth = rough(cameras, missing=0)
    depth[1, :16] = 0
    # Of what lands, the first row and column may round to below 0.
    assert 0.7 < depth_overlap(cameras, depth, 0, 1) <= 0.75
    assert depth_overlap(cameras, depth * 0, 0, 1) == 0


def test_neighbours_are_all_that_overlap_by_more_than_the_least_else_those_beside():
    overlaps = torch.eye(5, dtype=torch.float64)
    overlaps[1, 4] = overlaps[4, 1] = 0.31
    overlaps[1, 0] = overlaps[0, 1] = 0.3
    assert depth_neighbours(overlaps) == [[1], [4], [1, 3], [2, 4], [1]]
    assert depth_neighbours(overlaps, 0.2) == [[1], [0, 4], [1, 3], [2, 4], [1]]
    assert depth_neighbours(overlaps, 0.4) == [[1], [0, 2], [1, 3], [2, 4], [3]]


def test_one_view_has_no_pairs():
    cameras = same_place((64, 64), views=1)
    assert correspondences(cameras, rough(cameras), 8, 8).pairs == ()


def test_the_least_overlap_is_heeded():
    pairs = correspondences(*recorded("depth_odd"), 3, 3, min_overlap=0.2).pairs
    assert [pair.key_view for pair in pairs if pair.query_view == 2] == [0, 1]


# ---- The position code


def paired_code(numbers: torch.Tensor, cosines: torch.Tensor, bands: torch.Tensor) -> torch.Tensor:
    """(n, S, 2 N) codes of (n, S, 2) numbers, (n, S) of which have the cosines; `bands` are (N,) frequencies."""
    angles = (numbers[..., None] * bands.double()).flatten(-2)
    return torch.where(cosines[..., None], angles.cos(), angles.sin())


@settings(max_examples=20, deadline=None)
@given(queries=st.integers(1, 7), neighbours=st.integers(1, 4), count=st.integers(1, 5))
def test_codes_are_those_of_pairs_in_query_major_order(queries, neighbours, count):
    bands = 2.0 ** torch.arange(count, dtype=torch.float64)
    numbers = torch.rand(queries, neighbours, generator=torch.Generator().manual_seed(queries)).double()
    code = paired_code(*paired(numbers), bands).flatten(0, 1)
    flat = [*numbers.flatten(), torch.zeros((), dtype=torch.float64)]
    for first in range(0, queries * neighbours, 2):
        a, b = flat[first] * bands, flat[first + 1] * bands
        torch.testing.assert_close(code[first], torch.cat((a.sin(), b.sin())))
        if first + 1 < len(code):
            torch.testing.assert_close(code[first + 1], torch.cat((a.cos(), b.cos())))


def test_inverse_depth_is_the_recorded_one():
    data = case("depth")
    small = inverse_depth(data["depths"][0], 24, 32)
    torch.testing.assert_close(small, data["inverse_depth_small"].view_as(small), rtol=0, atol=2e-6)


def test_inverse_depth_spans_all_of_a_view_and_marks_what_has_none():
    depth = torch.tensor([[[2.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    expected = torch.tensor([[[-1 / 3, -1.0], [-2.0, 1.0]], [[-2.0, -2.0], [-2.0, -2.0]]])
    torch.testing.assert_close(inverse_depth(depth, 2, 2), expected, rtol=0, atol=1e-5)


def test_hints_for_a_controlnet_are_grey_and_white_where_near():
    depth = torch.tensor([[[1.0, 2.0], [4.0, 0.0]]])
    hints = depth_hints(depth)
    assert hints.shape == (1, 2, 2, 3) and torch.equal(hints[..., 0], hints[..., 2])
    expected = torch.tensor([[1.0, 1 / 3], [0.0, 0.0]])  # of 1 / depth, from 0.25 to 1
    assert torch.allclose(hints[0, ..., 0], expected, atol=1e-4)
