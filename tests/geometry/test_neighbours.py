"""Who attends to whom, against pixels that are counted one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sphere import cameras_at, seen_share

from mvdiffusion_pack.geometry.layouts import cube, ring, rings, sphere
from mvdiffusion_pack.geometry.neighbours import LEAST_SHARE, neighbours, views_apart
from mvdiffusion_pack.geometry.overlap import shares


@pytest.mark.parametrize(
    ("views", "expected"), [(1, [[]]), (2, [[1, 1], [0, 0]]), (3, [[2, 1], [0, 2], [1, 0]])], ids=["1", "2", "3"]
)
def test_ring_is_cyclic_and_two_views_count_their_one_twice(views, expected):
    assert neighbours(ring(views, 90, 64, 64)) == expected


@pytest.mark.parametrize("fov", [10, 90, 170])
def test_ring_has_the_published_neighbours_at_any_field_of_view(fov):
    assert neighbours(ring(8, fov, 64, 64)) == [[(view - 1) % 8, (view + 1) % 8] for view in range(8)]


@settings(max_examples=15, deadline=None)
@given(
    views=st.integers(1, 5),
    fov=st.floats(30, 120),
    pitches=st.lists(st.floats(-90, 90), min_size=2, max_size=3),
    size=st.sampled_from([(128, 128), (192, 96), (64, 128)]),
)
def test_views_of_other_rings_are_neighbours_where_each_sees_a_twentieth_of_the_other(views, fov, pitches, size):
    cameras = rings(views, fov, *size, 0.0, pitches)
    found = neighbours(cameras)
    for view in range(cameras.views):
        for other in range(cameras.views):
            if view // views != other // views:
                share = min(seen_share(cameras, view, other), seen_share(cameras, other, view))
                if abs(share - LEAST_SHARE) > 0.01:  # pixels are counted
                    assert (other in found[view]) == (share > LEAST_SHARE)


def test_neighbours_of_a_ring_come_first_then_others_in_order():
    found = neighbours(sphere(8, 90, 64, 64))
    assert found[0] == [7, 1, 8, 11, 13] and found[8][:2] == [10, 9] and found[8][2:] == sorted(found[8][2:])


def test_other_view_of_a_ring_of_two_counts_once_beside_others():
    found = neighbours(rings(2, 120, 64, 64, 0.0, (0, 50)))
    assert all(len(set(views)) == len(views) for views in found) and found[0] == [1, 2]


def test_two_views_of_two_rings_count_their_one_twice():
    assert neighbours(rings(1, 90, 64, 64, 0.0, (0, 40))) == [[1, 1], [0, 0]]


def test_faces_of_a_cube_have_no_neighbours_and_lie_apart():
    assert neighbours(cube(64, 64)) == [[]] * 6
    assert views_apart(cube(64, 64)) == [1, 2, 3, 4, 5]


def test_neighbours_are_mutual():
    found = neighbours(sphere(8, 90, 512, 512))
    assert all(view in found[other] for view, others in enumerate(found) for other in others)


def test_share_of_no_pair_is_none():
    assert shares(ring(8, 90, 64, 64), []) == []


@pytest.mark.parametrize(
    ("cameras", "apart"),
    [
        (ring(1, 90, 64, 64), []),
        (ring(8, 90, 64, 64), []),
        (sphere(8, 90, 64, 64), []),
        (rings(8, 90, 64, 64, 0.0, (0, 60, -60)), []),
        (ring(8, 40, 64, 64), [1, 2, 3, 4, 5, 6, 7]),
        (ring(2, 170, 64, 64), [1]),
        (rings(8, 60, 64, 64, 0.0, (0, 85)), list(range(8, 16))),
        (rings(8, 90, 64, 64, 0.0, (45, -45)), list(range(8, 16))),
        (rings(1, 30, 64, 64, 0.0, (0, 20, 80)), [2]),
        (rings(1, 90, 64, 64, 0.0, (0, 88)), [1]),
        (replace(cameras_at([(0, 0), (20, 0), (40, 0), (180, 0)], 50, 64, 64), rings=(4,)), [3]),
    ],
    ids=["one", "ring", "sphere", "rings", "narrow", "two", "apart", "corners", "column", "under 5 %", "row"],
)
def test_views_that_no_overlap_joins_with_view_0_are_found(cameras, apart):
    assert views_apart(cameras) == apart


def test_two_rings_of_one_view_that_do_not_overlap_have_no_neighbours():
    assert neighbours(rings(1, 90, 64, 64, 0.0, (0, 90))) == [[], []]


def test_shares_do_not_depend_on_the_order_of_the_pairs():
    cameras = sphere(8, 90, 64, 64)
    pairs = [(0, 8), (8, 0), (3, 9), (13, 0)]
    assert shares(cameras, pairs[::-1]) == shares(cameras, pairs)[::-1]
    assert torch.tensor(shares(cameras, pairs)).min() > 0
