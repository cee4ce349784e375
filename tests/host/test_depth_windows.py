"""A whole depth sequence in windows agrees as well as it does all at once."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    """The demo model with every other frame of the demo sequence, small."""
    from mvdiffusion_pack.nodes.sequence import DepthCameras

    demo = comfy_nodes.demo("depth")
    demo.cameras = DepthCameras.execute("demo (in the pack)", 0, 2, 0, 128, 64, 0.3, 1.0).args[0]
    return demo


def decibels(demo, **changes) -> float:
    """The Overlap PSNR of what is sampled of the sequence."""
    from mvdiffusion_pack.geometry.agreement import agreement

    with torch.inference_mode():
        images = demo.vae.decode(demo.sample(**changes))
    return agreement(images, demo.cameras).psnr


def test_windows_agree_as_well_as_the_whole(demo):
    whole = decibels(demo, steps=8)
    windowed = decibels(demo, steps=8, window=6, overlap=2)
    assert windowed != whole  # there were windows
    assert abs(windowed - whole) < 1.5  # 2 where windows share no frames
