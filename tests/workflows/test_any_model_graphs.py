"""The graphs that make views agree without weights of their own, on a real server, with the demo model."""

from __future__ import annotations

import io
import json
import re

import comfy_host
import numpy as np
import pytest
import torch
from in_process import ROOT
from PIL import Image

pytestmark = pytest.mark.server
SMALL = {"width": 128, "height": 128}


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def node(graph: dict, class_type: str) -> str:
    """The id of the one node of a class."""
    (found,) = [id for id, node in graph.items() if node["class_type"] == class_type]
    return found


def views(server: comfy_host.Server, prompt: dict) -> torch.Tensor:
    """(V, h, w, 3) the views that a graph decodes, as its server shows them."""
    shown = {"class_type": "PreviewImage", "inputs": {"images": [node(prompt, "VAEDecode"), 0]}}
    entry = server.wait(server.queue(prompt | {"shown": shown}))
    pictures = [Image.open(io.BytesIO(server.view(**file))) for file in entry["outputs"]["shown"]["images"]]
    return torch.from_numpy(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])).float() / 255


def with_demo_model(prompt: dict, kind: str) -> dict:
    """The graph with the demo model, without its blocks, in place of the checkpoint, and small views."""
    loader = prompt[node(prompt, "CheckpointLoaderSimple")]
    loader |= {"class_type": "MVDiffusionLoadDemo", "inputs": {"kind": kind, "strength": 0.0}}
    prompt[node(prompt, "MVDiffusionKSampler")]["inputs"] |= {"steps": 8, "cfg": 3.0}
    return prompt


def decibels(images: torch.Tensor, cameras) -> float:
    from mvdiffusion_pack.geometry.agreement import agreement

    return agreement(images, cameras).psnr


@pytest.mark.parametrize("name", ["demo_fused_panorama", "any_model_panorama"])
def test_panoramas_agree_by_fusing(server: comfy_host.Server, name: str):
    from mvdiffusion_pack.geometry.layouts import ring

    prompt = graph(name)
    prompt[node(prompt, "MVDiffusionKSampler")]["inputs"]["steps"] = 8
    if name == "any_model_panorama":
        prompt = with_demo_model(prompt, "panorama")
        prompt[node(prompt, "MVDiffusionPanoramaCameras")]["inputs"] |= SMALL
    cameras, found = ring(8, 90, 128, 128), {}
    for strength in (0.0, 1.0):
        prompt[node(prompt, "MVDiffusionFuse")]["inputs"]["strength"] = strength
        found[strength] = decibels(views(server, prompt), cameras)
    assert found[1.0] > found[0.0] + 10


def decibels_said(outputs: dict, prompt: dict) -> float:
    """What Overlap PSNR shows of a run."""
    line = outputs[node(prompt, "MVDiffusionOverlapPSNR")]["text"][0].splitlines()[0]
    return float(re.search(r"([\d.]+) dB", line).group(1))


def test_demo_scene_agrees_by_fusing(server: comfy_host.Server):
    prompt, found = graph("demo_fused_scene"), {}
    prompt[node(prompt, "MVDiffusionKSampler")]["inputs"]["steps"] = 8
    for strength in (0.0, 1.0):
        prompt[node(prompt, "MVDiffusionFuse")]["inputs"]["strength"] = strength
        found[strength] = decibels_said(server.wait(server.queue(prompt))["outputs"], prompt)
    assert found[1.0] > found[0.0] + 8


def test_a_scene_agrees_by_fusing(server: comfy_host.Server):
    from mvdiffusion_pack.nodes.sequence import DepthCameras

    prompt = with_demo_model(graph("any_model_scene"), "depth")
    sampler = prompt[node(prompt, "MVDiffusionKSampler")]["inputs"]
    applied = prompt.pop(node(prompt, "ControlNetApplyAdvanced"))["inputs"]  # there is no ControlNet for the demo model
    sampler |= {"positive": applied["positive"], "negative": applied["negative"]}
    del prompt[node(prompt, "ControlNetLoader")]
    frames = prompt[node(prompt, "MVDiffusionDepthCameras")]["inputs"]
    frames |= {"max_frames": 4, **SMALL}
    cameras = DepthCameras.execute(**frames).args[0]
    found = {}
    for strength in (0.0, 1.0):
        prompt[node(prompt, "MVDiffusionFuse")]["inputs"]["strength"] = strength
        found[strength] = decibels(views(server, prompt), cameras)
    assert found[1.0] > found[0.0] + 5
