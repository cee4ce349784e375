"""Preview Panorama on a page of the front end, as its user meets it: for the tests of its viewer."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import comfy_host
import numpy as np
import torch
from front_end import new_page
from in_process import ROOT
from PIL import Image, PngImagePlugin
from sphere import cameras_at

from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.panorama.gpano import gpano_xmp

ARTEFACTS = Path(os.environ.get("MVDIFFUSION_ARTEFACTS", ROOT / ".artifacts"))
WIDTH = 1024  # of the panoramas
CLOSE = 3.0  # mean difference of pictures in 0..255 that show the same
CROP = slice(100, 400), slice(300, 1000)  # rows and columns of waves1.png that cropped.png has
COVERED = 20  # degrees of latitude, either way, that the panorama with coverage has
# Watches and restrains the page's use of WebGL. A limit of 0 is none.
PROBE = """
window.probe = {draws: 0, pictures: 0, contexts: [], largest: 0, viewport: 0, buffer: 0, memory: 0, missing: false};
{
    const gl = WebGL2RenderingContext.prototype;
    const {drawArrays, generateMipmap, getParameter, getError, texStorage2D} = gl;
    gl.drawArrays = function (...args) {
        probe.draws++;
        return drawArrays.apply(this, args);
    };
    gl.generateMipmap = function (...args) {
        probe.pictures++;
        return generateMipmap.apply(this, args);
    };
    gl.getParameter = function (name) {
        if (name === this.MAX_TEXTURE_SIZE && probe.largest) return probe.largest;
        if (name === this.MAX_VIEWPORT_DIMS && probe.viewport) return new Int32Array(2).fill(probe.viewport);
        return getParameter.call(this, name);
    };
    let full = false;
    gl.texStorage2D = function (target, levels, format, width, height) {
        full = probe.memory && width > probe.memory;
        if (!full) texStorage2D.call(this, target, levels, format, width, height);
    };
    gl.getError = function () {
        const error = getError.call(this);
        return full ? this.OUT_OF_MEMORY : error;
    };
    const {get} = Object.getOwnPropertyDescriptor(gl, "drawingBufferWidth");
    const granted = function () { return Math.min(get.call(this), probe.buffer || Infinity) };
    Object.defineProperty(gl, "drawingBufferWidth", {get: granted});
    const {getContext} = HTMLCanvasElement.prototype;
    HTMLCanvasElement.prototype.getContext = function (kind, ...args) {
        if (probe.missing && kind.startsWith("webgl")) return null;
        const context = getContext.call(this, kind, ...args);
        if (kind === "webgl2") probe.contexts.push(context);
        return context;
    };
}
"""
FREE = "Object.assign(probe, {largest: 0, viewport: 0, buffer: 0, memory: 0, missing: false})"


@functools.cache
def panorama(name: str) -> np.ndarray:
    """(WIDTH / 2, WIDTH, 3) uint8: smooth everywhere, detailed, and different in all directions and for all names."""
    axes = torch.randn(3, 6, generator=torch.Generator().manual_seed(int(name[5])), dtype=torch.float64)
    heights = (6 * equirect_directions(WIDTH, WIDTH // 2) @ axes).sin().unflatten(-1, (3, 2)).mean(-1)
    return ((0.5 + 0.5 * heights) * 255).round().to(torch.uint8).numpy()


def write_pictures(folder: Path) -> None:
    """waves1.png, waves2.png, cropped.png, and coverage.png: the level band that is COVERED."""
    for name in ("waves1.png", "waves2.png"):
        Image.fromarray(panorama(name)).save(folder / name)
    metadata = PngImagePlugin.PngInfo()
    metadata.add_itxt("XML:com.adobe.xmp", gpano_xmp(WIDTH // 2, CROP, 0.0))
    Image.fromarray(panorama("waves1.png")[CROP]).save(folder / "cropped.png", pnginfo=metadata)
    coverage = np.zeros((WIDTH // 2, WIDTH, 3), np.uint8)
    rows = round(WIDTH / 2 * (0.5 - COVERED / 180))
    coverage[rows:-rows] = 255
    Image.fromarray(coverage).save(folder / "coverage.png")


def watched_page(browser):
    """A page for `open_front_end` with the PROBE; its `requests` collects what it has asked for."""
    page = new_page(browser)
    page.add_init_script(PROBE)
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    return page


def cut(name: str, yaw: float, pitch: float, fov: float, width: int, height: int) -> np.ndarray:
    """(height, width, 3) in 0..255: what Equirect to Views gives of a panorama, in degrees."""
    cameras = cameras_at([(yaw, pitch)], fov, width, height)
    views, _ = equirect_to_views(torch.from_numpy(panorama(name))[None] / 255, cameras)
    return views[0].numpy() * 255


def difference(picture: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(picture.astype(float) - reference).mean())


class Viewer:
    """Preview Panorama in the graph, as its user meets it."""

    def __init__(self, page, server: comfy_host.Server):
        self.page = page
        self.server = server
        self.root = page.locator(".mvd-panorama")
        self.stage = page.locator(".mvd-panorama-stage")
        self.note = page.locator(".mvd-panorama-note")

    def open(self, *pictures: str, coverage: str | None = None) -> None:
        """An own graph that shows one or two pictures of the input folder, unzoomed, not queued yet."""
        graph = {"1": {"class_type": "LoadImage", "inputs": {"image": pictures[0]}}}
        show = {"equirect": ["1", 0]}
        if len(pictures) > 1:
            graph["2"] = {"class_type": "LoadImage", "inputs": {"image": pictures[1]}}
            graph["3"] = {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}}
            show = {"equirect": ["3", 0]}
        if coverage:
            graph["4"] = {"class_type": "LoadImageMask", "inputs": {"image": coverage, "channel": "red"}}
            show["coverage"] = ["4", 0]
        if any(name == "cropped.png" for name in pictures):
            graph["1"]["class_type"] = "MVDiffusionLoadPanorama"
            show["coverage"] = ["1", 1]
        graph["9"] = {"class_type": "MVDiffusionPreviewPanorama", "inputs": show}
        self.page.evaluate(
            """async graph => {
                app.canvas.setGraph(app.graph.rootGraph); // 0.3.64 stays in a subgraph that was open
                app.nodeOutputs = {};
                await app.loadApiJson(graph, "viewer");
            }""",
            graph,
        )
        self.page.evaluate(
            """() => {
                const node = window.preview = app.graph.getNodeById(9);
                node.pos = [700, 200];
                Object.assign(app.canvas.ds, {scale: 1, offset: [0, 0]});
                app.canvas.setDirty(true, true);
            }"""
        )
        self.stage.wait_for()

    def queue(self) -> None:
        self.page.evaluate("async () => { await app.queuePrompt(0) }")

    def show(self, *pictures: str, coverage: str | None = None) -> None:
        self.open(*pictures, coverage=coverage)
        self.queue()
        self.wait("shown")

    def wait(self, picture: str) -> None:
        self.page.wait_for_selector(f".mvd-panorama[data-picture={picture}]", timeout=60_000)
        self.settle()

    @contextlib.contextmanager
    def new_picture(self) -> Iterator[None]:
        """What is done inside brings another picture: waits until that is drawn."""
        before = self.page.evaluate("() => probe.pictures")
        yield
        self.page.wait_for_function("before => probe.pictures > before", arg=before)
        self.settle()

    def contexts(self) -> int:
        """How many WebGL contexts there are on the page, half a second later."""
        self.page.wait_for_timeout(500)
        return self.page.evaluate("() => probe.contexts.filter(context => !context.isContextLost()).length")

    def asked_for(self) -> int:
        """How many panoramas the page has asked for."""
        return sum("/view?" in url and "type=temp" in url for url in self.page.requests)

    def settle(self) -> None:
        """Until what was asked for has been drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def direction(self) -> tuple[float, float, float]:
        """Yaw, pitch and field of view in degrees, as the viewer writes them."""
        text = self.page.locator(".mvd-panorama-readout").inner_text()
        return tuple(float(number) for number in re.fullmatch(r"yaw (.+)° pitch (.+)° fov (.+)°", text).groups())

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.stage.press(key)
        self.settle()

    def button(self, action: str):
        return self.page.locator(f".mvd-panorama [data-action={action}]")

    def centre(self) -> tuple[float, float]:
        box = self.stage.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, right: float, down: float) -> None:
        x, y = self.centre()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + right, y + down, steps=4)
        self.page.mouse.up()
        self.settle()

    def on_screen(self) -> np.ndarray:
        """(height, width, 3) uint8: the picture as the screen shows it."""
        return np.asarray(Image.open(io.BytesIO(self.stage.screenshot())).convert("RGB"))

    def saved(self) -> np.ndarray:
        """(height, width, 4) uint8: the file that the save button gives."""
        with self.page.expect_download() as download:
            self.button("save").click()
        return np.asarray(Image.open(download.value.path()).convert("RGBA"))

    def keep(self, name: str) -> None:
        """Saves the page for people to look at."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"viewer_{name}.png")

    def zoom_graph(self) -> None:
        """By half, with the viewer still on the screen."""
        self.page.evaluate("() => { Object.assign(app.canvas.ds, {scale: 1.5, offset: [-300, -100]}) }")
        self.page.evaluate("() => app.canvas.setDirty(true, true)")
        self.page.wait_for_timeout(200)

    def wheel_on_graph(self, x: float, y: float) -> float:
        """Turns the wheel at a place of the screen; returns how much that zooms the graph, and takes it back."""
        self.page.mouse.move(x, y)
        self.page.mouse.wheel(0, -100)
        self.page.wait_for_function("() => app.canvas.ds.scale !== 1")
        self.page.wait_for_timeout(200)  # it may go on
        scale = self.page.evaluate("() => app.canvas.ds.scale")
        self.page.evaluate("() => { Object.assign(app.canvas.ds, {scale: 1, offset: [0, 0]}) }")
        self.page.evaluate("() => app.canvas.setDirty(true, true)")
        self.settle()
        return scale

    def assert_sharp(self) -> None:
        """The picture has as many pixels as it takes on the screen."""
        sizes = "canvas => [canvas.width, canvas.getBoundingClientRect().width]"
        pixels, width = self.page.locator(".mvd-panorama canvas").evaluate(sizes)
        assert pixels == round(width)

    def assert_shows(self, name: str) -> None:
        """The saved view and the screen's are what Equirect to Views gives at the direction that the viewer writes."""
        direction = self.direction()
        saved, screen = self.saved()[..., :3], self.on_screen()
        for picture in (saved, screen):
            height, width = picture.shape[:2]
            assert difference(picture, cut(name, *direction, width, height)) < CLOSE
