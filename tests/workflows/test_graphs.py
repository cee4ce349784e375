"""The graphs of workflows/: the files that users drag in, and the same graphs as API prompts, run on a real server."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import json

import comfy_host
import numpy as np
import pytest
import torch
from in_process import ROOT
from PIL import Image

FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
NOTE = "MarkdownNote"  # drawn by the front end alone, so no part of what is run
TITLE_HEIGHT = 30  # of a node's title, which the front end draws above the node's position
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def ui_graph(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def api_graph(name: str) -> dict:
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def classes(comfy) -> dict[str, type]:
    """Node classes by id: the host's own and the pack's."""
    import nodes

    from mvdiffusion_pack.nodes import MVDiffusionExtension

    pack = asyncio.run(MVDiffusionExtension().get_node_list())
    return nodes.NODE_CLASS_MAPPINGS | {node.GET_SCHEMA().node_id: node for node in pack}


def widget_names(node_class: type) -> list[str]:
    """The widgets of a node in the order in which the front end saves their values; a seed's control is one more."""
    names, inputs = [], node_class.INPUT_TYPES()
    for name, (kind, *options) in {**inputs["required"], **inputs.get("optional", {})}.items():
        settings = options[0] if options else {}
        if (isinstance(kind, list) or kind in WIDGETS) and not settings.get("forceInput"):
            names.append(name)
            if settings.get("control_after_generate"):
                names.append("control_after_generate")
    return names


def saved_widget_names(node: dict) -> list[str]:
    """The same of a node that has no seed, as its graph's file has it."""
    return [slot["widget"]["name"] for slot in node["inputs"] if "widget" in slot]


def as_api_graph(ui: dict, classes: dict[str, type]) -> dict:
    """A graph of the front end in the form that the host runs, without the nodes' titles."""
    sources = {link: [str(node), slot] for link, node, slot, *_ in ui["links"]}
    graph = {}
    for node in ui["nodes"]:
        if node["type"] != NOTE:
            own = node["type"].startswith("MVDiffusion")  # the widgets of the host's nodes change with its version
            names = widget_names(classes[node["type"]]) if own else saved_widget_names(node)
            inputs = dict(zip(names, node.get("widgets_values", ()), strict=True))
            inputs.pop("control_after_generate", None)
            inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
            graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


@pytest.mark.host
@pytest.mark.parametrize("name", NAMES)
def test_file_to_drag_in_and_api_file_hold_one_graph(name: str, classes: dict[str, type]):
    graph = {id: {key: node[key] for key in ("class_type", "inputs")} for id, node in api_graph(name).items()}
    assert as_api_graph(ui_graph(name), classes) == graph


@pytest.mark.parametrize("name", NAMES)
def test_links_are_the_same_at_both_their_ends(name: str):
    ui = ui_graph(name)
    table = {(link, a, i, b, j) for link, a, i, b, j, _ in ui["links"]}
    sources, targets = set(), set()
    for node in ui["nodes"]:
        for i, slot in enumerate(node["outputs"]):
            sources |= {(link, node["id"], i) for link in slot["links"] or ()}
        targets |= {(slot["link"], node["id"], j) for j, slot in enumerate(node["inputs"]) if slot["link"] is not None}
    assert sources == {(link, a, i) for link, a, i, _, _ in table}
    assert targets == {(link, b, j) for link, _, _, b, j in table}


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap(name: str):
    boxes = {node["id"]: outline(node) for node in ui_graph(name)["nodes"]}
    over = [(a, b) for a, b in itertools.combinations(boxes, 2) if overlap(boxes[a], boxes[b])]
    assert over == []


@pytest.mark.parametrize("name", NAMES)
def test_every_node_lies_in_a_group(name: str):
    ui = ui_graph(name)
    groups = [group["bounding"] for group in ui["groups"]]
    outside = [node["id"] for node in ui["nodes"] if not any(contains(group, outline(node)) for group in groups)]
    assert outside == []


def outline(node: dict) -> tuple[float, float, float, float]:
    """Left, top, width and height of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT, width, height + TITLE_HEIGHT


def overlap(a, b) -> bool:
    return all(a[i] < b[i] + b[i + 2] and b[i] < a[i] + a[i + 2] for i in (0, 1))


def contains(a, b) -> bool:
    return all(a[i] <= b[i] and b[i] + b[i + 2] <= a[i] + a[i + 2] for i in (0, 1))


@pytest.mark.parametrize("name", ["demo_image_to_panorama", "image_to_panorama"])
def test_where_the_photo_is_is_typed_once(name: str):
    graph = api_graph(name)
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    placed, laid_over = inputs["MVDiffusionSourceImage"], inputs["MVDiffusionStitchEquirect"]
    for number in ("yaw", "pitch", "roll", "fov"):
        assert placed[number] == laid_over[f"source_{number}"]
        assert graph[placed[number][0]]["_meta"]["title"] == f"Photo: {number} in degrees (Float)"


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_is_square_and_small(name: str):
    path = FOLDER / f"{name}.jpg"
    assert path.stat().st_size < 60_000
    assert Image.open(path).size == (512, 512)


def pixels(server: comfy_host.Server, entry: dict) -> np.ndarray:
    """(height, width, 3) numbers 0..255 of the picture that Save Panorama wrote in a run."""
    (image,) = entry["outputs"]["8"]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(**image))).convert("RGB"), dtype=int)


@pytest.fixture(scope="module")
def demo_picture(server: comfy_host.Server) -> np.ndarray:
    return pixels(server, server.wait(server.queue(api_graph("demo_panorama"))))


def quick_demo() -> dict:
    """demo_panorama in two steps: enough to tell whether two pictures are one."""
    graph = api_graph("demo_panorama")
    graph["5"]["inputs"]["steps"] = 2
    return graph


@pytest.fixture(scope="module")
def quick_picture(server: comfy_host.Server) -> np.ndarray:
    return pixels(server, server.wait(server.queue(quick_demo())))


def outputs_in_process(graph: dict, classes: dict[str, type], node_id: str) -> tuple:
    """What a node of a graph gives, with all that it needs run in this process."""

    @functools.cache
    def outputs(node_id: str) -> tuple:
        node_class = classes[graph[node_id]["class_type"]]
        inputs = graph[node_id]["inputs"].items()
        inputs = {name: outputs(value[0])[value[1]] if isinstance(value, list) else value for name, value in inputs}
        if hasattr(node_class, "define_schema"):
            return node_class.execute(**inputs).args
        return getattr(node_class(), node_class.FUNCTION)(**inputs)

    with torch.inference_mode():
        return outputs(node_id)


@pytest.mark.server
def test_demo_makes_a_panorama(demo_picture: np.ndarray):
    assert demo_picture.shape == (512, 1024, 3)
    assert demo_picture[160:352].std(axis=(0, 1)).min() > 10


@pytest.mark.server
def test_demo_leaves_black_what_no_view_sees(demo_picture: np.ndarray):
    assert demo_picture[:127].max() == demo_picture[-127:].max() == 0


@pytest.mark.host
@pytest.mark.server
def test_server_and_nodes_in_process_give_one_picture(quick_picture: np.ndarray, classes: dict[str, type]):
    graph = quick_demo()
    node, slot = graph["8"]["inputs"]["equirect"]
    (equirect,) = outputs_in_process(graph, classes, node)[slot]
    assert np.abs(quick_picture - 255 * equirect.numpy()).max() <= 0.51  # of rounding


@pytest.mark.server
def test_second_run_gives_the_same_picture(server: comfy_host.Server, quick_picture: np.ndarray):
    graph = quick_demo()
    graph["3"]["inputs"]["text"] += "\n"  # the same prompt for the node, another for the host's cache
    graph["8"]["inputs"]["filename_prefix"] += "_again"
    entry = server.wait(server.queue(graph))
    cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    assert "5" not in cached
    np.testing.assert_array_equal(pixels(server, entry), quick_picture)


@pytest.mark.server
def test_blocks_saved_and_loaded_at_strength_0_give_another_picture(server: comfy_host.Server, quick_picture):
    """The demo's blocks, written by Save MVDiffusion, in place of themselves: at 1 the same picture, at 0 another."""
    weights = server.workdir / "models" / "mvdiffusion"
    weights.mkdir(exist_ok=True)
    graph = quick_demo()
    loader = next(name for name, node in graph.items() if node["class_type"] == "MVDiffusionLoadDemo")
    sampler = next(node for node in graph.values() if node["class_type"] == "MVDiffusionKSampler")
    saving = {
        "class_type": "MVDiffusionSave",
        "inputs": {"model": [loader, 0], "filename_prefix": "blocks_of_the_demo", "dtype": "fp32"},
    }
    server.wait(server.queue({loader: graph[loader], "save": saving}))
    (saved,) = (server.workdir / "output").glob("blocks_of_the_demo*.safetensors")
    file = saved.rename(weights / saved.name)
    inputs = {"model": [loader, 0], "checkpoint": file.name, "strength": 1.0}
    graph["load"] = {"class_type": "MVDiffusionLoad", "inputs": inputs}
    sampler["inputs"]["model"] = ["load", 0]
    try:
        np.testing.assert_array_equal(pixels(server, server.wait(server.queue(graph))), quick_picture)
        inputs["strength"] = 0.0
        assert np.abs(pixels(server, server.wait(server.queue(graph))) - quick_picture).max() > 25
    finally:
        file.unlink()  # the server of the other tests has no weights


@pytest.mark.server
def test_without_weights_the_loader_says_where_they_come_from(server: comfy_host.Server):
    with pytest.raises(comfy_host.PromptError) as raised:
        server.queue(api_graph("text_to_panorama"))
    ((node_id, node),) = raised.value.answer["node_errors"].items()
    (error,) = node["errors"]
    assert node_id == "1"
    for part in ("'pano.ckpt'", "models/mvdiffusion", "github.com/Tangshitao/MVDiffusion", "Load Demo Model"):
        assert part in error["details"]


@pytest.mark.server
def test_template_browser_lists_every_graph(server: comfy_host.Server):
    assert sorted(server.get("workflow_templates")[ROOT.name]) == NAMES


@pytest.mark.server
@pytest.mark.parametrize("name", NAMES)
def test_template_browser_gets_graph_and_thumbnail(server: comfy_host.Server, name: str):
    for file in (f"{name}.json", f"{name}.jpg"):
        url = f"{server.url}/api/workflow_templates/{ROOT.name}/{file}"
        with comfy_host.LOCAL.open(url) as answer:
            assert answer.read() == (FOLDER / file).read_bytes()
