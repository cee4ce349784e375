"""Correspondences agree with rays cast from camera to camera."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdiffusion_pack.geometry.cameras import pixel_grid
from mvdiffusion_pack.geometry.correspondence import panorama_correspondences, ring_neighbours
from mvdiffusion_pack.geometry.layouts import ring

CENTRE = 4  # of the 3 x 3 neighbourhood


def ray_cast(cameras, query_view: int, key_view: int, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where key_view sees what query_view sees at (n, 2) pixels, and its depth, by way of world directions."""
    rays = torch.cat((pixels, torch.ones_like(pixels[:, :1])), dim=1)
    world = torch.linalg.solve(cameras.intrinsics[query_view], rays.mT).mT @ cameras.rotation[query_view].mT
    seen = world @ cameras.rotation[key_view]
    image = seen @ cameras.intrinsics[key_view].mT
    return image[:, :2] / image[:, 2:], seen[:, 2]


@settings(max_examples=30, deadline=None)
@given(
    views=st.integers(2, 12),
    fov=st.floats(20, 150),
    pitch=st.floats(-60, 60),
    size=st.sampled_from([(64, 64), (128, 64), (64, 192)]),
    stride=st.sampled_from([8, 16, 64]),
)
def test_centre_samples_are_ray_casts(views, fov, pitch, size, stride):
    cameras = ring(views, fov, *size, pitch_deg=pitch)
    width, height = size[0] // stride, size[1] // stride
    corr = panorama_correspondences(cameras, height, width)
    pixels = pixel_grid(width, height).reshape(-1, 2) * stride + stride // 2
    for pair in corr.pairs:
        table = corr.tables[pair.table]
        image, depth = ray_cast(cameras, pair.query_view, pair.key_view, pixels)
        inside = ((image > 0) & (image < torch.tensor(size))).all(1) & (depth > 1e-9)
        ambiguous = ((image.abs() < 1e-6) | ((image - torch.tensor(size)).abs() < 1e-6)).any(1) | (depth.abs() < 1e-6)
        assert torch.equal(table.valid[:, CENTRE][~ambiguous], inside[~ambiguous])
        in_feature = (table.coords[:, CENTRE] + 0.5) * stride
        torch.testing.assert_close(in_feature[inside], image[inside], rtol=0, atol=1e-6)


@given(views=st.integers(3, 12), fov=st.floats(40, 120))
@settings(max_examples=20, deadline=None)
def test_neighbourhood_is_unit_steps_and_its_code_leads_back(views, fov):
    cameras = ring(views, fov, 128, 128)
    corr = panorama_correspondences(cameras, 8, 8)
    query = pixel_grid(8, 8).reshape(-1, 2) * 16 + 8
    for pair in corr.pairs:
        table = corr.tables[pair.table]
        steps = (table.coords - table.coords[:, CENTRE : CENTRE + 1]).round(decimals=6)
        assert set(map(tuple, steps[table.valid.all(1)].flatten(0, 1).tolist())) <= {
            (x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)
        }
        for sample in range(9):
            carried = query + table.code[:, sample] * 16
            image, _ = ray_cast(cameras, pair.query_view, pair.key_view, carried)
            valid = table.valid[:, sample]
            expected = (table.coords[:, sample] + 0.5) * 16
            torch.testing.assert_close(image[valid], expected[valid], rtol=0, atol=1e-6)


def test_what_lies_to_the_right_is_found_at_the_left_of_the_next_view():
    corr = panorama_correspondences(ring(8, 90, 128, 128), 16, 16)
    pair = next(pair for pair in corr.pairs if (pair.query_view, pair.key_view) == (0, 1))
    table = corr.tables[pair.table]
    row = 8 * 16
    right, left = table.valid[row + 12, CENTRE], table.valid[row + 2, CENTRE]
    assert right and not left
    assert table.coords[row + 12, CENTRE, 0] < 8


def test_ring_of_eight_shares_two_tables():
    corr = panorama_correspondences(ring(8, 90, 512, 512), 8, 8)
    assert len(corr.pairs) == 16 and len(corr.tables) == 2
    assert {pair.table for pair in corr.pairs if pair.key_view == (pair.query_view + 1) % 8} == {1}


def test_differently_pitched_pairs_do_not_share_a_table():
    corr = panorama_correspondences(ring(5, 90, 64, 64, pitch_deg=20), 4, 4)
    assert len(corr.tables) == 2
    a, b = corr.tables
    assert not torch.allclose(a.coords, b.coords)


@pytest.mark.parametrize(
    ("views", "expected"), [(1, [[]]), (2, [[1, 1], [0, 0]]), (3, [[2, 1], [0, 2], [1, 0]])], ids=["1", "2", "3"]
)
def test_neighbours_are_cyclic_and_two_views_count_their_one_twice(views, expected):
    assert ring_neighbours(ring(views, 90, 64, 64)) == expected


def test_points_behind_the_other_camera_are_invalid():
    corr = panorama_correspondences(ring(2, 170, 64, 64), 8, 8)
    cameras = ring(2, 170, 64, 64)
    pixels = pixel_grid(8, 8).reshape(-1, 2) * 8 + 4
    _, depth = ray_cast(cameras, 0, 1, pixels)
    assert (depth < 0).all()
    assert not any(table.valid.any() for table in corr.tables)


def test_feature_sizes_that_do_not_divide_the_images_work():
    """Some MODEL patches rescale features in the middle of the UNet."""
    corr = panorama_correspondences(ring(8, 90, 512, 512), 43, 43)
    valid = corr.tables[0].valid.double().mean()
    assert 0.4 < valid < 0.6
    assert all(torch.isfinite(table.coords).all() for table in corr.tables)
