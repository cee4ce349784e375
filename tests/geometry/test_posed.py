"""The cameras of depth sequences: what they hold, and their parts."""

from __future__ import annotations

import pytest
import torch
from golden_model import case
from overlaps import depth_overlaps

from mvdiffusion_pack.geometry import depth
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.posed import PosedViews


def recorded(**changes) -> PosedViews:
    """The cameras of the recorded depth case."""
    data = case("depth")
    depth = data["depths"][0]
    views, height, width = depth.shape
    fields = {"depth": depth, "keyframes": (0, 3, 5), **changes}
    return PosedViews(data["K"].repeat(views, 1, 1), data["poses"][0], width, height, **fields)


@pytest.fixture(scope="module")
def cameras() -> PosedViews:
    return recorded()


def test_overlaps_are_those_of_all_pairs(cameras):
    assert torch.equal(cameras.overlaps, depth_overlaps(cameras, cameras.depth))


@pytest.mark.parametrize("known_before", [False, True])
def test_subset_has_the_overlaps_of_its_views(known_before):
    cameras = recorded()
    if known_before:
        assert cameras.overlaps.shape == (6, 6)
    some = cameras.subset((4, 1, 2))
    assert torch.equal(some.overlaps, cameras.overlaps[[4, 1, 2]][:, [4, 1, 2]])
    assert torch.equal(some.depth, cameras.depth[[4, 1, 2]])
    assert some.names == ("4", "1", "2") and some.keyframes == ()


def test_each_pair_is_computed_once_for_all_parts(monkeypatch):
    cameras, computed = recorded(), []
    share = depth._share
    monkeypatch.setattr(depth, "_share", lambda *given: computed.append(given[1:3]) or share(*given))
    cameras.subset((1, 2)).overlaps  # noqa: B018
    assert sorted(computed) == [(1, 2), (2, 1)]
    cameras.subset((2, 1, 5)).subset((1, 0)).overlaps  # noqa: B018
    assert len(computed) == 2
    cameras.overlaps  # noqa: B018
    cameras.overlaps  # noqa: B018
    assert len(computed) == len(set(computed))


def test_cameras_made_in_inference_mode_serve_outside_it():
    with torch.inference_mode():
        cameras = recorded()
        assert cameras.subset((1, 2)).overlaps.shape == (2, 2)
    assert not cameras.overlaps.isnan().any()


def test_depth_must_fit_the_cameras(cameras):
    with pytest.raises(InputError, match="views, height, width"):
        recorded(depth=cameras.depth[:, :-1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1.0])
def test_depth_is_finite_and_not_negative(cameras, value):
    depth = cameras.depth.clone()
    depth[2, 3, 4] = value
    with pytest.raises(InputError, match="finite metres"):
        recorded(depth=depth)


def test_key_frames_are_among_the_views():
    with pytest.raises(InputError, match="6 cameras"):
        recorded(keyframes=(0, 6))


def test_a_window_is_made_once_and_shares_its_depth(cameras):
    window = cameras.subset(range(1, 3))
    assert cameras.subset((1, 2)) is window
    assert window.depth.untyped_storage().data_ptr() == cameras.depth.untyped_storage().data_ptr()
    assert torch.equal(cameras.subset((2, 1)).depth, window.depth.flip(0))
