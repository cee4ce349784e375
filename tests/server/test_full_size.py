"""Stable Diffusion 2 at its real size, with random weights, through the real server."""

from __future__ import annotations

import io

import comfy_host
import numpy as np
import pytest
import torch
from in_process import ROOT
from PIL import Image
from published_files import full_size_weights, write_published
from safetensors.torch import save_file

pytestmark = [pytest.mark.host, pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(comfy, tmp_path_factory):
    """A server with the authors' file in models/mvdiffusion and the same SD 2 as a checkpoint of its own."""
    from mvdiffusion_pack.caa.weights.tensor_files import TensorFile
    from mvdiffusion_pack.host import loading

    workdir = tmp_path_factory.mktemp("full_size")
    authors = workdir / "models" / "mvdiffusion" / "pano.ckpt"
    checkpoint = workdir / "models" / "checkpoints" / "sd2.safetensors"
    for path in (authors, checkpoint):
        path.parent.mkdir(parents=True)
    write_published(authors, full_size_weights("pano_sd2", torch.float16))
    host_names = loading._host_state_dict(TensorFile(authors))
    save_file({key: tensor.contiguous().clone() for key, tensor in host_names.items()}, checkpoint)
    with comfy_host.Server(comfy_host.find_comfyui(ROOT), workdir=workdir) as server:
        yield server


def graph(loaders: dict) -> dict:
    """One step of eight 64 x 64 views; the last of `loaders` gives the MODEL, 'sd' CLIP (1) and VAE (2)."""
    text = {"clip": ["sd", 1], "cameras": ["cameras", 0], "prefix": ""}
    return loaders | {
        "cameras": node("PanoramaCameras", layout="ring", views=8, fov=90, width=64, height=64, start_yaw=0, pitch=0),
        "positive": node("TextEncode", text="a room", **text),
        "negative": node("TextEncode", text="", **text),
        "sampler": node(
            "KSampler",
            model=[list(loaders)[-1], 0],
            cameras=["cameras", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            seed=1,
            steps=1,
            cfg=1.0,
            sampler_name="ddim",
            scheduler="ddim_uniform",
            denoise=1.0,
            panoramas=1,
        ),
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["sd", 2]}},
        "stitch": node("StitchEquirect", images=["decode", 0], cameras=["cameras", 0], width=512, blend="feather"),
        "save": {"class_type": "SaveImage", "inputs": {"images": ["stitch", 0], "filename_prefix": "full"}},
    }


def node(name: str, **inputs) -> dict:
    return {"class_type": f"MVDiffusion{name}", "inputs": inputs}


def picture(server, loaders: dict) -> np.ndarray:
    entry = server.wait(server.queue(graph(loaders)), timeout=900)
    (image,) = entry["outputs"]["save"]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(**image))).convert("RGB"), dtype=float)


def test_own_checkpoint_and_authors_file_give_one_picture(server):
    own = {
        "sd": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd2.safetensors"}},
        "model": node("Load", model=["sd", 0], checkpoint="pano.ckpt", strength=1.0),
    }
    loaded = node("LoadCheckpoint", checkpoint="pano.ckpt", strength=1.0)
    from_own, from_authors = picture(server, own), picture(server, {"sd": loaded})
    assert from_own.shape == (256, 512, 3)
    assert from_own[100:156].std() > 1
    np.testing.assert_array_equal(from_own, from_authors)
    own["model"]["inputs"]["strength"] = 0.0
    assert np.abs(picture(server, own) - from_own).max() > 1
