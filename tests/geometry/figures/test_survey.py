"""What views see, against rays cast one by one and against geometry done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from sphere import cameras_at, seen_share

from mvdiffusion_pack.geometry.figures.survey import outlines, overlaps, plan_outlines, sphere_share, view_counts
from mvdiffusion_pack.geometry.grid import edge_planes
from mvdiffusion_pack.geometry.layouts import ring, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_from_directions

CUBE = [(0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (-90.0, 0.0), (0.0, 90.0), (0.0, -90.0)]


@pytest.mark.parametrize(
    ("cameras", "share"),
    [
        (ring(1, 90.0, 64, 64), 1 / 6),
        (ring(4, 90.0, 64, 64), 4 / 6),
        (cameras_at(CUBE, 90.0, 64, 64), 1.0),
        (ring(1000, 90.0, 64, 64), math.sin(math.pi / 4)),
    ],
    ids=["one face of a cube", "four faces", "six faces", "a band up to 45 degrees"],
)
def test_share_of_the_sphere_is_that_of_the_solid(cameras, share):
    assert sphere_share(cameras) == pytest.approx(share, abs=0.002)


def test_share_of_the_published_ring():
    """Integrated over one view's half: its upper edge stands atan(cos(yaw)) high, so the share is the mean sine of it.

    The neighbour takes over halfway, at 22.5 degrees.
    """
    yaw = torch.linspace(0, math.pi / 8, 100_001, dtype=torch.float64)
    share = yaw.cos().atan().sin().mean().item()
    assert sphere_share(ring(8, 90.0, 512, 512)) == pytest.approx(share, abs=0.002)


def test_counts_say_how_many_views_look_somewhere():
    """10 degrees beside view 0 its upper edge is atan(cos(10)) = 44.6 degrees high, view 1's atan(cos(35)) = 39.3."""
    counts = view_counts(ring(8, 90.0, 64, 64), 360)
    assert counts.shape == (180, 360)
    assert [counts[90 - latitude, 180 + 10].item() for latitude in (0, 37, 42, 47, 90)] == [2, 2, 1, 0, 0]


def test_counts_are_where_the_view_looks():
    counts = view_counts(cameras_at([(90.0, 30.0)], 20.0, 64, 64), 360)
    row, column = torch.meshgrid(torch.arange(180.0), torch.arange(360.0), indexing="ij")
    middle = (counts * column).sum() / counts.sum(), (counts * row).sum() / counts.sum()
    assert middle[0] == pytest.approx(270 - 0.5, abs=0.1)
    assert middle[1] == pytest.approx(60 - 0.5, abs=1.0)


def test_counts_of_a_view_across_the_wrap_are_at_both_sides():
    counts = view_counts(ring(1, 40.0, 64, 64, start_yaw_deg=180.0), 360)[90]
    assert (counts > 0.5).nonzero().flatten().tolist() == [*range(20), *range(340, 360)]


@pytest.mark.parametrize(
    "cameras",
    [
        ring(8, 90.0, 400, 400),
        ring(5, 100.0, 500, 200, 17.0),
        ring(7, 80.0, 300, 400, -40.0, 35.0),
        ring(3, 170.0, 400, 400),
        sphere(8, 90.0, 400, 400),
    ],
    ids=["published", "wide", "pitched", "huge", "sphere"],
)
def test_overlaps_are_the_pixels_that_rays_find(cameras):
    for view, other, share in overlaps(cameras):
        assert share == pytest.approx(seen_share(cameras, view, other), abs=0.005)


def test_overlap_of_the_published_ring_by_hand():
    """The half of the picture towards the neighbour, without a corner above and below it: there a direction
    (x, y, 1) stands sqrt(2) y / (1 + x) high in the neighbour's picture, that is outside from y = (1 + x) / sqrt(2) on.
    """
    end = math.sqrt(2) - 1
    corner = end - (end + end**2 / 2) / math.sqrt(2)
    assert overlaps(ring(8, 90.0, 512, 512))[0][2] == pytest.approx((1 - corner) / 2, abs=1e-9)


def test_overlaps_go_round_the_ring():
    assert [pair[:2] for pair in overlaps(ring(3, 130.0, 64, 64))] == [(0, 1), (1, 2), (2, 0)]


def test_overlaps_of_cameras_without_rings_go_along_the_row():
    assert [pair[:2] for pair in overlaps(cameras_at(CUBE[:3], 90.0, 64, 64))] == [(0, 1), (1, 2)]


def test_one_view_overlaps_nothing():
    assert overlaps(ring(1, 90.0, 64, 64)) == []


def test_faces_of_a_cube_share_nothing():
    assert [share for *_, share in overlaps(cameras_at(CUBE, 90.0, 64, 64))] == pytest.approx([0] * 5, abs=1e-6)


def test_equal_views_share_everything():
    assert [share for *_, share in overlaps(cameras_at([(20.0, 5.0)] * 2, 75.0, 64, 48))] == pytest.approx([1])


@pytest.mark.parametrize("fov", [1.0, 90.0, 179.0])
def test_outlines_lie_on_the_edges_and_pass_the_corners(fov):
    cameras = cameras_at([(30.0, -20.0), (0.0, 90.0)], fov, 80, 50)
    edges = outlines(cameras)
    assert torch.einsum("vnc,vkc->vnk", edges, edge_planes(cameras)).amin(-1).abs().max() < 1e-12
    first = edges[:, 0] @ torch.linalg.inv(cameras.cam_to_world[:, :3, :3]).mT
    pixel = first[0, 0] @ cameras.intrinsics[0].mT
    assert (pixel[:2] / pixel[2]).tolist() == pytest.approx([-0.5, -0.5])


def test_outline_goes_round_the_wrap_without_leaving_its_view():
    x, _ = equirect_from_directions(outlines(ring(1, 40.0, 64, 64, start_yaw_deg=180.0))[0], 360).unbind(-1)
    assert ((x < 20) | (x > 339)).all()


def test_level_view_is_a_sector_of_its_field_of_view():
    (shape,) = plan_outlines(ring(1, 60.0, 64, 64, start_yaw_deg=90.0))
    away = shape[shape.norm(dim=1) > 0.5]
    angles = torch.atan2(away[:, 0], away[:, 1]).rad2deg()
    assert away.norm(dim=1).min() > 0.999
    assert (angles.min().item(), angles.max().item()) == pytest.approx((60, 120), abs=0.5)
    assert [0, 0] in shape.tolist()


def test_view_that_looks_up_is_shorter():
    (shape,) = plan_outlines(ring(1, 40.0, 64, 64, 0.0, 60.0))
    assert shape[:, 1].max() == pytest.approx(math.cos(math.radians(40)), abs=1e-3)
    assert shape[:, 1].min() == pytest.approx(0, abs=1e-9)


def test_view_straight_up_lies_around_the_camera():
    (shape,) = plan_outlines(ring(1, 90.0, 64, 64, 0.0, 90.0))
    assert shape.amax(0).tolist() == pytest.approx([math.sqrt(0.5)] * 2, abs=1e-3)
    assert shape.amin(0).tolist() == pytest.approx([-math.sqrt(0.5)] * 2, abs=1e-3)
