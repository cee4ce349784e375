"""The graphs that train, on a real server: queued, stopped in the middle, queued again."""

from __future__ import annotations

import json
import shutil

import comfy_host
import pytest
from in_process import ROOT
from PIL import Image

pytestmark = pytest.mark.server


def api_graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def inputs_of(graph: dict, class_type: str) -> dict:
    (found,) = [node["inputs"] for node in graph.values() if node["class_type"] == class_type]
    return found


@pytest.fixture
def runs(server: comfy_host.Server):
    """The folder of all runs, empty before and after."""
    folder = server.workdir / "output" / "mvdiffusion" / "training"
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def losses(folder) -> list[float]:
    (state,) = folder.glob("step_*/state.json")
    return json.loads(state.read_text(encoding="utf-8"))["losses"]


def test_demo_is_stopped_in_the_middle_and_goes_on(server: comfy_host.Server, runs):
    graph = api_graph("demo_train")
    train = inputs_of(graph, "MVDiffusionTrain")
    train["steps"] = 4
    inputs_of(graph, "MVDiffusionKSampler")["steps"] = 2
    events = []

    def on_event(event: dict) -> None:
        events.append(event["type"])
        if event["type"] == "progress" and event["data"]["node"] == "3" and event["data"]["value"] == 2:
            server.interrupt()

    with pytest.raises(comfy_host.ExecutionError, match="interrupted"):
        server.wait(server.queue(graph), on_event)
    (state,) = (runs / "demo").iterdir()
    assert state.name in ("step_00000002", "step_00000003")
    stopped = losses(runs / "demo")

    entry = server.wait(server.queue(graph))
    assert losses(runs / "demo")[: len(stopped)] == stopped and len(losses(runs / "demo")) == 4
    (saved,) = [output["text"] for output in entry["outputs"].values() if "demo_blocks" in str(output.get("text"))]
    assert saved[0].endswith(".safetensors")
    images = [output for output in entry["outputs"].values() if output.get("images")]
    assert len(images) == 4  # the loss curve, both panoramas, and the worst pair

    whole = api_graph("demo_train")
    inputs_of(whole, "MVDiffusionTrain").update(steps=4, run="whole")
    server.wait(server.queue({key: whole[key] for key in ("1", "2", "3")}))
    assert losses(runs / "whole") == losses(runs / "demo")


def test_own_panoramas_by_the_hosts_dataset_node(server: comfy_host.Server, runs):
    if not server.get("object_info/LoadImageTextDataSetFromFolder"):
        pytest.skip("this ComfyUI has no Load Image-Text (from Folder)")
    folder = server.workdir / "input" / "panoramas"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (128, 64), (80 * number, 99, 200)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("\n".join(f"view {view}" for view in range(8)))
    graph = api_graph("train_panorama")
    graph["1"] = {"class_type": "MVDiffusionLoadDemo", "inputs": {"kind": "panorama"}}
    inputs_of(graph, "MVDiffusionPanoramaCameras").update(width=64, height=64)
    inputs_of(graph, "MVDiffusionTrain").update(steps=2, dtype="fp32", run="own", validate_every=0)
    inputs_of(graph, "MVDiffusionKSampler")["steps"] = 2
    inputs_of(graph, "MVDiffusionStitchEquirect")["width"] = 512
    entry = server.wait(server.queue(graph))
    assert len(losses(runs / "own")) == 2
    assert len([output for output in entry["outputs"].values() if output.get("images")]) == 4
