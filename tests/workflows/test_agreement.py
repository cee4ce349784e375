"""Overlap PSNR on the canvas: its table and its picture show in the node, which may be the last one of a graph."""

from __future__ import annotations

import comfy_host
import pytest
from front_end import browser_tests, new_page, open_front_end

pytestmark = browser_tests

QUEUE = """async () => {
    const graph = window.app.graph;
    graph.clear();
    const [images, cameras, measure] = ["EmptyImage", "MVDiffusionPanoramaCameras", "MVDiffusionOverlapPSNR"].map(
        type => { const node = LiteGraph.createNode(type); graph.add(node); return node; });
    const set = (node, name, value) => { node.widgets.find(widget => widget.name === name).value = value; };
    for (const name of ["width", "height"]) { set(images, name, 64); set(cameras, name, 64); }
    set(images, "batch_size", 8);
    images.connect(0, measure, 0);
    cameras.connect(0, measure, 1);
    await window.app.queuePrompt(0);
}"""
NODE = "window.app.graph.nodes.find(node => node.type === 'MVDiffusionOverlapPSNR')"
TEXT = f"{NODE}.widgets?.map(widget => widget.value).find(value => value?.includes?.('dB'))"


@pytest.fixture
def page(browser, server: comfy_host.Server):
    """The front end of a host that has run the node, and shows what it gave."""
    page = new_page(browser)
    open_front_end(page, server.url)
    page.evaluate(QUEUE)
    page.wait_for_function(f"() => ({TEXT}) && {NODE}.imgs?.length", timeout=60_000)
    return page


def test_node_shows_its_table_and_the_worst_pair(page):
    total, first, *_ = page.evaluate(TEXT).splitlines()
    assert total.startswith("100.00 dB  all 8 pairs") and first.startswith("100.00 dB  view 0 and view 1")
    assert page.evaluate(f"{NODE}.imgs[0].naturalWidth") == 1632
