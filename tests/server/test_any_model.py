"""Fuse Views on bases of several structures, loaded from files by the host's own node on a real server."""

from __future__ import annotations

import comfy_host
import pytest
import small_bases
import torch
from in_process import ROOT
from safetensors.torch import load

from mvdiffusion_pack.geometry.agreement import agreement
from mvdiffusion_pack.geometry.layouts import ring

pytestmark = [pytest.mark.host, pytest.mark.server]
READS = {"SD15": (768, 0), "SDXL": (2048, 1280), "SD3": (64, 64), "Flux": (64, 64), "QwenImage": (3584, 0)}
# Text encoders of these bases are too large for a test, so a node gives what they would: numbers, and pooled ones.
TEXT = "random_text"
PACK = """
import torch

class RandomText:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("INT", {"default": 0, "max": 4096}) for name in ("width", "pooled")}}

    def give(self, width, pooled):
        generator = torch.Generator().manual_seed(5)
        further = {"pooled_output": torch.randn((1, pooled), generator=generator)} if pooled else {}
        return ([[torch.randn((1, 8, width), generator=generator), further]],)

NODE_CLASS_MAPPINGS = {"RandomText": RandomText}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("any_model")
    pack = workdir / "custom_nodes" / TEXT / "__init__.py"
    pack.parent.mkdir(parents=True)
    pack.write_text(PACK, encoding="utf-8")
    (workdir / "models" / "diffusion_models").mkdir(parents=True)
    both = ["--whitelist-custom-nodes", ROOT.name, TEXT]
    with comfy_host.Server(comfy_host.find_comfyui(ROOT), workdir=workdir, extra_args=both) as server:
        yield server


def graph(file: str, width: int, pooled: int) -> dict:
    """Three steps of four 64 x 64 views, each alone ("plain") and fused, up to their latents."""
    cameras = {"layout": "ring", "views": 4, "fov": 120, "width": 64, "height": 64, "start_yaw": 0, "pitch": 0}
    fusing = {"panoramas": 1, "strength": 1.0, "start": 0.0, "end": 1.0}
    nodes = {
        "model": node("UNETLoader", unet_name=file, weight_dtype="default"),
        "cameras": node("MVDiffusionPanoramaCameras", **cameras),
        "fuse": node("MVDiffusionFuse", model=["model", 0], cameras=["cameras", 0], **fusing),
        "text": node("RandomText", width=width, pooled=pooled),
    }
    for name, model in (("plain", "model"), ("fused", "fuse")):
        settings = {"seed": 1, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        links = {"model": [model, 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["fuse", 1]}
        nodes[f"{name} sampler"] = node("KSampler", **settings, **links)
        nodes[name] = node("SaveLatent", samples=[f"{name} sampler", 0], filename_prefix=name)
    return nodes


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def latents(server: comfy_host.Server, entry: dict, name: str) -> torch.Tensor:
    """(4, channels, 8, 8) what a run saved."""
    (file,) = entry["outputs"][name]["latents"]
    saved = load(server.view(**file))["latent_tensor"]
    return saved if saved.ndim == 4 else saved[:, :, 0]


# A block of Qwen-Image has 340 million weights at any width that the host takes.
@pytest.mark.parametrize("name", ["SD15", "SDXL", "SD3", "Flux", pytest.param("QwenImage", marks=pytest.mark.slow)])
def test_views_of_any_structure_agree(server: comfy_host.Server, name: str):
    path = server.workdir / "models" / "diffusion_models" / f"{name}.safetensors"
    if not small_bases.write(name, path):
        pytest.skip(f"this ComfyUI knows no {name} of small widths")
    entry = server.wait(server.queue(graph(path.name, *READS[name])))
    path.unlink()
    found = {}
    for way in ("plain", "fused"):
        made = latents(server, entry, way)
        assert torch.isfinite(made).all() and made.shape[0] == 4 and made.shape[-2:] == (8, 8)
        found[way] = agreement(made[:, :3].movedim(1, -1) / made.std(), ring(4, 120, 64, 64)).psnr
    assert found["fused"] > found["plain"] + 3
