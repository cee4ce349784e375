"""Bases as the host builds them, small and with random weights; the demo's CLIP and VAE fit SD 1.5 and SDXL."""

from __future__ import annotations

import torch

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


def base(name: str, in_channels: int = 4, **changes):
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
    return _patcher(name, unet)


def transformer(name: str):
    """A ModelPatcher of a base in TRANSFORMERS: latents of 16 channels, of QwenImage with an axis of frames."""
    import comfy.ldm.flux.model

    known = comfy.ldm.flux.model.FluxParams.__dataclass_fields__
    unet = dict(TRANSFORMERS[name])
    if name == "Flux" and "txt_ids_dims" not in known:  # 0.3.64
        del unet["txt_ids_dims"]
    return _patcher(name, unet)


def _patcher(name: str, unet: dict):
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, name)(unet)
    config.unet_config = unet
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    for weight in model.diffusion_model.parameters():
        scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
        weight.data = torch.randn(weight.shape, generator=generator) * scale + (weight.ndim == 1)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
