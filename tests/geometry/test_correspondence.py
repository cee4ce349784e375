"""Correspondences agree with rays cast from camera to camera."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdiffusion_pack.geometry.cameras import pixel_grid
from mvdiffusion_pack.geometry.correspondence import homography, panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring, rings, sphere
from mvdiffusion_pack.geometry.neighbours import neighbours

CENTRE = 4  # of the 3 x 3 neighbourhood
STEPS = pixel_grid(3, 3).reshape(9, 2) - 1


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
        table = corr.table_of(pair)
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
        table = corr.table_of(pair)
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
    table = corr.table_of(pair)
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


LAYOUTS = {
    "sphere": sphere(8, 90, 128, 128, 11),
    "three rings": rings(8, 90, 128, 64, 0, (0, 50, -50)),
    "rings of two": rings(2, 120, 64, 128, 0, (0, 50)),
    "column": rings(1, 90, 64, 64, 0, (0, 40, 80)),
}
any_layout = pytest.mark.parametrize("cameras", LAYOUTS.values(), ids=LAYOUTS)


@any_layout
@pytest.mark.parametrize("stride", [8, 16])
def test_samples_of_all_pairs_are_ray_casts(cameras, stride):
    width, height = cameras.width // stride, cameras.height // stride
    size = torch.tensor([cameras.width, cameras.height])
    corr = panorama_correspondences(cameras, height, width)
    pixels = pixel_grid(width, height).reshape(-1, 2) * stride + stride // 2
    for pair in corr.pairs:
        table = corr.table_of(pair)
        query = pixels[table.query]
        image, depth = ray_cast(cameras, pair.query_view, pair.key_view, query)
        image = image[:, None] + STEPS * stride
        seen = ((image > 0) & (image < size)).all(-1) & (depth > 0)[:, None] & (pair.key_view != pair.query_view)
        in_feature = (table.coords + 0.5) * stride
        torch.testing.assert_close(in_feature[seen], image[seen], rtol=0, atol=1e-6)
        beside_edge = ((image.abs() < 1e-6) | ((image - size).abs() < 1e-6)).any(-1)
        assert torch.equal(table.valid[~beside_edge], seen[~beside_edge])
        carried_back = query[:, None] + table.code * stride
        carried_on, _ = ray_cast(cameras, pair.query_view, pair.key_view, carried_back.flatten(0, 1))
        torch.testing.assert_close(carried_on.unflatten(0, (-1, 9))[seen], image[seen], rtol=0, atol=1e-6)


@any_layout
def test_every_query_reads_two_views(cameras):
    corr = panorama_correspondences(cameras, 8, 8)
    for view in range(cameras.views):
        read = torch.cat([corr.table_of(pair).query for pair in corr.pairs if pair.query_view == view])
        assert read.sort().values.tolist() == [query for query in range(64) for _ in range(2)]


@any_layout
def test_no_pair_is_without_queries(cameras):
    """At the smallest feature sizes all queries of a view may prefer others of its neighbours."""
    corr = panorama_correspondences(cameras, 1, 1)
    assert len(corr.pairs) == 2 * cameras.views and all(len(table.query) for table in corr.tables)


@pytest.mark.parametrize("name", ["sphere", "three rings"])
def test_of_many_neighbours_those_are_read_that_see_the_point_and_nearest_their_middle(name):
    cameras, stride = LAYOUTS[name], 8
    width, height = cameras.width // stride, cameras.height // stride
    corr = panorama_correspondences(cameras, height, width)
    pixels = pixel_grid(width, height).reshape(-1, 2) * stride + stride // 2
    middle = torch.tensor([cameras.width - 1, cameras.height - 1]) / 2
    for view, others in enumerate(neighbours(cameras)):
        distance = torch.full((cameras.views, len(pixels)), torch.inf, dtype=torch.float64)
        for other in others:
            image, depth = ray_cast(cameras, view, other, pixels)
            seen = ((image > 0) & (image < 2 * middle + 1)).all(1)
            distance[other] = ((image - middle).norm(dim=1) + 1e6 * ~seen).where(depth > 0, torch.inf)
        read = torch.zeros_like(distance, dtype=torch.bool)
        for pair in corr.pairs:
            if pair.query_view == view:
                read[pair.key_view, corr.table_of(pair).query] = True
        farthest_read = distance.where(read, -torch.inf).amax(0)
        nearest_other = distance.where(~read, torch.inf).amin(0)
        assert (farthest_read <= nearest_other + 1e-5).all()


def test_view_with_one_neighbour_of_many_misses_the_keys_of_a_second():
    """Of a column of narrow views the first and the last see one other each."""
    cameras = rings(1, 60, 64, 64, 0, (-40, 0, 40))
    corr = panorama_correspondences(cameras, 8, 8)
    read = [[pair.key_view for pair in corr.pairs if pair.query_view == view] for view in range(3)]
    assert read == [[1, 0], [0, 2], [1, 2]]
    missing = corr.tables[corr.pairs[1].table]
    assert not missing.valid.any() and not missing.code.any()
    assert corr.pairs[1].table == corr.pairs[5].table


@settings(max_examples=10, deadline=None)
@given(
    views=st.integers(1, 9),
    fov=st.floats(40, 120),
    size=st.sampled_from([(64, 64), (256, 64), (64, 192)]),
    pitch=st.floats(10, 60),
)
def test_no_neighbour_that_sees_a_point_is_left_for_one_that_does_not(views, fov, size, pitch):
    cameras = rings(views, fov, *size, 0.0, (0, pitch, -pitch))
    width, height = size[0] // 8, size[1] // 8
    corr = panorama_correspondences(cameras, height, width)
    pixels = pixel_grid(width, height).reshape(-1, 2) * 8 + 4
    for view, others in enumerate(neighbours(cameras)):
        if len(others) < 2:
            continue
        seeing = torch.zeros(len(pixels), dtype=torch.int64)
        for other in set(others):
            image, depth = ray_cast(cameras, view, other, pixels)
            seeing += ((image > 1e-6) & (image < torch.tensor(size) - 1e-6)).all(1) & (depth > 1e-6)
        reading = torch.zeros_like(seeing)
        for pair in corr.pairs:
            if pair.query_view == view:
                table = corr.table_of(pair)
                reading[table.query] += table.valid[:, CENTRE]
        assert (reading >= seeing.clamp(max=min(2, len(set(others))))).all()


def test_of_a_ring_every_query_reads_both_neighbours_in_order():
    corr = panorama_correspondences(ring(8, 90, 64, 64), 8, 8)
    assert [pair.key_view for pair in corr.pairs] == [
        other for view in range(8) for other in ((view - 1) % 8, (view + 1) % 8)
    ]
    assert all(torch.equal(table.query, torch.arange(64)) for table in corr.tables)


@any_layout
def test_pairs_of_one_homography_share_a_table_and_use_the_rows_that_are_theirs(cameras):
    corr = panorama_correspondences(cameras, 8, 8)
    of_pairs = [homography(cameras, pair.key_view, pair.query_view) for pair in corr.pairs]
    for pair, matrix in zip(corr.pairs, of_pairs, strict=True):
        for other, another in zip(corr.pairs, of_pairs, strict=True):
            equal = torch.allclose(matrix, another, rtol=1e-9, atol=1e-9)
            assert (pair.table == other.table) == equal
    for number, table in enumerate(corr.tables):
        used = torch.cat([corr.table_of(pair).query for pair in corr.pairs if pair.table == number])
        assert torch.equal(used.unique(), table.query)


def test_turned_pairs_of_three_rings_share_their_tables():
    """Each of the eight turns of a pair has the same tables, so their number does not grow with the views."""
    tables = [len(panorama_correspondences(rings(views, 90, 64, 64, 0, (0, 60)), 8, 8).tables) for views in (8, 16)]
    assert tables[0] <= 16 and tables[1] <= 2 * tables[0]
