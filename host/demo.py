"""Demo models: a small MODEL, CLIP and VAE of the host's own classes, so that every graph runs with nothing downloaded.

The structures are Stable Diffusion 2's with fewer channels, and every node of the host takes them for that. Their
weights are drawn from a frozen random stream: pictures show that a graph works, not what a prompt asks for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import numpy as np
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from ..caa.weights.kinds import KINDS
from .quirks import has_bias, is_dynamic, patcher_class, without_dynamic
from .sd2 import narrower

UNET_WIDTH = 64  # 64, 128, 128, 128 over the four levels
HEAD_WIDTH = 32
CONTEXT_WIDTH = 64
SEED = 11

TEXT_CONFIG = {
    "hidden_size": CONTEXT_WIDTH,
    "intermediate_size": 4 * CONTEXT_WIDTH,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
}
VAE_CONFIG = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2, 2, 2],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
}


def demo_models(in_channels: int) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """The MODEL, CLIP and VAE of a demo model: 4 input channels for panorama, 9 for outpainting, 5 for depth.

    Raises ValueError for any other number of channels.
    """
    known = [kind.in_channels for kind in KINDS.values()]
    if in_channels not in known:
        raise ValueError(f"Demo models have {', '.join(map(str, known))} input channels, not {in_channels}.")
    model, clip, vae = _unet(in_channels), _clip(), _vae()
    for i, patcher in enumerate((model, clip.patcher, vae.patcher)):
        # From here 0.33 makes the copies that it needs for a second GPU or without dynamic VRAM; 0.8 ignores it.
        patcher.cached_patcher_init = (_patchers, (in_channels,), i)
    return model, clip, vae


def demo_unet_config(in_channels: int) -> dict:
    """Arguments of the host's UNetModel."""
    return narrower(UNET_WIDTH, CONTEXT_WIDTH, HEAD_WIDTH) | {"in_channels": in_channels}


def demo_weights(module: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The fp32 state dict of `module`, which is the demo model's part `name` ("unet4", "clip", "vae", ...).

    Each tensor comes from a random stream of its own, keyed by part and parameter, so that it is the same on every
    machine. Matrices and kernels keep a signal's size (divided by the root of their fan-in).
    """
    return {key: _draw(f"{name}.{key}", shape) for key, shape in _parameter_shapes(module)}


def _draw(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    stream = np.random.RandomState((zlib.crc32(key.encode()) + SEED) % 2**32)
    if len(shape) == 4 and shape[2:] == (3, 3) and key.startswith("vae.decoder"):
        # Kernels that only blur give smooth colours instead of noise in every pixel.
        blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
        values = stream.standard_normal((*shape[:2], 1, 1)) / shape[1] ** 0.5 * blur
    elif len(shape) > 1:
        values = stream.standard_normal(shape) / np.prod(shape[1:]) ** 0.5
    else:
        values = 0.1 * stream.standard_normal(shape) + key.endswith("weight")
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _parameter_shapes(module: torch.nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes of a state dict. With dynamic VRAM (0.33) a Linear has no weight before one is loaded."""
    for prefix, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear):
            yield f"{prefix}.weight", (layer.out_features, layer.in_features)
            if has_bias(layer):
                yield f"{prefix}.bias", (layer.out_features,)
        else:
            for key, parameter in layer.named_parameters(prefix, recurse=False):
                yield key, tuple(parameter.shape)


def _unet(in_channels: int, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The MODEL: the host's SD 2 (epsilon prediction; with more than 4 channels its inpainting model)."""
    management = comfy.model_management
    config = comfy.supported_models.SD20(demo_unet_config(in_channels))
    config.unet_config["num_head_channels"] = HEAD_WIDTH  # the host has just put SD 2's 64 here
    device, supported = management.get_torch_device(), config.supported_inference_dtypes
    dtype = management.unet_dtype(supported_dtypes=supported)
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    # Without a state dict the host cannot mistake random weights for those of a v-prediction model.
    model = config.get_model({}, device=management.unet_offload_device())

    made = patcher_class(disable_dynamic)
    patcher = made(model, load_device=device, offload_device=management.unet_offload_device())
    unet = model.diffusion_model
    unet.load_state_dict(demo_weights(unet, f"unet{in_channels}"), assign=is_dynamic(patcher))
    return patcher


def _clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The CLIP: SD 2's tokenizer and text model (its second last layer is read), narrower."""
    target = comfy.supported_models.SD20({}).clip_target()
    # Made on the CPU: elsewhere the host may load the model to its device before it has weights.
    options = {"clip_h_model_config": TEXT_CONFIG, "initial_device": torch.device("cpu")}
    clip = comfy.sd.CLIP(target, model_options=options, **without_dynamic(disable_dynamic))
    clip.load_sd(demo_weights(clip.cond_stage_model, "clip"), full_model=True)
    return clip


def _vae() -> comfy.sd.VAE:
    """The VAE: the host's AutoencoderKL, 8 x smaller latents of 4 channels."""
    with torch.device("meta"):
        structure = AutoencoderKL(**VAE_CONFIG)
    return comfy.sd.VAE(sd=demo_weights(structure, "vae"), config={"params": VAE_CONFIG})


def _patchers(in_channels: int, disable_dynamic: bool = False) -> list[comfy.model_patcher.ModelPatcher]:
    """Fresh patchers of MODEL, CLIP and VAE, in this order."""
    return [_unet(in_channels, disable_dynamic), _clip(disable_dynamic).patcher, _vae().patcher]
