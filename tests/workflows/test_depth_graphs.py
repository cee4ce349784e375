"""The graphs for depth sequences on a real server: what they make, and what they say when a file is missing."""

from __future__ import annotations

import io
import json

import comfy_host
import numpy as np
import pytest
from in_process import ROOT
from PIL import Image

pytestmark = pytest.mark.server
DEPTH_MODEL = "depth_anything_3_base.safetensors"


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def id_of(graph: dict, class_type: str, title: str | None = None) -> str:
    """The one node of a class (and title)."""
    (id,) = [
        id for id, node in graph.items() if node["class_type"] == class_type and title in (None, node["_meta"]["title"])
    ]
    return id


@pytest.fixture(scope="module")
def demo() -> dict:
    """The graph in a few steps: what is tested is how its parts fit together."""
    few = graph("demo_depth_to_multiview")
    for class_type in ("MVDiffusionKSampler", "MVDiffusionInterpolate"):
        few[id_of(few, class_type)]["inputs"]["steps"] = 3
    return few


@pytest.fixture(scope="module")
def outputs(server: comfy_host.Server, demo: dict) -> dict:
    """What a run of the demo graph left in the history."""
    return server.wait(server.queue(demo))["outputs"]


def pictures(server: comfy_host.Server, images: list[dict]) -> np.ndarray:
    """(N, h, w, 3) numbers 0..255."""
    return np.stack([np.asarray(Image.open(io.BytesIO(server.view(**image))).convert("RGB")) for image in images])


def test_demo_makes_key_frames(server, demo, outputs):
    keyframes = pictures(server, outputs[id_of(demo, "PreviewImage", "The key frames")]["images"])
    assert 4 <= len(keyframes) <= 8
    assert keyframes.shape[1:] == (128, 192, 3)
    assert keyframes.std(axis=(1, 2, 3)).min() > 5


def posed_views(outputs: dict, demo: dict):
    """The frames of the folder that the demo graph saved."""
    from pathlib import Path

    from mvdiffusion_pack.geometry.sequence.reading import read_frames

    (path,) = outputs[id_of(demo, "MVDiffusionSaveSequence")]["text"]
    return list(read_frames(Path(path)))


def test_demo_saves_all_frames_with_the_poses_of_the_sequence(demo, outputs):
    from mvdiffusion_pack.geometry.sequence.reading import read_frames

    saved, given = posed_views(outputs, demo), list(read_frames(ROOT / "scenes" / "demo"))
    assert [frame.name for frame in saved] == [frame.name for frame in given]
    for new, old in zip(saved, given, strict=True):
        assert np.array_equal(new.cam_to_world, old.cam_to_world)
        assert new.prompt == old.prompt.replace("blue walls", "green walls").replace("red bed", "blue bed")
        assert new.image.shape == (128, 192, 3) and float(new.image.std()) > 0.02


def test_demo_keeps_the_key_frames(server, demo, outputs):
    """Up to the rounding of two files, and of JPEG in one of them."""
    keyframes = pictures(server, outputs[id_of(demo, "PreviewImage", "The key frames")]["images"]) / 255
    first = np.asarray(posed_views(outputs, demo)[0].image)
    assert np.abs(first - keyframes[0]).mean() < 0.02


def test_demo_makes_a_video(server, demo, outputs):
    (video,) = outputs[id_of(demo, "SaveVideo")]["images"]
    assert len(server.view(**video)) > 10_000


def test_demo_measures_the_agreement(demo, outputs):
    lines = outputs[id_of(demo, "MVDiffusionOverlapPSNR")]["text"][0].splitlines()
    assert "dB" in lines[0]


def test_photos_ask_for_the_depth_model_alone(server: comfy_host.Server):
    if "DA3Inference" not in server.get("object_info"):
        pytest.skip("this ComfyUI has no Depth Anything 3: 0.33 does")
    prompt = graph("photos_to_restyled_scene")
    with pytest.raises(comfy_host.PromptError) as raised:
        server.queue(prompt)
    ((node_id, node),) = raised.value.answer["node_errors"].items()
    assert node_id == id_of(prompt, "LoadDA3Model")
    assert DEPTH_MODEL in node["errors"][0]["details"]


def test_without_weights_the_loader_names_the_depth_file(server: comfy_host.Server):
    with pytest.raises(comfy_host.PromptError) as raised:
        server.queue(graph("depth_to_multiview"))
    ((node_id, node),) = raised.value.answer["node_errors"].items()
    assert node_id == "1" and "'depth_gen.ckpt'" in node["errors"][0]["details"]
