"""The viewer of Preview Panorama in a real browser: wherever it turns, it shows what Equirect to Views cuts out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from front_end import browser_tests
from viewer_page import CLOSE, COVERED, WIDTH, Viewer, cut, difference

pytestmark = browser_tests


def test_hint_stands_where_the_panorama_will_be(viewer: Viewer):
    viewer.open("waves1.png")
    assert viewer.note.inner_text() == "Queue the workflow to look around here"


@pytest.mark.once
def test_shows_what_equirect_to_views_cuts_out(viewer: Viewer):
    viewer.show("waves1.png")
    assert viewer.direction() == (0, 0, 90)
    viewer.assert_shows("waves1.png")
    viewer.keep("shown")


@pytest.mark.once
def test_saved_view_is_as_fine_as_the_panorama_at_its_centre(viewer: Viewer):
    viewer.show("waves1.png")
    height, width = viewer.saved().shape[:2]
    assert width == round(2 * math.tan(math.radians(45)) * WIDTH / (2 * math.pi))
    box = viewer.stage.bounding_box()
    assert height == round(width * box["height"] / box["width"])


@pytest.mark.once
def test_no_seam_behind(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.press("ArrowRight", times=40)
    assert abs(viewer.direction()[0]) == 180
    viewer.assert_shows("waves1.png")
    viewer.page.locator(".mvd-panorama [type=range]").fill("20")  # a pixel of the panorama covers several of the screen
    viewer.settle()
    screen = viewer.on_screen()
    height, width = screen.shape[:2]
    inside = slice(4, -4)  # of the frame that shows the focus
    error = np.abs(screen - cut("waves1.png", 180, 0, 20, width, height))[inside, inside]
    assert error.max() < 1.5  # an edge that is repeated instead of wrapped is 2.4 off


@pytest.mark.once
def test_cropped_file_is_shown_in_its_place(viewer: Viewer):
    """Load Panorama puts it there, and the viewer marks what it has not."""
    viewer.show("cropped.png")
    viewer.drag(-120, 0)  # into the middle of what is there
    viewer.page.locator(".mvd-panorama [type=range]").fill("40")
    viewer.settle()
    viewer.assert_shows("waves1.png")
    assert bool((viewer.saved()[..., 3] == 255).all())
    viewer.keep("cropped")
    viewer.drag(0, 900)  # up, past the last row that the file has
    assert viewer.direction()[1] > 80
    assert not viewer.saved()[..., 3].any()
    viewer.keep("cropped_pole")


@pytest.mark.parametrize(("key", "pitch"), [("ArrowUp", 90), ("ArrowDown", -90)])
def test_looks_straight_up_and_down(viewer: Viewer, key: str, pitch: float):
    viewer.show("waves1.png")
    viewer.press(key, times=20)
    assert viewer.direction() == (0, pitch, 90)
    viewer.assert_shows("waves1.png")
    at_the_pole = viewer.on_screen()
    viewer.drag(0, pitch)  # farther
    assert viewer.direction() == (0, pitch, 90)
    viewer.drag(0, math.copysign(4, -pitch))  # and back, by less than a degree
    assert 0.5 < 90 - abs(viewer.direction()[1]) < 2
    viewer.assert_shows("waves1.png")
    assert 0 < difference(viewer.on_screen(), at_the_pole) < 20


@pytest.mark.once
def test_uncovered_directions_are_marked_and_saved_transparent(viewer: Viewer):
    viewer.show("waves1.png", coverage="coverage.png")
    saved = viewer.saved()
    height, width = saved.shape[:2]
    rows = (np.arange(height) - (height - 1) / 2) / (width / 2)  # of the middle column, on the plane at distance 1
    covered = np.degrees(np.arctan(np.abs(rows))) < COVERED
    alpha = saved[:, width // 2, 3]
    assert alpha[covered][2:-2].min() == 255
    assert alpha[~covered].reshape(2, -1)[:, 2:-2].max() == 0
    reference = cut("waves1.png", 0, 0, 90, width, height)
    assert difference(saved[saved[..., 3] == 255][..., :3], reference[saved[..., 3] == 255]) < CLOSE
    viewer.keep("coverage")
    viewer.press("ArrowUp", times=20)
    cap = viewer.on_screen().reshape(-1, 3)  # the pole's, of which nothing is covered in the middle
    viewer.keep("coverage_pole")
    colours, counts = np.unique(cap, axis=0, return_counts=True)
    ground = colours[counts.argmax()]
    assert ground.max() < 40
    assert ((cap > 50).all(-1) & (np.ptp(cap.astype(int), axis=-1) == 0)).sum() > 500  # grey lines


@pytest.mark.once
def test_single_panorama_has_no_pages(viewer: Viewer):
    viewer.show("waves1.png")
    assert viewer.button("next").is_hidden()


@pytest.mark.once
def test_batch_is_leafed_through(viewer: Viewer):
    viewer.show("waves1.png", "waves2.png")
    count = viewer.page.locator(".mvd-panorama-count")
    assert count.inner_text() == "1 / 2"
    viewer.drag(30, 0)
    viewer.keep("batch")
    seen = [viewer.on_screen()]
    for page, name in (("2 / 2", "waves2.png"), ("1 / 2", "waves1.png")):
        with viewer.new_picture():
            viewer.button("next").click()
        assert count.inner_text() == page
        viewer.assert_shows(name)
        seen.append(viewer.on_screen())
    assert difference(seen[0], seen[1].astype(float)) > 10 * CLOSE


def test_zoomed_graph_gets_the_pixels_of_the_screen(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.zoom_graph()
    assert viewer.stage.bounding_box()["width"] > 500
    viewer.assert_sharp()
    viewer.assert_shows("waves1.png")


def test_large_node_is_filled(viewer: Viewer):
    viewer.show("waves1.png", "waves2.png")
    viewer.page.evaluate("() => { preview.setSize([210, 340]); app.canvas.setDirty(true, true) }")
    viewer.page.wait_for_timeout(200)
    viewer.keep("small")
    viewer.page.evaluate("() => { preview.pos = [300, 150]; preview.setSize([900, 560]) }")
    viewer.page.evaluate("() => app.canvas.setDirty(true, true)")
    viewer.page.wait_for_timeout(200)
    box = viewer.stage.bounding_box()
    assert (box["width"], box["height"]) == pytest.approx((880, 450), abs=20)
    viewer.assert_shows("waves1.png")
    viewer.keep("large")


def test_full_screen_fills_the_screen(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.button("fullScreen").click()
    viewer.page.wait_for_function("() => document.fullscreenElement?.matches('.mvd-panorama')")
    viewer.page.wait_for_timeout(300)
    assert viewer.stage.bounding_box()["width"] == viewer.page.evaluate("() => innerWidth")
    viewer.assert_shows("waves1.png")
    viewer.keep("full_screen")
    viewer.press("f")
    viewer.page.wait_for_function("() => !document.fullscreenElement")


@pytest.mark.once
def test_dragging_takes_the_picture_along(viewer: Viewer):
    viewer.show("waves1.png")
    width = viewer.stage.bounding_box()["width"]
    viewer.drag(100, 0)
    viewer.drag(0, -40)
    per_pixel = math.degrees(2 / width)  # at the centre
    assert viewer.direction() == pytest.approx((-100 * per_pixel, -40 * per_pixel, 90), abs=0.1)
    viewer.assert_shows("waves1.png")


def test_wheel_zooms_the_picture_and_not_the_graph(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.mouse.move(*viewer.centre())
    viewer.page.mouse.wheel(0, -400)
    viewer.settle()
    fov = math.degrees(2 * math.atan(math.exp(-0.4)))
    assert viewer.direction() == pytest.approx((0, 0, fov), abs=0.5)
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == 1
    viewer.page.mouse.wheel(0, -10_000)
    viewer.page.wait_for_function("() => document.querySelector('.mvd-panorama [type=range]').value === '20'")
    viewer.page.mouse.wheel(0, 10_000)
    viewer.page.wait_for_function("() => document.querySelector('.mvd-panorama [type=range]').value === '140'")
    viewer.assert_shows("waves1.png")


def test_wheel_over_an_empty_viewer_zooms_the_graph(viewer: Viewer):
    viewer.open("waves1.png")
    assert viewer.wheel_on_graph(*viewer.centre()) == viewer.wheel_on_graph(300, 700)


def test_two_fingers_zoom_the_picture_and_not_the_graph(viewer: Viewer):
    viewer.show("waves1.png")
    x, y = viewer.centre()
    touch = viewer.page.context.new_cdp_session(viewer.page)

    def send(kind: str, *offsets: float) -> None:
        points = [{"x": x + offset, "y": y, "id": i} for i, offset in enumerate(offsets)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", -40)
    send("touchStart", -40, 40)
    for offset in (50, 60, 70, 80):
        send("touchMove", -offset, offset)
    send("touchEnd")
    viewer.settle()
    fov = math.degrees(2 * math.atan(0.5))
    assert viewer.direction() == pytest.approx((0, 0, fov), abs=1)
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == 1
    viewer.assert_shows("waves1.png")


@pytest.mark.once
def test_slider_sets_the_field_of_view(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.locator(".mvd-panorama [type=range]").fill("60")
    viewer.settle()
    assert viewer.direction() == (0, 0, 60)
    viewer.assert_shows("waves1.png")
    viewer.button("reset").click()
    assert viewer.direction() == (0, 0, 90)


@pytest.mark.once
def test_keys_turn_zoom_and_reset(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.press("ArrowRight", times=2)
    viewer.press("ArrowDown")
    assert viewer.direction() == (9, -4.5, 90)
    viewer.press("+")
    assert viewer.direction()[2] == round(math.degrees(2 * math.atan(1 / 1.1)))
    viewer.press("-", times=2)
    assert viewer.direction()[2] == round(math.degrees(2 * math.atan(1.1)))
    viewer.press("Home")
    assert viewer.direction() == (0, 0, 90)


def test_keys_of_the_viewer_do_not_reach_comfyui(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.evaluate(
        "() => { window.seen = []; window.addEventListener('keydown', event => seen.push(event.key)) }"
    )
    for key in ("ArrowLeft", "0", "PageDown", "z"):
        viewer.press(key)
    assert viewer.page.evaluate("() => window.seen") == ["z"]


def test_middle_button_moves_the_graph(viewer: Viewer):
    viewer.show("waves1.png")
    x, y = viewer.centre()
    viewer.page.mouse.move(x, y)
    viewer.page.mouse.down(button="middle")
    viewer.page.mouse.move(x + 60, y + 30, steps=4)
    viewer.page.mouse.up(button="middle")
    viewer.page.wait_for_timeout(100)
    assert viewer.page.evaluate("() => [...app.canvas.ds.offset]") == [60, 30]
    assert viewer.direction() == (0, 0, 90)
