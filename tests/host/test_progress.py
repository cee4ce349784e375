"""Long nodes that are not samplers: they show how far they are, and Stop stops them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mvdiffusion_pack.geometry.layouts import ring

pytestmark = pytest.mark.host

RING = ring(4, 120, 64, 64)


def stitched() -> None:
    from mvdiffusion_pack.nodes.panorama import StitchEquirect

    StitchEquirect.execute(torch.rand(4, 64, 64, 3), RING, 1024, "feather")


def cut() -> None:
    from mvdiffusion_pack.nodes.panorama import EquirectToViews

    EquirectToViews.execute(torch.rand(1, 64, 128, 3), RING)


def read() -> None:
    from mvdiffusion_pack.host.sequences import DEMO
    from mvdiffusion_pack.nodes.sequence import DepthCameras

    DepthCameras.execute(DEMO, 0, 1, 4, 64, 64, 0.1, 0.5)


@pytest.mark.parametrize(("node", "total"), [(stitched, 512), (cut, 4)])
def test_the_bar_grows_to_its_end(comfy, monkeypatch, node: Callable[[], None], total: int):
    import comfy.utils

    seen = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar,
        "update_absolute",
        lambda self, value, total=None, preview=None: seen.append((value, total)),
    )
    node()
    assert len(seen) > 2 and seen == sorted(seen)
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("node", [stitched, cut, read])
def test_stop_is_heard(comfy, node: Callable[[], None]):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            node()
    finally:
        management.interrupt_current_processing(False)
