"""The viewer of Preview Panorama in a real browser: when it comes and goes."""

from __future__ import annotations

import math
import re

import pytest
from front_end import browser_tests
from viewer_page import WIDTH, Viewer

pytestmark = browser_tests


def scripts_of_the_viewer(page) -> list[str]:
    return [url for url in page.requests if "/panorama_" in url]


def test_page_without_the_node_loads_no_viewer(panorama_page):
    assert scripts_of_the_viewer(panorama_page) == []


def test_viewer_comes_from_the_pack_alone(viewer: Viewer):
    viewer.show("waves1.png")
    scripts = scripts_of_the_viewer(viewer.page)
    assert scripts
    assert all(re.fullmatch(r"/extensions/[^/]+/panorama_\w+\.mjs", url[len(viewer.server.url) :]) for url in scripts)


def test_idle_viewer_does_not_draw(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.drag(40, 10)
    before = viewer.page.evaluate("() => probe.draws")
    assert before > 0
    viewer.page.evaluate("() => app.canvas.setDirty(true, true)")
    viewer.page.wait_for_timeout(1000)
    assert viewer.page.evaluate("() => probe.draws") == before


def test_removed_node_frees_the_gpu(viewer: Viewer):
    viewer.show("waves1.png")
    assert viewer.contexts() == 1
    asked = viewer.asked_for()
    viewer.page.evaluate("() => app.graph.remove(preview)")
    assert viewer.contexts() == 0
    assert viewer.asked_for() == asked


def test_node_whose_removal_is_undone_shows_its_picture_again(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.wait_for_timeout(300)
    viewer.page.evaluate("() => { app.canvas.selectNode(preview); app.canvas.deleteSelected() }")
    assert viewer.contexts() == 0
    viewer.page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.Undo') }")
    viewer.wait("shown")
    assert viewer.contexts() == 1
    viewer.assert_shows("waves1.png")


def close_subgraph(viewer: Viewer) -> None:
    viewer.page.evaluate("() => app.canvas.setGraph(made.subgraph.rootGraph)")


def test_subgraph_shows_the_picture_again_when_it_is_opened_again(viewer: Viewer, subgraph: None):
    close_subgraph(viewer)
    viewer.page.wait_for_selector(".mvd-panorama", state="hidden")
    viewer.page.evaluate("() => app.canvas.openSubgraph(made.subgraph, made.node)")
    viewer.stage.wait_for()
    viewer.wait("shown")
    assert viewer.contexts() == 1
    viewer.assert_shows("waves1.png")


@pytest.mark.parametrize("closed", [False, True], ids=["opened", "closed"])
def test_subgraph_frees_the_gpu_when_another_graph_is_loaded(viewer: Viewer, subgraph: None, closed: bool):
    if closed:
        close_subgraph(viewer)
    viewer.page.evaluate("async () => { await app.loadGraphData({nodes: [], links: [], version: 0.4}) }")
    assert viewer.contexts() == 0


def test_node_removed_before_the_viewer_has_come_stays_empty(viewer: Viewer, own_page):
    viewer.show("waves1.png")
    outputs = viewer.page.evaluate("() => app.nodeOutputs['9']")
    held = []
    page = own_page("**/panorama_viewer.mjs", lambda route: held.append(route))
    early = Viewer(page, viewer.server)
    graph = {"9": {"class_type": "MVDiffusionPreviewPanorama", "inputs": {}}}
    page.evaluate("async graph => { await app.loadApiJson(graph, 'early') }", graph)
    page.wait_for_timeout(300)
    page.evaluate(
        "outputs => { app.graph.remove(app.graph.getNodeById(9)); app.nodeOutputs = {9: outputs} }",
        outputs,
    )
    (script,) = held
    script.continue_()
    assert early.contexts() == 0
    assert early.asked_for() == 0
    assert page.errors == []


def test_context_that_comes_back_after_the_node_has_gone_stays_unused(viewer: Viewer):
    viewer.show("waves1.png")
    asked = viewer.asked_for()
    viewer.page.evaluate(
        """() => {
            const gl = document.querySelector(".mvd-panorama canvas").getContext("webgl2");
            window.context = gl.getExtension("WEBGL_lose_context");
            app.graph.remove(preview);
        }"""
    )
    viewer.contexts()
    viewer.page.evaluate("() => context.restoreContext()")
    viewer.contexts()
    assert viewer.asked_for() == asked
    viewer.page.evaluate("() => context.loseContext()")


def test_new_result_keeps_the_direction(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.press("ArrowRight", times=3)
    direction = viewer.direction()
    viewer.page.evaluate("() => { app.graph.getNodeById(1).widgets[0].value = 'waves2.png' }")
    with viewer.new_picture():
        viewer.queue()
    assert viewer.direction() == direction
    viewer.assert_shows("waves2.png")


def test_picture_is_there_again_when_its_tab_is_opened_again(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.NewBlankWorkflow') }")
    viewer.page.wait_for_function("() => app.graph.nodes.length === 0")
    viewer.page.locator(".workflow-tab").nth(-2).click()
    viewer.wait("shown")
    viewer.assert_shows("waves1.png")


def test_copy_of_the_node_has_its_own_empty_viewer(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.evaluate("() => { const copy = preview.clone(); copy.pos = [700, 600]; app.graph.add(copy) }")
    viewer.page.wait_for_selector(".mvd-panorama[data-picture=none]")
    assert [root.get_attribute("data-picture") for root in viewer.root.all()] == ["shown", "none"]
    styles = "() => [...document.querySelectorAll('style')].filter(style => style.textContent.includes('mvd-')).length"
    assert viewer.page.evaluate(styles) == 1


def test_stock_preview_is_not_shown_as_well(viewer: Viewer):
    viewer.show("waves1.png")
    viewer.page.wait_for_timeout(200)
    assert viewer.page.evaluate("() => preview.widgets.map(widget => widget.name)") == ["panorama"]
    assert not viewer.page.evaluate("() => preview.imgs?.length")


def test_viewer_is_no_part_of_prompt_or_workflow(viewer: Viewer):
    viewer.show("waves1.png")
    prompt, saved = viewer.page.evaluate(
        "async () => [(await app.graphToPrompt()).output['9'].inputs, preview.serialize().widgets_values ?? []]"
    )
    assert prompt == {"equirect": ["1", 0]}
    assert saved == []


def test_vue_nodes_hold_the_viewer_alone(viewer: Viewer, vue_nodes: None):
    viewer.show("waves1.png")
    assert viewer.page.locator("[data-node-id='9'] img").count() == 0
    viewer.page.mouse.click(*viewer.centre())  # without the focus the wheel is the graph's there
    viewer.page.mouse.wheel(0, -400)
    viewer.drag(50, 20)
    assert viewer.page.evaluate("() => [...preview.pos, app.canvas.ds.scale]") == [700, 200, 1]
    assert viewer.direction()[2] == round(math.degrees(2 * math.atan(math.exp(-0.4))))
    viewer.page.locator(".mvd-panorama [type=range]").fill("60")
    viewer.settle()
    viewer.assert_shows("waves1.png")
    viewer.keep("vue")


def test_vue_nodes_get_the_pixels_of_the_screen(viewer: Viewer, vue_nodes: None):
    viewer.show("waves1.png")
    viewer.zoom_graph()
    assert viewer.stage.bounding_box()["width"] > 500
    viewer.assert_sharp()
    viewer.assert_shows("waves1.png")


def test_vue_nodes_leave_the_wheel_over_an_empty_viewer_to_the_graph(viewer: Viewer, vue_nodes: None):
    viewer.open("waves1.png")
    assert viewer.wheel_on_graph(*viewer.centre()) == viewer.wheel_on_graph(300, 700)


def test_vue_nodes_free_the_gpu(viewer: Viewer, vue_nodes: None):
    test_removed_node_frees_the_gpu(viewer)


def test_vue_nodes_show_the_picture_again_when_their_tab_is_opened_again(viewer: Viewer, vue_nodes: None):
    test_picture_is_there_again_when_its_tab_is_opened_again(viewer)


def test_without_the_script_the_stock_preview_shows_the_picture(own_page):
    page = own_page("**/preview_panorama.js", lambda route: route.abort())
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "waves1.png"}},
        "9": {"class_type": "MVDiffusionPreviewPanorama", "inputs": {"equirect": ["1", 0]}},
    }
    page.evaluate("async graph => { await app.loadApiJson(graph, 'stock'); await app.queuePrompt(0) }", graph)
    shown = """width => {
        app.canvas.draw(true, true); // a busy machine may leave the canvas as it is, and nodes load pictures when drawn
        return app.graph.getNodeById(9).imgs?.[0]?.naturalWidth === width;
    }"""
    page.wait_for_function(shown, arg=WIDTH, timeout=60_000)
    assert page.locator(".mvd-panorama").count() == 0
