"""The graphs in a real browser: dropped onto the canvas, exported by the front end, and run from there."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import comfy_host
import numpy as np
import pytest
import torch
from front_end import browser_tests, chromium, new_page, open_front_end
from in_process import ROOT
from PIL import Image

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.equirect import equirect_to_views

FILES = sorted((ROOT / "workflows").glob("*.json"))
DROP = """async ([name, text]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([text], name, {type: "application/json"}));
    const canvas = document.querySelector("#graph-canvas");
    canvas.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, clientX: 400, clientY: 400}));
}"""

pytestmark = browser_tests


@pytest.fixture(scope="module")
def front_end(server: comfy_host.Server):
    """The front end in a headless browser; `front_end.errors` collects what went wrong in it."""
    with chromium() as browser:
        page = new_page(browser)
        open_front_end(page, server.url)
        yield page


@pytest.fixture
def page(front_end):
    """The front end with an empty canvas."""
    front_end.evaluate("() => window.app.graph.clear()")
    front_end.errors.clear()
    return front_end


def drop(page, file: Path) -> None:
    """Drops a file onto the canvas and waits until its nodes are there."""
    text = file.read_text(encoding="utf-8")
    page.evaluate(DROP, [file.name, text])
    page.wait_for_function("count => window.app.graph.nodes.length === count", arg=len(json.loads(text)["nodes"]))


def api_twin(file: Path) -> dict:
    return json.loads((file.parent / "api" / file.name).read_text(encoding="utf-8"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request, server: comfy_host.Server) -> Path:
    """A graph whose nodes this host has, all of them."""
    known = server.get("object_info")
    if missing := {node["class_type"] for node in api_twin(request.param).values()} - known.keys():
        pytest.skip(f"this ComfyUI is too old for the graph: it has no {', '.join(sorted(missing))}")
    return request.param


def test_front_end_exports_the_api_twin(page, file: Path):
    drop(page, file)
    exported = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    twin = api_twin(file)
    for id, node in exported.items():
        if not node["class_type"].startswith("MVDiffusion"):  # newer hosts have given their own nodes more inputs
            node["inputs"] = {name: value for name, value in node["inputs"].items() if name in twin[id]["inputs"]}
    assert exported == twin


def test_every_node_is_known_and_nothing_fails(page, file: Path):
    drop(page, file)
    types = page.evaluate("() => window.app.graph.nodes.map(node => node.type)")
    assert [type for type in types if not page.evaluate("type => type in LiteGraph.registered_node_types", type)] == []
    assert page.locator("[role=dialog]:visible").count() == 0
    assert page.errors == []


@pytest.fixture(scope="module")
def demo(front_end, server: comfy_host.Server):
    """The front end after demo_panorama was dropped, given another seed and fewer steps, and queued from the canvas."""
    front_end.evaluate("() => window.app.graph.clear()")
    drop(front_end, ROOT / "workflows" / "demo_panorama.json")
    front_end.errors.clear()
    front_end.previews.clear()
    before = set(server.get("history"))
    front_end.evaluate(
        """async () => {
            const set = (name, value) => {
                app.graph.getNodeById(5).widgets.find(widget => widget.name === name).value = value;
            };
            set("seed", 77);
            set("steps", 8);
            await app.queuePrompt(0);
        }"""
    )
    deadline = time.monotonic() + 120
    while not (new := set(server.get("history")) - before) and time.monotonic() < deadline:
        front_end.wait_for_timeout(200)
    (prompt_id,) = new
    front_end.entry = server.get(f"history/{prompt_id}")[prompt_id]
    front_end.wait_for_function("() => window.app.nodeOutputs['8']?.images.length === 1")
    return front_end


def test_demo_runs_from_the_canvas(demo):
    assert demo.entry["status"]["status_str"] == "success"
    assert demo.errors == []


def test_live_previews_are_panoramas(demo):
    sizes = [Image.open(io.BytesIO(preview)).size for preview in demo.previews]
    assert len(sizes) >= 2  # the first step's and the last one's
    assert set(sizes) == {(512, 256)}


def test_last_live_preview_shows_the_ring_of_views(demo):
    last = np.asarray(Image.open(io.BytesIO(demo.previews[-1])).convert("RGB"), dtype=float)
    assert last[80:176].std(axis=(0, 1)).min() > 30
    assert last[:48].max() < 30 and last[-48:].max() < 30


def test_viewer_shows_the_panorama_that_was_made(demo, server: comfy_host.Server):
    (file,) = demo.entry["outputs"]["8"]["images"]
    panorama = np.array(Image.open(io.BytesIO(server.view(**file))).convert("RGB"))
    demo.wait_for_selector(".mvd-panorama[data-picture=shown]")
    with demo.expect_download() as download:
        demo.locator(".mvd-panorama [data-action=save]").dispatch_event("click")
    view = np.array(Image.open(download.value.path()).convert("RGB"), dtype=int)
    height, width = view.shape[:2]
    expected, _ = equirect_to_views(torch.from_numpy(panorama)[None] / 255, ring(1, 90, width, height))
    middle = np.s_[height // 4 : -height // 4, width // 4 : -width // 4]
    assert view[middle].std() > 10
    assert np.abs(view - 255 * expected[0].numpy())[middle].mean() < 3
    assert demo.errors == []
