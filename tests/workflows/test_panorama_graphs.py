"""The graphs that start from a panorama, on a real server: what they make of it."""

from __future__ import annotations

import io
import json

import av
import comfy_host
import numpy as np
import pytest
import torch
from in_process import ROOT
from PIL import Image
from workflows.conftest import example_panorama

pytestmark = pytest.mark.server
FRAMES = 24  # a quarter of what the graph has


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def node(graph: dict, class_type: str, title: str = "") -> str:
    """The id of the one node of a class, with this in its title."""
    (found,) = [
        id for id, node in graph.items() if node["class_type"] == class_type and title in node["_meta"]["title"]
    ]
    return found


def files(server: comfy_host.Server, entry: dict, node_id: str) -> list[bytes]:
    return [server.view(**file) for file in entry["outputs"][node_id]["images"]]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


@pytest.fixture(scope="module")
def flythrough(server: comfy_host.Server) -> tuple[np.ndarray, np.ndarray]:
    """The panorama of panorama_flythrough, and every second frame of its video with the first one again at the end."""
    prompt = graph("panorama_flythrough")
    (flight,) = [node["inputs"] for node in prompt.values() if node["inputs"].get("views") == 96]
    flight["views"] = FRAMES
    prompt[node(prompt, "MVDiffusionKSampler")]["inputs"]["steps"] = 4
    entry = server.wait(server.queue(prompt))
    (panorama,) = files(server, entry, node(prompt, "MVDiffusionPreviewPanorama"))
    (video,) = files(server, entry, node(prompt, "SaveVideo"))
    with av.open(io.BytesIO(video)) as container:
        assert container.streams.video[0].average_rate == 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == FRAMES
    return pixels(panorama), np.stack([*frames[::2], frames[0]]).astype(int)


def test_flythrough_is_a_video_of_1280_by_720(flythrough):
    assert flythrough[1].shape[1:] == (720, 1280, 3)


def test_flythrough_turns_once_around_to_the_right(flythrough):
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.geometry.panorama.equirect import equirect_to_views

    panorama, frames = flythrough
    views, _ = equirect_to_views(torch.from_numpy(panorama)[None] / 255, ring(FRAMES // 2, 90, 1280, 720))
    differences = np.abs(frames[:-1] - 255 * views.numpy()).mean(axis=(1, 2, 3))
    assert differences.max() < 6  # of 255: the video is compressed
    other_way = np.abs(frames[1] - 255 * views[-1].numpy()).mean()
    assert other_way > 20


@pytest.fixture(scope="module")
def refined(server: comfy_host.Server) -> dict[float, np.ndarray]:
    """What refine_panorama makes of the example panorama at two strengths; of a demo model, which needs no weights."""
    prompt = graph("refine_panorama")
    loader = node(prompt, "MVDiffusionLoadCheckpoint")
    prompt[loader] |= {"class_type": "MVDiffusionLoadDemo", "inputs": {"kind": "panorama"}}
    prompt[node(prompt, "MVDiffusionPanoramaCameras")]["inputs"] |= {"width": 128, "height": 128}
    sampler = prompt[node(prompt, "MVDiffusionKSampler")]["inputs"]
    assert sampler["denoise"] == 0.4
    pictures = {}
    for sampler["steps"], sampler["denoise"] in ((4, 0.1), (4, 0.4)):
        entry = server.wait(server.queue(prompt))
        (file,) = files(server, entry, node(prompt, "MVDiffusionSavePanorama"))
        pictures[sampler["denoise"]] = pixels(file)
    return pictures


def test_refined_panorama_has_the_native_width_of_the_upscaled_views(refined):
    # Two pi times the focal length: views 128 pixels and 90 degrees wide, twice as large.
    assert refined[0.4].shape == (403, 806, 3)


def test_refined_panorama_keeps_the_poles_of_the_original(refined):
    original = np.asarray(Image.fromarray(example_panorama()).resize((806, 403), Image.Resampling.BILINEAR), dtype=int)
    for picture in refined.values():
        for rows in (slice(0, 90), slice(-90, None)):
            assert np.abs(picture[rows] - original[rows]).mean() < 3


def test_where_views_look_denoise_decides_what_is_painted(refined):
    assert np.abs(refined[0.1][150:250] - refined[0.4][150:250]).mean() > 3
