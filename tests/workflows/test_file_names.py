"""Tokens in names of files in a real browser: filled in as the front end does it for the host's own nodes."""

from __future__ import annotations

import re

import pytest
from front_end import browser_tests
from viewer_page import Viewer

pytestmark = browser_tests

NAMES = {
    "MVDiffusionSave": "filename_prefix",
    "MVDiffusionSavePanorama": "filename_prefix",
    "MVDiffusionSaveSequence": "folder",
    "MVDiffusionTrain": "run",
}
TOKENS = "%date:yyyy-MM-dd%_%LoadImage.image%_%year%"
FILLED = re.compile(r"\d{4}-\d\d-\d\d_waves1\.png_%year%")  # the last one is the server's


@pytest.fixture
def page(viewer: Viewer):
    return viewer.page


def load(page, class_type: str, widget: str, text: str) -> None:
    """A graph of Load Image, as node 1, and another node, as node 2, whose widget has this text."""
    source = {"class_type": "LoadImage", "inputs": {"image": "waves1.png"}}
    picture = {"equirect": ["1", 0]} if class_type == "MVDiffusionSavePanorama" else {"images": ["1", 0]}
    graph = {"1": source, "2": {"class_type": class_type, "inputs": {**picture, widget: text}}}
    page.evaluate("async graph => { app.nodeOutputs = {}; await app.loadApiJson(graph, 'names') }", graph)


def queued(page, widget: str) -> str:
    """The text that goes to the host."""
    return page.evaluate("async widget => (await app.graphToPrompt()).output['2'].inputs[widget]", widget)


@pytest.mark.parametrize("class_type", NAMES)
def test_tokens_are_filled_in_and_the_graph_keeps_them(page, class_type: str):
    load(page, class_type, NAMES[class_type], TOKENS)
    assert FILLED.fullmatch(queued(page, NAMES[class_type]))
    find = "widget => app.graph.getNodeById(2).widgets.find(({name}) => name === widget).value"
    assert page.evaluate(find, NAMES[class_type]) == TOKENS


def test_tokens_are_those_of_save_image(page):
    load(page, "MVDiffusionSavePanorama", "filename_prefix", TOKENS)
    ours = queued(page, "filename_prefix")
    load(page, "SaveImage", "filename_prefix", TOKENS)
    assert queued(page, "filename_prefix") == ours


def test_every_name_that_our_nodes_take_is_known(page):
    named = page.evaluate(
        """async names => {
            const found = {};
            for (const [type, node] of Object.entries(await (await fetch("/object_info")).json())) {
                if (!type.startsWith("MVDiffusion")) continue;
                const inputs = Object.keys({...node.input.required, ...node.input.optional});
                for (const name of inputs) if (names.includes(name)) found[type] = name;
            }
            return found;
        }""",
        sorted(set(NAMES.values())),
    )
    assert named == NAMES


def test_widgets_of_others_are_left_alone(page):
    changed = page.evaluate(
        """() => {
            const { nodeCreated } = app.extensions.find(({ name }) => name === "MVDiffusion.FileNames");
            const widgets = [{ value: "%year%" }, { name: "filename_prefix", value: "%year%" }];
            nodeCreated({ comfyClass: "OthersSave", widgets });
            nodeCreated({ comfyClass: "OthersNote" });
            nodeCreated({ widgets });
            return widgets.filter(widget => "serializeValue" in widget);
        }"""
    )
    assert changed == []


def test_file_has_the_name(viewer: Viewer):
    load(viewer.page, "MVDiffusionSavePanorama", "filename_prefix", "named/%date:yyyy-MM-dd%_%LoadImage.image%")
    viewer.queue()
    viewer.page.wait_for_function("() => app.nodeOutputs['2']?.images.length === 1")
    (path,) = (viewer.server.workdir / "output" / "named").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_waves1\.png_00001_\.png", path.name)


def test_without_the_front_ends_function_the_text_goes_on_as_it_is(page):
    load(page, "MVDiffusionSavePanorama", "filename_prefix", TOKENS)
    fill = page.evaluate_handle("() => comfyAPI.utils.applyTextReplacements")
    page.evaluate("() => { delete comfyAPI.utils.applyTextReplacements }")
    text = queued(page, "filename_prefix")
    page.evaluate("fill => { comfyAPI.utils.applyTextReplacements = fill }", fill)
    assert text == TOKENS
