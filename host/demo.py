"""The demo model: a small MODEL, CLIP and VAE of the host's own classes, so that every graph runs with no download.

The structures are Stable Diffusion 2's with fewer channels, and every node of the host takes them for that. Their
weights were trained on rendered rooms (scripts/train_demo.py, docs/demo_model.md) and lie in the pack's folder `demo`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from safetensors.torch import load_file

from ..caa.weights.checkpoint import CAAWeights, read_caa
from ..caa.weights.kinds import KINDS, Kind
from .demo_text import text_target, text_weights
from .quirks import is_dynamic, patcher_class, without_dynamic

FOLDER = Path(__file__).resolve().parent.parent / "demo"


def demo_models(kind: Kind) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """The MODEL, without blocks, the CLIP and the VAE of the demo model of a kind."""
    model, clip, vae = _unet(kind), _clip(), _vae()
    for i, patcher in enumerate((model, clip.patcher, vae.patcher)):
        # From here 0.33 makes the copies that it needs for a second GPU or without dynamic VRAM; 0.8 ignores it.
        patcher.cached_patcher_init = (_patchers, (kind.name,), i)
    return model, clip, vae


def demo_blocks(kind: Kind) -> CAAWeights:
    """The blocks that belong to it."""
    return read_caa(FOLDER / f"{kind.name}.safetensors")


@functools.cache
def about() -> dict:
    """How the demo model is built: arguments of the host's classes, as its training wrote them."""
    return json.loads((FOLDER / "demo.json").read_text(encoding="utf-8"))


def _unet(kind: Kind, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The MODEL: the host's SD 2 (epsilon prediction; with more than 4 channels its inpainting model)."""
    management = comfy.model_management
    structure = about()["unet"] | {"in_channels": kind.in_channels}
    config = comfy.supported_models.SD20(structure)
    config.unet_config["num_head_channels"] = structure["num_head_channels"]  # the host has just put SD 2's 64 here
    device, supported = management.get_torch_device(), config.supported_inference_dtypes
    dtype = management.unet_dtype(supported_dtypes=supported)
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    # Without a state dict the host cannot mistake the weights for those of a v-prediction model.
    model = config.get_model({}, device=management.unet_offload_device())
    made = patcher_class(disable_dynamic)
    patcher = made(model, load_device=device, offload_device=management.unet_offload_device())
    model.diffusion_model.load_state_dict(_unet_weights(kind), assign=is_dynamic(patcher))
    return patcher


def _unet_weights(kind: Kind) -> dict[str, torch.Tensor]:
    """All kinds share one UNet but for its first convolution, of which each has its own."""
    weights = load_file(FOLDER / "unet.safetensors")
    first = f"first.{kind.name}."
    own = {f"input_blocks.0.0.{key.removeprefix(first)}": weights[key] for key in weights if key.startswith(first)}
    return {key: value for key, value in weights.items() if not key.startswith("first.")} | own


def _clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The CLIP: SD 2's tokenizer and text model (its second last layer is read), narrower."""
    weights, sizes = load_file(FOLDER / "text.safetensors"), about()["text"]
    options = {
        "clip_h_model_config": {
            "hidden_size": sizes["width"],
            "intermediate_size": 4 * sizes["width"],
            "num_attention_heads": sizes["heads"],
            "num_hidden_layers": sizes["layers"] + 1,
        },
        # Made on the CPU: elsewhere the host may load the model to its device before it has weights.
        "initial_device": torch.device("cpu"),
    }
    clip = comfy.sd.CLIP(text_target(weights), model_options=options, **without_dynamic(disable_dynamic))
    clip.load_sd(text_weights(weights, sizes["layers"]), full_model=True)
    return clip


def _vae() -> comfy.sd.VAE:
    """The VAE: the host's AutoencoderKL, 8 x smaller latents of 4 channels."""
    weights = {key: value.float() for key, value in load_file(FOLDER / "autoencoder.safetensors").items()}
    return comfy.sd.VAE(sd=weights, config={"params": about()["autoencoder"]})


def _patchers(name: str, disable_dynamic: bool = False) -> list[comfy.model_patcher.ModelPatcher]:
    """Fresh patchers of MODEL, CLIP and VAE, in this order."""
    return [_unet(KINDS[name], disable_dynamic), _clip(disable_dynamic).patcher, _vae().patcher]
