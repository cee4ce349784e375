"""The picture of the pair that agrees worst: what is where in it, and that it can be drawn of any."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from PIL import ImageDraw
from sphere import smooth, view_directions

from mvdiffusion_pack.geometry.agreement import agreement, seen_by_both
from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.figures import agreement_picture as drawn
from mvdiffusion_pack.geometry.figures.agreement_picture import worst_pair_picture
from mvdiffusion_pack.geometry.figures.drawing import FINE
from mvdiffusion_pack.geometry.layouts import ring

RING = ring(8, 90, 256, 192)
SPOILT = slice(40, 120), slice(10, 90)  # of view 3, where view 2 looks too


def spoilt_views(cameras: Cameras = RING) -> torch.Tensor:
    """Views of one sphere, of which view 3 has a patch of another brightness."""
    views = smooth(view_directions(cameras)).float()
    views[3][SPOILT] = (views[3][SPOILT] - 0.15).clamp(0, 1)
    return views


def panels(picture: torch.Tensor, cameras: Cameras = RING) -> list[torch.Tensor]:
    """The (h, 512, 3) panels of a picture of views that are wider than high."""
    top, gap = (drawn.HEADING + drawn.CAPTION) // FINE, drawn.GAP // FINE
    height = round(drawn.PANEL * cameras.height / cameras.width)
    lefts = [gap + number * (drawn.PANEL + gap) for number in range(3)]
    return [picture[0, top : top + height, left : left + drawn.PANEL] for left in lefts]


def at_views_size(panel: torch.Tensor) -> torch.Tensor:
    """Each second pixel of a panel: as many as the views have."""
    return panel[::2, ::2]


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    views = spoilt_views()
    return worst_pair_picture(views, RING, agreement(views, RING))


def inside_overlap() -> torch.Tensor:
    """(h, w) the overlap of the worst pair, without its line."""
    views = spoilt_views()
    _, _, overlap = seen_by_both(views, RING, agreement(views, RING).worst)
    return F.max_pool2d((~overlap[None]).float(), 7, 1, 3)[0] == 0


def test_it_is_a_picture(picture):
    assert picture.dtype == torch.float32 and picture.ndim == 4 and picture.shape[2:] == (1632, 3)
    assert 0 <= picture.min() and picture.max() <= 1


def test_heat_is_where_the_views_differ(picture):
    views = spoilt_views()
    view, other, _ = seen_by_both(views, RING, agreement(views, RING).worst)
    differs = (view - other).abs().amax(0) > 0.1
    heat, inside = at_views_size(panels(picture)[2]).mean(-1), inside_overlap()
    assert (inside & differs).any() and (inside & ~differs).any()
    assert heat[inside & differs].min() > 0.2 and heat[inside & ~differs].median() < 0.1


def test_both_views_show_the_overlap_in_their_own_colours(picture):
    views, inside = spoilt_views(), inside_overlap()
    view, other, _ = seen_by_both(views, RING, agreement(views, RING).worst)
    for panel, colours in zip(panels(picture), (view, other), strict=False):
        shown = at_views_size(panel)[inside]
        assert (shown - colours.movedim(0, -1)[inside]).abs().mean() < 0.01


def test_outside_of_the_overlap_the_first_view_is_dark_and_the_other_not_there(picture):
    views = spoilt_views()
    pair = agreement(views, RING).worst
    first, second, _ = (at_views_size(panel)[60:130, 10:90] for panel in panels(picture))
    expected = drawn.DIMMED * views[pair.view][60:130, 10:90]
    assert (pair.view, pair.other) == (2, 3) and (first - expected).abs().max() < 0.02
    assert second.std(-1).max() < 0.02 and second.max() < 0.25  # grey lines


def test_a_line_goes_round_the_overlap(picture):
    colour = torch.tensor(drawn.OUTLINE) / 255
    for panel in panels(picture):
        line = (panel - colour).abs().amax(-1) < 0.02
        assert line[100:200, 250:270].any(-1).all()  # a view of 90 degrees ends in the middle of the next one
        assert line[100:200, -2:].all() and not line[:, :200].any()


@pytest.mark.parametrize("size", [(512, 512), (64, 512), (512, 64), (48, 40), (1024, 1024)])
def test_any_size_is_drawn_as_large(size):
    cameras = ring(3, 150, *size)
    views = smooth(view_directions(cameras)).float()
    shape = worst_pair_picture(views, cameras, agreement(views, cameras)).shape
    assert shape[2] == 1632 and 150 < shape[1] <= 1024 + 200


def test_it_names_the_views_and_their_decibels(monkeypatch):
    texts, write = [], ImageDraw.ImageDraw.text

    def keep(self, place, text, *args, **kwargs):
        texts.append(text)
        return write(self, place, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", keep)
    views = torch.cat((torch.full((8, 192, 256, 3), 0.5), torch.full((8, 192, 256, 3), 0.5)))
    views[8 + 7] += 0.04
    worst_pair_picture(views, RING, agreement(views, RING))
    assert texts[0].startswith("Worst pair: panorama 1, view 0 and view 7, 28.0 dB over 47 % of view 0")
    assert texts[1:4] == ["view 0", "view 7, as seen from view 0", "difference"]
    assert texts[-1] == "0.05 or more"
