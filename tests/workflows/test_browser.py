"""The graphs in a real browser: dropped onto the canvas, exported by the front end, and run from there."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import comfy_host
import pytest
from in_process import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = ["background-networking", "component-update", "sync", "gpu", "quic"]
FILES = sorted((ROOT / "workflows").glob("*.json"))
READY = """() => document.querySelector("#graph-canvas") && window.app?.extensionManager
    && "MVDiffusionKSampler" in (window.LiteGraph?.registered_node_types ?? {})"""
DROP = """async ([name, text]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([text], name, {type: "application/json"}));
    const canvas = document.querySelector("#graph-canvas");
    canvas.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, clientX: 400, clientY: 400}));
}"""

pytestmark = [
    pytest.mark.server,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium found: install it to test the graphs in a browser"),
]


@pytest.fixture(scope="module")
def front_end(server: comfy_host.Server):
    """The front end in a headless browser; `front_end.errors` collects the exceptions that nobody caught in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    arguments = ["--no-first-run", *(f"--disable-{feature}" for feature in QUIET)]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=False)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_function(READY, timeout=60_000)
        yield page
        browser.close()


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_front_end_exports_the_api_twin(page, file: Path):
    drop(page, file)
    exported = page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).output)")
    twin = (file.parent / "api" / file.name).read_text(encoding="utf-8")
    assert json.loads(exported) == json.loads(twin)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_node_is_known_and_nothing_fails(page, file: Path):
    drop(page, file)
    types = page.evaluate("() => window.app.graph.nodes.map(node => node.type)")
    assert [type for type in types if not page.evaluate("type => type in LiteGraph.registered_node_types", type)] == []
    assert page.locator("[role=dialog]:visible").count() == 0
    assert page.errors == []


def test_demo_runs_from_the_canvas(page, server: comfy_host.Server):
    drop(page, ROOT / "workflows" / "demo_panorama.json")
    before = set(server.get("history"))
    page.evaluate("async () => { await window.app.queuePrompt(0) }")
    deadline = time.monotonic() + 120
    while not (new := set(server.get("history")) - before) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    (prompt_id,) = new
    assert server.get(f"history/{prompt_id}")[prompt_id]["status"]["status_str"] == "success"
    page.wait_for_function("() => window.app.nodeOutputs['8']?.images.length === 1")
