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
