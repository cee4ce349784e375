"""Pictures of depth: what is bright, what is hatched, and which metres the scale has."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvdiffusion_pack.geometry.figures import depth_picture as drawn
from mvdiffusion_pack.geometry.figures.depth_picture import depth_picture, depth_range, written
from mvdiffusion_pack.geometry.figures.drawing import FINE

HEIGHT, WIDTH = 30, 256
metres = st.floats(1 / 64, 5000, width=32)


def ramp(near: float = 1.0, far: float = 5.0) -> torch.Tensor:
    """(30, 256) depth that grows from left to right."""
    return torch.linspace(near, far, WIDTH).expand(HEIGHT, WIDTH).clone()


def pictures(*depth: torch.Tensor) -> torch.Tensor:
    return depth_picture(torch.stack(depth), [str(view) for view in range(len(depth))])


def colourful(picture: torch.Tensor) -> torch.Tensor:
    """(h, w) bool: colours of the scale, not greys."""
    return picture.amax(-1) - picture.amin(-1) > 0.15


def test_the_nearer_the_brighter():
    brightness = pictures(ramp())[0, 0] @ torch.tensor([0.21, 0.72, 0.07])
    assert (brightness.diff() < 0.002).all()  # colours have 8 bits
    assert (brightness[:-32] > brightness[32:] + 0.02).all()


def test_hatched_is_what_has_no_reading_and_nothing_else():
    depth = ramp()
    missing = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    picture = pictures(depth.masked_fill(missing, 0))[0, :HEIGHT]
    assert torch.equal(colourful(picture), ~missing)
    assert len(picture[missing].unique(dim=0)) > 1


def test_views_share_one_scale():
    near, far = ramp(1, 2), ramp(2, 9)
    first, second = pictures(near, far)
    assert torch.equal(first[0, -1], second[0, 0])
    assert first[0, -1].sum() > pictures(near)[0, 0, -1].sum() + 0.3  # which alone is the farthest there is


def test_ends_of_the_bar_have_the_colours_of_the_metres_written_there():
    depth = ramp()
    near, far = depth_range(depth)
    depth[0, :2] = torch.tensor([near, far])
    picture = pictures(depth)[0]
    row, margin = HEIGHT + (drawn.MARGIN + drawn.BAR // 2) // FINE, drawn.MARGIN // FINE
    torch.testing.assert_close(picture[row, margin + 2], picture[0, 0], rtol=0, atol=0.03)
    torch.testing.assert_close(picture[row, -margin - 3], picture[0, 1], rtol=0, atol=0.03)


def test_strip_tells_the_metres_and_which_views_have_none():
    assert written(depth_range(ramp(0.84, 5.16))) == ("0.8 m", "5.2 m")
    strips = pictures(ramp(0.84, 5.16), torch.zeros(HEIGHT, WIDTH))[:, HEIGHT:]
    other = pictures(ramp(0.84, 5.26))[0, HEIGHT:]
    changed = (strips[0] != other).any(-1).any(0).nonzero()
    assert changed.min() > WIDTH - 50  # the far end's number
    changed = (strips[0] != strips[1]).any(-1).any(0).nonzero()
    assert 50 < changed.min() and changed.max() < WIDTH - 50  # the title between the numbers


@pytest.mark.parametrize(
    "low, high, ends",
    [(0.84, 5.16, (0.8, 5.2)), (2, 2, (2.0, 2.01)), (13, 87, (13, 87)), (120, 950, (120, 950)), (1, 1.033, (1, 1.04))],
)
def test_ends_of_the_scale_are_rounded_outwards(low, high, ends):
    assert depth_range(torch.tensor([[low] * 50 + [high] * 50])) == pytest.approx(ends)


@given(readings=st.lists(metres, min_size=1, max_size=50))
def test_scale_holds_the_depth_and_is_written_without_rounding(readings):
    depth = torch.tensor([0.0, *readings])
    near, far = depth_range(depth)
    low, high = np.percentile(np.float32(readings), (1, 99))
    assert 0 <= near <= low + 1e-6 and high - 1e-6 * high <= far and near < far
    assert far - near <= 1.3 * (high - low) + 0.02
    assert float(f"{near:g}") == pytest.approx(near, rel=1e-9) and float(f"{far:g}") == pytest.approx(far, rel=1e-9)


def test_a_few_wrong_readings_do_not_darken_the_rest():
    depth = ramp()
    depth[0, :20] = 1e6
    assert depth_range(depth) == pytest.approx((1, 5))
    assert torch.equal(pictures(depth)[0, 1], pictures(ramp())[0, 1])


def test_equal_depth_everywhere_is_near():
    picture = pictures(torch.full((HEIGHT, WIDTH), 2.0))[0, :HEIGHT]
    assert torch.equal(picture, pictures(ramp())[0, 0, 0].expand(HEIGHT, WIDTH, 3))


def test_no_reading_anywhere():
    depth = torch.zeros(HEIGHT, WIDTH)
    assert depth_range(depth) is None
    assert not colourful(pictures(depth)[0]).any()


def test_one_view_without_readings_among_others():
    picture, empty = pictures(ramp(), torch.zeros(HEIGHT, WIDTH))
    assert colourful(picture[:HEIGHT]).all() and not colourful(empty[:HEIGHT]).any()


@pytest.mark.parametrize(
    "size, shown", [((192, 256), (192, 256)), ((64, 64), (256, 256)), ((48, 130), (96, 260)), ((968, 1296), (323, 432))]
)
def test_small_maps_are_enlarged_and_large_ones_thinned_out(size, shown):
    picture = depth_picture(torch.ones(2, *size), ["1", "2"])
    assert picture.shape == (2, shown[0] + drawn.STRIP // FINE, shown[1], 3)
    assert picture.dtype == torch.float32 and picture.min() >= 0 and picture.max() <= 1


def test_long_names_leave_the_metres_readable():
    short, long = (depth_picture(ramp()[None], [name])[0] for name in ("1", "frame of a scene " * 20))
    differs = (short != long).any(-1).any(0).nonzero()
    assert differs.min() > 40 and differs.max() < WIDTH - 40  # '1 m' and '5 m' are narrower


# ---- With and without OpenCV


@pytest.fixture
def other_opencv(monkeypatch):
    """`other_opencv(module)`: what `import cv2` gives instead of what is installed; None: an error."""

    def install(module) -> None:
        monkeypatch.setitem(sys.modules, "cv2", module)
        drawn._colours.cache_clear()

    yield install
    drawn._colours.cache_clear()


@pytest.mark.parametrize("module", [None, ModuleType("cv2")], ids=["none", "an empty folder"])
def test_pictures_are_nearly_the_same_without_opencv(other_opencv, module):
    pytest.importorskip("cv2")
    expected = pictures(ramp())
    other_opencv(module)
    found = pictures(ramp())
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() <= 4.01 / 255


def test_own_colours_go_from_dark_to_bright(other_opencv):
    other_opencv(None)
    brightness = drawn._colours() @ np.array([0.21, 0.72, 0.07])
    assert drawn._colours().shape == (256, 3) and (np.diff(brightness) > -1.5).all()
    assert brightness[-1] > brightness[0] + 120
