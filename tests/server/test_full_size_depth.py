"""The depth weights at Stable Diffusion 2's real size, random, through the real server: twelve key frames at once."""

from __future__ import annotations

import io

import comfy_host
import numpy as np
import pytest
import torch
from in_process import ROOT
from PIL import Image
from published_files import full_size_weights, write_published

pytestmark = [pytest.mark.host, pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(comfy, tmp_path_factory):
    """A server with the authors' depth file in models/mvdiffusion."""
    workdir = tmp_path_factory.mktemp("full_size_depth")
    authors = workdir / "models" / "mvdiffusion" / "depth_gen.ckpt"
    authors.parent.mkdir(parents=True)
    write_published(authors, full_size_weights("depth_sd2", torch.float16))
    with comfy_host.Server(comfy_host.find_comfyui(ROOT), workdir=workdir) as server:
        yield server


def node(name: str, **inputs) -> dict:
    return {"class_type": f"MVDiffusion{name}", "inputs": inputs}


def frames(server, prompts: str) -> np.ndarray:
    """(2, 64, 128, 3) numbers 0..255 of the middle ones of twelve frames of the demo sequence after one step.

    prompts: one for all frames, or one for each.
    """
    text = {"clip": ["model", 1], "cameras": ["cameras", 1], "prefix": ""}
    graph = {
        "model": node("LoadCheckpoint", checkpoint="depth_gen.ckpt", strength=1.0),
        "cameras": node(
            "DepthCameras",
            sequence="demo (in the pack)",
            start=0,
            stride=2,
            max_frames=12,
            width=128,
            height=64,
            min_overlap=0.3,
            keyframe_overlap=1.0,
        ),
        "positive": node("TextEncode", text=prompts, **text),
        "negative": node("TextEncode", text="", **text),
        "sampler": node(
            "KSampler",
            model=["model", 0],
            cameras=["cameras", 1],
            positive=["positive", 0],
            negative=["negative", 0],
            seed=1,
            steps=1,
            cfg=15.0,  # so that what the others are told shows after one step
            sampler_name="ddim",
            scheduler="ddim_uniform",
            denoise=1.0,
            panoramas=1,
        ),
        "some": {
            "class_type": "LatentFromBatch",
            "inputs": {"samples": ["sampler", 0], "batch_index": 5, "length": 2},
        },
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["some", 0], "vae": ["model", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "frames"}},
    }
    entry = server.wait(server.queue(graph), timeout=900)
    images = entry["outputs"]["save"]["images"]
    pictures = [Image.open(io.BytesIO(server.view(**image))).convert("RGB") for image in images]
    return np.stack([np.asarray(picture, dtype=float) for picture in pictures])


def test_twelve_views_are_denoised_together(server):
    together = frames(server, "a room")
    assert together.shape == (2, 64, 128, 3)
    assert together.std(axis=(1, 2, 3)).min() > 1
    others = "\n".join("a room" if frame in (5, 6) else "a garden with a tree" for frame in range(12))
    changed = np.abs(frames(server, others) - together).max(axis=(1, 2, 3))
    assert changed.min() > 1  # by the other views
