"""Preview Panorama in a real browser when its graph comes back: the viewer alone, of the same size, looking there."""

from __future__ import annotations

import json

import pytest
from front_end import browser_tests
from viewer_page import Viewer

pytestmark = browser_tests

OPEN_TAB = """() => {
    const { openWorkflows, activeWorkflow } = app.extensionManager.workflow;
    return openWorkflows.findIndex(({ path }) => path === activeWorkflow.path);
}"""
TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
LOOKED = pytest.approx((-11, 4, 60), abs=8)  # degrees, after `look`


@pytest.fixture(params=["classic", "vue"])
def shown(request, viewer: Viewer) -> Viewer:
    """A graph that was run, with nodes drawn in either way."""
    if request.param == "vue":
        request.getfixturevalue("vue_nodes")
    viewer.show("waves1.png")
    viewer.page.evaluate("() => { app.graph.getNodeById(1).pos = [150, 250]; app.canvas.setDirty(true, true) }")
    capture(viewer)
    return viewer


def capture(viewer: Viewer) -> None:
    """Has the front end see what has changed, as it does when a mouse button is lifted."""
    viewer.page.evaluate(
        f"() => {{ const tracker = {TRACKER}; (tracker.captureCanvasState ?? tracker.checkState).call(tracker) }}"
    )


def move_load_image(viewer: Viewer) -> None:
    box = viewer.page.locator("#graph-canvas").bounding_box()
    x, y = (start + part for start, part in zip((box["x"], box["y"]), (250, 235), strict=True))  # its title
    viewer.page.wait_for_timeout(200)
    viewer.page.mouse.move(x, y)
    viewer.page.mouse.down()
    viewer.page.mouse.move(x + 20, y + 200, steps=5)
    viewer.page.mouse.up()
    viewer.page.wait_for_function("() => app.graph.getNodeById(1).pos[1] > 350")
    viewer.page.wait_for_timeout(100)


def undo(viewer: Viewer) -> None:
    """By its keys; the nodes are others then."""
    viewer.page.keyboard.press("Control+z")
    viewer.page.wait_for_function("() => app.graph.getNodeById(9) && app.graph.getNodeById(9) !== preview")
    viewer.page.evaluate("() => { window.preview = app.graph.getNodeById(9) }")
    viewer.wait("shown")
    viewer.page.wait_for_timeout(300)  # for pictures that should not be there


def look(viewer: Viewer) -> tuple[float, float, float]:
    """To the left, up, and nearer, each in its own way; returns the direction."""
    viewer.page.locator(".mvd-panorama [type=range]").fill("60")
    viewer.drag(80, 30)
    viewer.page.mouse.wheel(0, 30)  # which lifts no button
    viewer.settle()
    assert viewer.direction() == LOOKED
    return viewer.direction()


def size(viewer: Viewer) -> list[float]:
    return viewer.page.evaluate("() => [...app.graph.getNodeById(9).size]")


def assert_no_stock_preview(viewer: Viewer) -> None:
    assert viewer.page.evaluate("() => app.graph.getNodeById(9).widgets.map(widget => widget.name)") == ["panorama"]
    assert not viewer.page.evaluate("() => app.graph.getNodeById(9).imgs?.length")
    assert viewer.page.locator("[data-node-id='9'] img").count() == 0


def test_undo_leaves_the_viewer_alone(shown: Viewer):
    before = size(shown)
    move_load_image(shown)
    undo(shown)
    assert shown.page.evaluate("() => [...app.graph.getNodeById(1).pos]") == [150, 250]
    assert_no_stock_preview(shown)
    assert size(shown) == before
    shown.assert_shows("waves1.png")


def test_first_run_ends_before_the_viewer_has_come(viewer: Viewer, own_page):
    held = []
    page = own_page("**/panorama_viewer.mjs", lambda route: held.append(route))
    late = Viewer(page, viewer.server)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "waves1.png"}},
        "9": {"class_type": "MVDiffusionPreviewPanorama", "inputs": {"equirect": ["1", 0]}},
    }
    page.evaluate("async graph => { await app.loadApiJson(graph, 'late') }", graph)
    before = size(late)
    late.queue()
    page.wait_for_function("() => app.nodeOutputs['9']?.images.length")
    page.evaluate("() => app.canvas.setDirty(true, true)")
    page.wait_for_timeout(500)
    assert_no_stock_preview(late)
    assert size(late) == before
    held[0].continue_()
    late.wait("shown")
    assert size(late) == before
    assert page.errors == []


@pytest.mark.parametrize("looks_first", [True, False])
def test_direction_survives_undo(shown: Viewer, looks_first: bool):
    if looks_first:
        direction = look(shown)
        move_load_image(shown)
    else:
        move_load_image(shown)
        direction = look(shown)
    undo(shown)
    assert shown.page.evaluate("() => [...app.graph.getNodeById(1).pos]") == [150, 250]
    assert shown.direction() == direction
    shown.assert_shows("waves1.png")


def test_direction_survives_a_change_of_tab(viewer: Viewer, own_page):
    """On a page of its own: tabs of other tests stay open.

    Front end 1.27.10 forgets the outputs of a run that ends before it has the answer to its request; they are put back.
    """
    alone = Viewer(own_page("**/no-file-of-the-pack", lambda route: route.continue_()), viewer.server)
    alone.show("waves1.png")
    capture(alone)
    alone.page.evaluate(f"() => {{ {TRACKER}.nodeOutputs ??= {{...app.nodeOutputs}} }}")
    direction, tab = look(alone), alone.page.evaluate(OPEN_TAB)
    alone.page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.NewBlankWorkflow') }")
    alone.page.wait_for_function("() => app.graph.nodes.length === 0")
    alone.page.locator(".workflow-tab").nth(tab).click()
    alone.wait("shown")
    assert alone.direction() == direction


@pytest.mark.parametrize(
    "saved",
    [
        f"() => JSON.stringify({TRACKER}.activeState)",  # what Save writes
        "async () => JSON.stringify((await app.graphToPrompt()).workflow)",  # what Export and pictures hold
    ],
    ids=["saved", "exported"],
)
def test_direction_is_saved_with_the_graph(shown: Viewer, saved: str):
    direction = look(shown)
    graph = json.loads(shown.page.evaluate(saved))
    shown.press("Home")
    assert shown.direction() == (0, 0, 90)
    shown.page.evaluate("async graph => { app.nodeOutputs = {}; await app.loadGraphData(graph) }", graph)
    shown.queue()
    shown.wait("shown")
    assert shown.direction() == direction


def test_looking_around_changes_no_graph(shown: Viewer):
    state = f"""async () => [
        {TRACKER}.undoQueue.length,
        app.extensionManager.workflow.activeWorkflow.isModified,
        (await app.graphToPrompt()).output,
    ]"""
    before = shown.page.evaluate(state)
    look(shown)
    capture(shown)
    assert shown.page.evaluate(state) == before


def test_looking_around_in_a_subgraph_changes_no_graph(viewer: Viewer, subgraph: None):
    capture(viewer)
    before = viewer.page.evaluate(f"() => {TRACKER}.undoQueue.length")
    direction = look(viewer)
    capture(viewer)
    assert viewer.page.evaluate(f"() => {TRACKER}.undoQueue.length") == before
    views = viewer.page.evaluate(f"() => {TRACKER}.activeState.definitions.subgraphs[0].nodes[0].properties.view")
    assert (views["yaw"], views["pitch"], views["fov"]) == pytest.approx(direction, abs=0.5)


@pytest.mark.parametrize("view", ["north", {"yaw": "a", "pitch": 400, "fov": None}, None, [1]])
def test_view_that_no_viewer_has_saved(viewer: Viewer, view):
    viewer.show("waves1.png")
    viewer.page.evaluate("view => { preview.properties.view = view; preview.configure(preview.serialize()) }", view)
    viewer.settle()
    assert viewer.direction() == (0, 90 if isinstance(view, dict) else 0, 90)
