"""Bases as the host builds them, small and with random weights; the demo's CLIP and VAE fit SD 1.5 and SDXL."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

UNETS = {
    "SD15": {
        "channel_mult": (1, 2, 2, 2),
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "use_linear_in_transformer": False,
        "num_heads": 2,
    },
    "SDXL": {
        "channel_mult": (1, 2, 4),  # the last level is wider than what it is fed, as SDXL's own
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_middle": 2,
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "use_linear_in_transformer": True,
        "num_head_channels": 32,
        "num_classes": "sequential",
        "adm_in_channels": 64 + 6 * 256,  # what the demo's CLIP pools, and six sizes
    },
}
TEXT, POOLED = 64, 64  # widths of what the transformers are told
TRANSFORMERS = {
    "SD3": {
        "in_channels": 16,
        "patch_size": 2,
        "depth": 2,  # heads, too, 64 wide
        "input_size": None,
        "adm_in_channels": POOLED,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": TEXT, "out_features": 128},
        },
        "num_patches": 64,
        "pos_embed_max_size": 8,
        "pos_embed_scaling_factor": None,
    },
    "Flux": {
        "image_model": "flux",
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": POOLED,
        "context_in_dim": TEXT,
        "hidden_size": 64,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [8, 12, 12],
        "theta": 10000,
        "patch_size": 2,
        "qkv_bias": True,
        "guidance_embed": True,
        "txt_ids_dims": [],
    },
    "QwenImage": {
        "image_model": "qwen_image",
        "num_layers": 1,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT,
        "axes_dims_rope": (8, 12, 12),
    },
}
# What the host takes as given when it knows a base by a file's names and shapes: SD 1.5 and SDXL begin 320 wide, and
# Qwen-Image is 3072 wide throughout. SDXL's transformers are as deep as Segmind Vega's, which it knows as an SDXL.
AS_FILES = {
    "SD15": {
        "model_channels": 320,
        "channel_mult": (1, 1),
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
        "context_dim": 768,
        "num_heads": 8,
    },
    "SDXL": {
        "model_channels": 320,
        "channel_mult": (1, 1, 1),
        "transformer_depth_output": [0] * 9,
        "context_dim": 2048,
        "adm_in_channels": 2816,
        "num_head_channels": 64,
    },
    "SD3": {},
    "Flux": {"hidden_size": 128, "num_heads": 1, "axes_dim": [16, 56, 56], "mlp_ratio": 4.0},
    "QwenImage": {
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "axes_dims_rope": (16, 56, 56),
    },
}


def base(name: str, in_channels: int = 4, dtype: torch.dtype = torch.float32, **changes):
    """A ModelPatcher of a base in UNETS."""
    unet = {
        "image_size": 32,
        "in_channels": in_channels,
        "out_channels": 4,
        "model_channels": 32,
        "use_spatial_transformer": True,
        "context_dim": 64,
        "legacy": False,
        **UNETS[name],
        **changes,
    }
    return _patcher(name, unet, dtype)


def transformer(name: str, dtype: torch.dtype = torch.float32, **changes):
    """A ModelPatcher of a base in TRANSFORMERS: latents of 16 channels, of QwenImage with an axis of frames."""
    import comfy.ldm.flux.model

    known = comfy.ldm.flux.model.FluxParams.__dataclass_fields__
    unet = TRANSFORMERS[name] | changes
    if name == "Flux" and "txt_ids_dims" not in known:  # 0.3.64
        del unet["txt_ids_dims"]
    return _patcher(name, unet, dtype)


def write(name: str, path: Path) -> bool:
    """Writes a base in AS_FILES for the host's Load Diffusion Model, in fp16. Returns whether the host knows it again.

    Flux it knows at its full width alone before 0.33.
    """
    import comfy.model_detection
    import comfy.supported_models

    model = (base if name in UNETS else transformer)(name, dtype=torch.float16, **AS_FILES[name]).model
    state = model.diffusion_model.state_dict()
    save_file(state, path)
    found = comfy.model_detection.model_config_from_unet(state, "")
    widths = {key: AS_FILES[name][key] for key in ("hidden_size", "num_heads") if key in AS_FILES[name]}
    return isinstance(found, getattr(comfy.supported_models, name)) and widths.items() <= found.unet_config.items()


def _patcher(name: str, unet: dict, dtype: torch.dtype):
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, name)(unet)
    config.unet_config = unet
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    for weight in model.diffusion_model.state_dict().values():
        _fill(weight, generator)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _fill(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Normal numbers. After a prime number of them they come again: hundreds of millions take a while."""
    scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
    numbers = torch.randn(min(weight.numel(), 99_991), generator=generator) * scale + (weight.ndim == 1)
    for part in weight.view(-1).split(len(numbers)):
        part.copy_(numbers[: len(part)])
