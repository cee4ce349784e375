"""The demo model paints rooms whose views agree: a small sample of benchmarks/consistency.py.

Fails when the weights or the attention are broken.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from in_process import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import consistency

pytestmark = [pytest.mark.host, pytest.mark.once]
FEW = SimpleNamespace(steps=10, cfg=3.0)


@pytest.fixture(scope="module")
def room(comfy):
    """A room that it has not seen, with green walls."""
    return consistency.panorama_room(1, 128)


@pytest.fixture(scope="module")
def painted(room):
    with torch.inference_mode():
        models = consistency.loaded("panorama")
        return {strength: consistency.painted(*models, room, FEW, 0, strength) for strength in (0.0, 1.0)}


def test_views_agree_through_the_blocks_alone(room, painted):
    from mvdiffusion_pack.geometry.agreement import agreement

    without, with_blocks = (agreement(painted[strength], room.cameras).psnr for strength in (0.0, 1.0))
    assert without < 17
    assert with_blocks > without + 6


def test_walls_have_the_colour_of_the_captions(room, painted):
    assert all("green walls" in caption for caption in room.captions)
    for view in painted[1.0]:
        red, green, blue = view[24:56].flatten(0, 1).median(0).values.tolist()
        assert green > max(red, blue)


def test_it_is_no_blur_that_agrees(room, painted):
    from consistency_measures import sharpness

    with torch.inference_mode():
        decoded = consistency.through(consistency.loaded("panorama")[2], room.images)
    assert sharpness(painted[1.0]) > 0.3 * sharpness(decoded)
