"""A real ComfyUI server with the pack and without weights, for all tests of the graphs."""

from __future__ import annotations

import json

import comfy_host
import numpy as np
import pytest
from front_end import chromium, open_front_end
from in_process import ROOT
from PIL import Image
from sphere import detailed
from viewer_page import FREE, Viewer, watched_page, write_pictures


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory):
    workdir = tmp_path_factory.mktemp("host")
    settings = workdir / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")  # no welcome over the canvas
    (workdir / "input").mkdir()
    Image.fromarray(example_panorama()).save(workdir / "input" / "example.png")  # what Load Image offers first
    host, previews = comfy_host.find_comfyui(ROOT), ["--preview-method", "latent2rgb"]
    with comfy_host.Server(host, workdir=workdir, extra_args=previews) as server:
        yield server


def example_panorama() -> np.ndarray:
    """(512, 1024, 3) bytes of a panorama with detail in every direction."""
    from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions

    return (255 * detailed(equirect_directions(1024, 512))).round().byte().numpy()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def panorama_page(browser, server: comfy_host.Server):
    """The front end of a host that has the viewer's pictures."""
    write_pictures(server.workdir / "input")
    page = watched_page(browser)
    open_front_end(page, server.url)
    page.wait_for_load_state("networkidle")
    return page


@pytest.fixture
def viewer(panorama_page, server: comfy_host.Server):
    """Nothing shown yet. No test may leave an error in the console."""
    panorama_page.errors.clear()
    yield Viewer(panorama_page, server)
    panorama_page.evaluate(FREE)
    assert panorama_page.errors == []


@pytest.fixture
def vue_nodes(viewer: Viewer):
    """Nodes drawn by Vue, as the front end calls Nodes 2.0; those of 0.3.64 are a sketch without widgets of packs."""
    if comfy_host.host_version(viewer.server.host) == "0.3.64":
        pytest.skip("the nodes that Vue draws in 0.3.64 have no widgets of packs")
    switch = "async on => { await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on) }"
    viewer.page.evaluate(switch, True)
    yield
    viewer.page.evaluate(switch, False)


@pytest.fixture
def own_page(browser, panorama_page, server: comfy_host.Server):
    """Makes the front end on a page of its own, where `handler` gets all requests for `address`."""
    pages = []

    def open_page(address: str, handler):
        page = watched_page(browser)
        pages.append(page)
        page.route(address, handler)
        open_front_end(page, server.url)
        page.errors.clear()  # those of its start
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def subgraph(viewer: Viewer) -> None:
    """The viewer in a subgraph that is open, with its picture."""
    viewer.open("waves1.png")
    viewer.page.evaluate(
        """() => {
            window.made = app.graph.convertToSubgraph(new Set([preview]));
            app.canvas.openSubgraph(made.subgraph, made.node);
        }"""
    )
    viewer.queue()
    viewer.wait("shown")
