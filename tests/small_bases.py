"""SD 1.5 and SDXL as the host builds them, with fewer channels and random weights; the demo's CLIP and VAE fit them."""

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


def base(name: str, in_channels: int = 4, **changes):
    """A ModelPatcher of a base in UNETS."""
    import comfy.model_patcher
    import comfy.supported_models

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
