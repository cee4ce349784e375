"""The measure of agreement: numbers that are known beforehand, what counts as overlap, and what must be refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sphere import detailed, smooth, view_directions

from mvdiffusion_pack.geometry import agreement as measure
from mvdiffusion_pack.geometry import posed, seen
from mvdiffusion_pack.geometry.agreement import Agreement, PairAgreement, agreement, seen_by_both
from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, rotation_from_angles
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import cube, ring, rings, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.posed import PosedViews

RING = ring(8, 90, 96, 64)


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    """The views of RING, all of one sphere."""
    return smooth(view_directions(RING)).float()


def of(found: Agreement, view: int, other: int) -> PairAgreement:
    return next(pair for pair in found.pairs if (pair.view, pair.other) == (view, other))


# ---- Panoramas


@pytest.mark.parametrize("cameras", [ring(8, 90, 192, 128, 20, 10), sphere(8, 90, 128, 128)], ids=["ring", "sphere"])
def test_views_of_one_panorama_agree(cameras):
    panorama = smooth(equirect_directions(1024, 512)).float()[None]
    found = agreement(equirect_to_views(panorama, cameras)[0], cameras)
    assert min(pair.psnr for pair in found.pairs) > 60


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, 0.5)], ids=["across", "down"])
def test_half_a_pixel_of_shift_shows(shift):
    views = detailed(view_directions(RING)).float()
    intrinsics = RING.intrinsics.clone()
    intrinsics[:, :2, 2] += torch.tensor(shift, dtype=torch.float64)
    assert agreement(views, RING).psnr > agreement(views, replace(RING, intrinsics=intrinsics)).psnr + 6


def test_views_in_another_order_agree_less(views):
    assert agreement(views[[0, 2, 1, 3, 4, 5, 6, 7]], RING).psnr < agreement(views, RING).psnr - 20


def test_neighbours_are_compared_once_and_views_of_other_rings_too(views):
    pairs = {(pair.view, pair.other) for pair in agreement(views, RING).pairs}
    assert pairs == {(view, view + 1) for view in range(7)} | {(0, 7)}
    two_rings = rings(4, 100, 64, 64, 0, (0, 40))
    found = agreement(smooth(view_directions(two_rings)).float(), two_rings)
    assert len(found.pairs) == len({(pair.view, pair.other) for pair in found.pairs}) and of(found, 0, 4).pixels


def test_pixels_are_those_within_the_border_pixels_of_the_other_view(views):
    for pair in agreement(views, RING).pairs:
        x, y, z = (view_directions(RING)[pair.view] @ RING.rotation[pair.other]).unbind(-1)
        focal, middle = RING.intrinsics[0, 0, 0], RING.intrinsics[0, :2, 2]
        column, row = focal * x / z + middle[0], focal * y / z + middle[1]
        inside = (z > 0) & (column >= 0) & (column <= RING.width - 1) & (row >= 0) & (row <= RING.height - 1)
        assert pair.pixels == inside.sum() and pair.share == pytest.approx(inside.double().mean().item())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 7), st.floats(0.01, 0.4), st.sampled_from([1, 2]))
def test_one_view_of_other_brightness_gives_the_decibels_of_its_pixels(view, shift, panoramas):
    images = torch.full((8 * panoramas, 64, 96, 3), 0.5)
    images[view] += shift
    found = agreement(images, RING)
    touched = [pair for pair in found.pairs if view in (pair.view, pair.other) and pair.panorama == 0]
    assert [pair.psnr for pair in touched] == pytest.approx([-20 * math.log10(shift)] * 2, abs=1e-3)
    share = sum(pair.pixels for pair in touched) / sum(pair.pixels for pair in found.pairs)
    assert found.psnr == pytest.approx(-10 * math.log10(shift**2 * share), abs=1e-3)


def test_error_is_the_mean_over_colours(views):
    images = torch.full((8, 64, 96, 3), 0.5)
    images[:1, ..., 0] = 0.8
    assert of(agreement(images, RING), 0, 1).error == pytest.approx(0.3**2 / 3, rel=1e-5)


def test_identical_pictures_have_a_finite_number():
    found = agreement(torch.full((8, 64, 96, 3), 0.25), RING)
    assert found.psnr == found.worst.psnr == 100.0


def test_bands_of_rows_give_what_one_gives(views, monkeypatch):
    images = views.roll(1, 0)
    whole = agreement(images, RING)
    monkeypatch.setattr(seen, "BLOCK", 7 * RING.width)
    banded = agreement(images, RING)
    assert [pair.pixels for pair in banded.pairs] == [pair.pixels for pair in whole.pairs]
    assert [pair.error for pair in banded.pairs] == pytest.approx([pair.error for pair in whole.pairs], rel=1e-5)


def test_panoramas_count_apart_in_their_pairs_and_together_in_the_total(views):
    spoilt = views.roll(1, 1)
    both = agreement(torch.cat((views, spoilt)), RING)
    first, second = agreement(views, RING), agreement(spoilt, RING)
    assert [pair.panorama for pair in both.pairs] == [0] * 8 + [1] * 8
    expected = [pair.error for pair in first.pairs + second.pairs]
    assert [pair.error for pair in both.pairs] == pytest.approx(expected)
    errors = [pair.error * pair.pixels for found in (first, second) for pair in found.pairs]
    assert both.psnr == pytest.approx(-10 * math.log10(sum(errors) / both.pixels))
    assert both.worst.title == f"panorama 1, view {second.worst.view} and view {second.worst.other}"


@pytest.mark.parametrize("factor", [2, 0.5])
def test_images_of_another_size_are_compared_at_the_same_directions(factor):
    width, height = round(factor * RING.width), round(factor * RING.height)
    finer = ring(8, 90, width, height)
    images = smooth(view_directions(finer)).float()
    found, expected = agreement(images, RING), agreement(images, finer)
    assert [pair.pixels for pair in found.pairs] == [pair.pixels for pair in expected.pairs]
    assert found.psnr == pytest.approx(expected.psnr, abs=0.1) and found.psnr > 60


def test_half_precision_and_alpha_are_taken(views):
    images = torch.cat((views, torch.rand(8, 64, 96, 1)), dim=-1).half()
    assert agreement(images, RING).psnr > 60


def test_what_both_see_is_what_is_compared(views):
    images = torch.cat((views, views.roll(1, 0)))
    pair = agreement(images, RING).worst
    view, other, overlap = seen_by_both(images, RING, pair)
    assert torch.equal(view.movedim(0, -1), images[8 * pair.panorama + pair.view]) and overlap.sum() == pair.pixels
    assert (view - other).square().mean(0)[overlap].mean().item() == pytest.approx(pair.error, rel=1e-4)


# ---- Depth: a wall 4 m away, and a board 2 m away that hides a part of it from each camera, but not the same part

WALL, BOARD, HALF_BOARD = 4.0, 2.0, 0.4  # metres; the board is a strip of all heights about x = 0


def scene(places: list[tuple[float, float]], width: int = 128, height: int = 96, yaw: float = 5.0):
    """Posed views at (x, z), turned a little; their (V, h, w, 3) images, and (V, h, w, 3) the points that they show."""
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(places), 1, 1)
    for number, (pose, (x, z)) in enumerate(zip(cam_to_world, places, strict=True)):
        pose[:3, :3] = rotation_from_angles(yaw * (-1) ** number, 3)
        pose[:3, 3] = torch.tensor([x, 0, z])
    cameras = Cameras(intrinsics_from_fov(70, width, height).repeat(len(places), 1, 1), cam_to_world, width, height)
    directions, start = view_directions(cameras), cam_to_world[:, None, None, :3, 3]
    at_board = start + directions * ((BOARD - start) / directions)[..., 2:]
    at_wall = start + directions * ((WALL - start) / directions)[..., 2:]
    points = torch.where(at_board[..., :1].abs() < HALF_BOARD, at_board, at_wall)
    depth = ((points - start) * cameras.rotation[:, None, None, :, 2]).sum(-1).float()
    posed = PosedViews(
        cameras.intrinsics, cam_to_world, width, height, depth=depth, names=tuple("abcdefg"[: len(places)])
    )
    return posed, coloured(points), points


def coloured(points: torch.Tensor) -> torch.Tensor:
    """(..., 3) smooth colours: of the wall around 0.7, of the board around 0.2."""
    pattern = 0.1 * torch.stack((points[..., 0], points[..., 1], points[..., 0] - points[..., 1]), dim=-1).sin()
    return (pattern + torch.where(points[..., 2:] > BOARD + 0.1, 0.7, 0.2)).float()


def visible(points: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """(...) whether (..., 3) points can be seen from a place: the board is not between."""
    part = (BOARD - place[2]) / (points[..., 2] - place[2])
    crossing = place[0] + part * (points[..., 0] - place[0])
    return (crossing.abs() >= HALF_BOARD) | (points[..., 2] < BOARD + 0.1)


BESIDE = [(-0.4, 0.0), (0.4, 0.0)]  # the board is between them
AWAY = [(5.0, 0.0), (5.4, 0.0), (5.8, 0.0)]  # too far from the board to see it


def test_only_what_both_views_see_counts():
    cameras, images, points = scene(BESIDE)
    pair = agreement(images, cameras).worst
    _, _, overlap = seen_by_both(images, cameras, pair)
    in_sight = visible(points[0], cameras.cam_to_world[1, :3, 3])
    x, y, z = ((points[0] - cameras.cam_to_world[1, :3, 3]) @ cameras.rotation[1] @ cameras.intrinsics[1].mT).unbind(-1)
    inside = (x / z >= 0) & (x / z <= cameras.width - 1) & (y / z >= 0) & (y / z <= cameras.height - 1)
    assert (inside & ~in_sight).double().mean() > 0.05  # the board matters
    assert (overlap == (inside & in_sight)).double().mean() > 0.99  # all but the board's outline


def test_hidden_points_would_spoil_the_number(monkeypatch):
    cameras, images, _ = scene(BESIDE)
    with_rule = agreement(images, cameras)
    monkeypatch.setattr(posed, "AGREE_M", torch.inf)
    without_rule = agreement(images, cameras)
    assert with_rule.psnr > without_rule.psnr + 5
    assert without_rule.pixels > 1.05 * with_rule.pixels


def test_smooth_wall_agrees_and_another_brightness_is_exact():
    cameras, images, _ = scene(AWAY[:2])
    assert agreement(images, cameras).psnr > 50
    flat = torch.full_like(images, 0.5)
    flat[1] = 0.6
    assert agreement(flat, cameras).psnr == pytest.approx(20, abs=1e-3)


def test_a_camera_that_steps_back_sees_the_same_points():
    cameras, images, _ = scene([(5.0, 1.0), (5.0, 0.0)], yaw=0)
    assert (cameras.depth[1] - cameras.depth[0]).min() > posed.AGREE_M
    found = agreement(images, cameras)
    assert found.worst.share == 1 and found.psnr > 50


@pytest.mark.parametrize(("metres", "agrees"), [(0.45, True), (-0.45, True), (0.55, False), (-0.55, False)])
def test_depths_agree_within_half_a_metre(metres, agrees):
    cameras, images, _ = scene(AWAY[:1] * 3, yaw=0)
    depth = cameras.depth.clone()
    depth[1] += metres
    found = agreement(images, replace(cameras, depth=depth))
    assert {(pair.view, pair.other) for pair in found.pairs} == ({(0, 1), (0, 2), (1, 2)} if agrees else {(0, 2)})
    assert all(pair.share > 0.95 for pair in found.pairs)


@pytest.mark.parametrize("view", [0, 1])
def test_pixels_without_depth_do_not_count(view):
    cameras, images, _ = scene(AWAY[:1] * 2, yaw=0)
    depth = cameras.depth.clone()
    depth[view, :, :50] = 0
    assert agreement(images, replace(cameras, depth=depth)).pixels == 96 * (128 - 50)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_images_of_another_size_read_the_nearest_depth(factor):
    cameras, images, _ = scene(AWAY[:2])
    _, resized, _ = scene(AWAY[:2], round(128 * factor), round(96 * factor))
    found, expected = agreement(resized, cameras), agreement(images, cameras)
    assert found.worst.share == pytest.approx(expected.worst.share, abs=0.02)
    assert found.psnr > 50


def test_frames_are_called_by_their_names():
    cameras, images, _ = scene(AWAY)
    images[2] = 0
    found = agreement(torch.cat((images, images)), cameras)
    assert found.worst.names[1] == "frame c" and found.worst.title.startswith("sequence 0, frame ")
    assert len(found.pairs) == 6


# ---- Reports


def pair_of(view: int, share: float, error: float) -> PairAgreement:
    names = f"view {view}", f"view {view + 1}"
    return PairAgreement(0, view, view + 1, names, " and ".join(names), round(10000 * share), share, error)


def test_pairs_that_share_few_pixels_are_not_the_worst():
    pairs = pair_of(0, 0.004, 0.5), pair_of(1, 0.3, 0.01), pair_of(2, 0.3, 0.02)
    assert [pair.view for pair in Agreement(pairs).ranked] == [2, 1, 0]
    assert Agreement(pairs[:1]).worst is pairs[0]


def test_table_has_the_total_and_the_worst_pairs_first():
    table = Agreement((pair_of(0, 0.3, 0.001), pair_of(1, 0.1, 0.01))).table()
    assert table.splitlines() == [
        "24.88 dB  all 2 pairs                4000 pixels",
        "20.00 dB  view 1 and view 2  10.0 %  1000 pixels",
        "30.00 dB  view 0 and view 1  30.0 %  3000 pixels",
    ]


def test_long_tables_say_how_much_they_leave_out():
    lines = Agreement(tuple(pair_of(view, 0.3, 0.01) for view in range(45))).table().splitlines()
    assert len(lines) == 1 + measure.ROWS + 1 and lines[-1] == "... and 5 pairs more"


# ---- Refusals


def refused(match: str, images: torch.Tensor, cameras: Cameras) -> None:
    with pytest.raises(InputError, match=match):
        agreement(images, cameras)


def test_images_that_do_not_fit_the_cameras_are_refused(views):
    refused("too few images: 5 images, 8 cameras", views[:5], RING)
    refused("not a multiple of the cameras: 12 images, 8 cameras", views[[0, 1, 2, 3] * 3], RING)
    refused("the images are 64 x 64 pixels", views[:, :, :64], RING)


def test_images_with_nan_are_refused(views):
    views = views.clone()
    views[3, 2, 1] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite numbers in the images"):
        agreement(views, RING)


def test_cameras_without_neighbours_are_refused():
    refused("faces of a cube do not overlap", torch.rand(6, 32, 32, 3), cube(32, 32, 0))
    refused("a single view", torch.rand(1, 32, 32, 3), ring(1, 90, 32, 32))
    cameras, images, _ = scene([(0.0, 0.0)])
    refused("a single view", images, cameras)


def test_views_that_share_no_pixel_are_refused():
    refused("no pixels overlap", torch.rand(4, 32, 32, 3), ring(4, 60, 32, 32))
    cameras, images, _ = scene(AWAY[:2])
    depth = cameras.depth * torch.tensor([1.0, 2.0])[:, None, None]
    refused("no pixels overlap", images, replace(cameras, depth=depth))
