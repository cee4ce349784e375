"""Stable Diffusion 2's UNet, as arguments of the host's UNetModel."""

from __future__ import annotations

SD2_UNET = {
    "image_size": 32,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": [2, 2, 2, 2],
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "num_head_channels": 64,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
    "legacy": False,
}


def narrower(width: int, context: int, head: int = 32) -> dict:
    """SD 2's structure with `width` channels at its first level and twice as many at the others."""
    sizes = {"model_channels": width, "channel_mult": (1, 2, 2, 2), "context_dim": context, "num_head_channels": head}
    return SD2_UNET | sizes
