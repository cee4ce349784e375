"""The viewer of Preview Panorama in a real browser: what browsers do not have or give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from front_end import browser_tests
from PIL import Image
from viewer_page import CLOSE, WIDTH, Viewer, cut, difference, panorama

pytestmark = [*browser_tests, pytest.mark.once]


def test_taken_context_comes_back_with_the_picture(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.press("ArrowLeft", times=3)
    viewer.page.evaluate(
        """() => {
            const gl = document.querySelector(".mvd-panorama canvas").getContext("webgl2");
            window.context = gl.getExtension("WEBGL_lose_context");
            context.loseContext();
        }"""
    )
    viewer.page.wait_for_function("() => document.querySelector('.mvd-panorama-note').textContent.includes('memory')")
    with viewer.new_picture():
        viewer.page.evaluate("() => context.restoreContext()")
    assert viewer.note.inner_text() == ""
    viewer.assert_shows("waves1.png")


def test_without_webgl_the_flat_picture_is_shown_with_a_note(viewer: Viewer):
    viewer.page.evaluate("() => { probe.missing = true }")
    viewer.show("waves1.png")
    assert viewer.note.inner_text() == "This browser has no WebGL: the panorama is shown flat"
    assert viewer.button("save").is_hidden()
    screen = viewer.on_screen()
    height, width = screen.shape[:2]
    middle = screen[(height - width // 2) // 2 :][: width // 2]
    flat = Image.fromarray(panorama("waves1.png")).resize((middle.shape[1], middle.shape[0]), Image.Resampling.BOX)
    above_the_note = slice(0, int(0.8 * middle.shape[0]))
    assert difference(middle[above_the_note], np.asarray(flat, float)[above_the_note]) < 2 * CLOSE
    viewer.keep("flat")


def assert_shown_at_512(viewer: Viewer) -> None:
    """That the first panorama is shown 512 pixels wide, as the viewer says, and is right at that size."""
    assert viewer.note.inner_text() == f"Shown at 512 x 256 of {WIDTH} x {WIDTH // 2}"
    saved = viewer.saved()[..., :3]
    height, width = saved.shape[:2]
    assert width == round(512 / math.pi)
    assert difference(saved, cut("waves1.png", 0, 0, 90, width, height)) < CLOSE


def test_picture_too_large_for_the_gpu_is_scaled_and_the_viewer_says_so(viewer: Viewer):
    viewer.page.evaluate("() => { probe.largest = 512 }")
    viewer.show("waves1.png")
    assert_shown_at_512(viewer)
    viewer.keep("scaled")


def test_picture_too_large_for_the_memory_is_halved_until_it_fits(viewer: Viewer):
    viewer.page.evaluate("() => { probe.memory = 300 }")
    viewer.open("waves1.png")
    viewer.queue()
    viewer.wait("none")
    viewer.page.wait_for_function("() => document.querySelector('.mvd-panorama-note').textContent.includes('memory')")
    assert viewer.note.inner_text() == (
        "There is not enough graphics memory for this panorama: close other programs that use it"
    )
    viewer.page.evaluate("() => { probe.memory = 512 }")
    viewer.show("waves1.png")
    assert_shown_at_512(viewer)


@pytest.mark.parametrize("limit", ["viewport", "buffer"])
def test_saved_view_is_whole_where_the_browser_grants_fewer_pixels(viewer: Viewer, limit: str):
    viewer.show("waves1.png")
    viewer.page.evaluate("limit => { probe[limit] = 200 }", limit)
    saved = viewer.saved()[..., :3]
    height, width = saved.shape[:2]
    assert max(height, width) == 200
    assert difference(saved, cut("waves1.png", 0, 0, 90, width, height)) < CLOSE


def test_full_screen_key_is_quiet_where_there_is_no_full_screen(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.evaluate(
        """() => {
            Object.defineProperty(document, "fullscreenEnabled", {value: false, configurable: true});
            document.querySelector(".mvd-panorama").requestFullscreen = undefined;
        }"""
    )
    viewer.press("f")
    viewer.page.evaluate("() => { delete document.fullscreenEnabled }")  # errors: see the fixture


def test_deleted_picture_is_a_plain_sentence(viewer: Viewer):
    Image.fromarray(panorama("waves2.png")[:, ::-1]).save(viewer.server.workdir / "input" / "deleted.png")
    viewer.show("waves1.png", "deleted.png")
    second = viewer.page.evaluate("() => app.nodeOutputs['9'].images[1].filename")
    (viewer.server.workdir / "temp" / second).unlink()
    viewer.button("next").click()
    viewer.wait("none")
    assert viewer.note.inner_text() == (
        "This picture is gone: temporary pictures are deleted when ComfyUI restarts. Queue the workflow again."
    )
    viewer.keep("deleted")
    assert [text for text in viewer.page.errors if "404" not in text] == []  # the browser's own line
    viewer.page.errors.clear()
    viewer.button("previous").click()
    viewer.wait("shown")
    viewer.assert_shows("waves1.png")


def test_late_answer_does_not_replace_a_newer_picture(viewer: Viewer):
    viewer.show("waves1.png", "waves2.png")
    viewer.page.evaluate(
        """() => {
            const {fetch} = window;
            window.fetch = (url) => new Promise(done => {
                window.fetch = fetch;
                window.answer = () => fetch(url).then(done);
            });
        }"""
    )
    viewer.button("next").click()
    with viewer.new_picture():
        viewer.button("previous").click()
    viewer.page.evaluate("async () => { await answer() }")
    viewer.page.wait_for_timeout(300)
    viewer.assert_shows("waves1.png")
