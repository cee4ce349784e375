"""Long nodes that are not samplers: they show how far they are, and Stop stops them."""

from __future__ import annotations

from collections.abc import Callable

import comfy_nodes
import pytest
import torch
from wall import along_a_wall

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


def sampled() -> None:
    comfy_nodes.demo("depth").sample(cameras=along_a_wall(5))


@pytest.fixture
def shown(comfy, monkeypatch):
    """A list of the (done, total) that bars are brought to; as soon as that is its `stop`, Stop is pressed."""
    import comfy.model_management as management
    import comfy.utils

    class Shown(list):
        stop: tuple[int, int] | None = None

    shown, show = Shown(), comfy.utils.ProgressBar.update_absolute

    def watched(bar, done, total=None, preview=None) -> None:
        shown.append((done, total))
        show(bar, done, total, preview)
        if (done, total) == shown.stop:
            management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", watched)
    yield shown
    management.interrupt_current_processing(False)


@pytest.mark.parametrize(("node", "total"), [(stitched, 512), (cut, 4)])
def test_the_bar_grows_to_its_end(shown, node: Callable[[], None], total: int):
    node()
    assert len(shown) > 2 and shown == sorted(shown)
    assert shown[-1] == (total, total)


def test_frames_are_counted_as_they_are_read_then_as_they_are_compared(shown):
    read()
    assert shown[:7] == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 3), (2, 3), (3, 3)]
    keyframes = shown[-1][1]
    assert shown[7:] == [(done, keyframes) for done in range(1, keyframes + 1)]


def test_what_is_compared_after_reading_is_seen_by_people(comfy, monkeypatch):
    """The host passes on a bar's first and last value, and hides what lies below them."""
    import comfy.utils

    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda done, total, *_, **__: seen.append((done, total)))
    read()
    assert {(1, 4), (4, 4), (1, 3), (3, 3)} <= set(seen)
    assert seen.count((1, seen[-1][1])) > 0


@pytest.mark.parametrize(
    ("node", "stop"),
    [
        pytest.param(read, (2, 4), id="frames are read"),
        pytest.param(read, (1, 3), id="key frames are chosen"),
        pytest.param(read, (3, 3), id="key frames are compared"),
        pytest.param(sampled, (2, 5), id="all frames are compared before the first step"),
    ],
)
def test_stop_is_heard_while(shown, node: Callable[[], None], stop: tuple[int, int]):
    import comfy.model_management as management

    shown.stop = stop
    with pytest.raises(management.InterruptProcessingException):
        node()
    assert shown[-1] == stop


@pytest.mark.parametrize("node", [stitched, cut, read])
def test_stop_is_heard(comfy, node: Callable[[], None]):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            node()
    finally:
        management.interrupt_current_processing(False)
