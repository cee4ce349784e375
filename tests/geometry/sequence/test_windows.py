"""Windows over sequences: what each of them needs, and that together they miss nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvdiffusion_pack.geometry.sequence.windows import interpolation_stages, rows_of_stage, sliding_windows

overlaps = st.integers(0, 6)
more = st.integers(1, 12)  # views of a window beyond its overlap


@given(st.integers(1, 80), overlaps, more)
def test_windows_hold_all_views_and_share_enough_with_the_next(views, overlap, more):
    windows = sliding_windows(views, overlap + more, overlap)
    assert {view for window in windows for view in window} == set(range(views))
    assert all(len(window) == min(views, overlap + more) for window in windows)
    for window, following in itertools.pairwise(windows):
        assert len(set(window) & set(following)) >= overlap
        assert window[0] < following[0]


def test_no_window_is_one_over_all_views():
    assert sliding_windows(5, 0, 2) == [(0, 1, 2, 3, 4)]


def test_last_window_ends_with_the_views():
    assert sliding_windows(7, 4, 2) == [(0, 1, 2, 3), (2, 3, 4, 5), (3, 4, 5, 6)]


@given(st.sets(st.integers(0, 120), min_size=2, max_size=8), overlaps, more)
def test_all_views_between_key_frames_are_made_from_known_ones(keyframes, overlap, more):
    keyframes, window = tuple(sorted(keyframes)), max(3, overlap + more)
    known = set(keyframes)
    for stage in interpolation_stages(keyframes, window, overlap):
        assert stage
        windows = [views for group in stage for views in group]
        for views in windows:
            assert 3 <= len(views) <= window and list(views) == sorted(set(views))
            assert {views[0], views[-1]} <= known
        known |= {view for views in windows for view in views}
    assert known == set(range(keyframes[0], keyframes[-1] + 1))


@given(st.integers(2, 200), overlaps, more)
def test_each_stage_makes_something_new(last, overlap, more):
    known = {0, last}
    for stage in interpolation_stages((0, last), max(3, overlap + more), overlap):
        new = set(rows_of_stage(stage)[0]) - known
        assert new
        known |= new


@pytest.mark.parametrize(
    ("keyframes", "window", "overlap", "stages"),
    [
        ((0, 1, 2), 4, 1, []),
        ((0, 2, 5), 4, 1, [[[(0, 1, 2)], [(2, 3, 4, 5)]]]),
        ((0, 2, 5), 0, 2, [[[(0, 1, 2)], [(2, 3, 4, 5)]]]),
        ((0, 6), 4, 1, [[[(0, 3, 6)]], [[(0, 1, 2, 3), (3, 4, 5, 6)]]]),
        ((0, 6), 5, 3, [[[(0, 2, 4, 6)]], [[(0, 1, 2, 3, 4), (2, 3, 4, 5, 6)]]]),
        ((0, 2, 8), 3, 2, [[[(0, 1, 2)], [(2, 5, 8)]], [[(2, 3, 5)], [(5, 6, 8)]], [[(3, 4, 5)], [(6, 7, 8)]]]),
    ],
)
def test_stages(keyframes, window, overlap, stages):
    assert interpolation_stages(keyframes, window, overlap) == stages


def test_rows_of_a_stage_keep_groups_apart_and_windows_of_a_group_together():
    rows, windows = rows_of_stage([[(0, 1, 2)], [(2, 3, 4), (3, 4, 6)]])
    assert rows == [0, 1, 2, 2, 3, 4, 6]
    assert windows == [(0, 1, 2), (3, 4, 5), (4, 5, 6)]
