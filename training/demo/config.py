"""The sizes of the demo model's parts, as arguments of the host's classes."""

from __future__ import annotations

SCALE = 0.18215  # of Stable Diffusion's latents: the UNet is fed the encoder's times this

TEXT = {"width": 64, "layers": 2, "heads": 2}  # the host's model has one layer more, which nobody reads

AUTOENCODER = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 3],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
}

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "channel_mult": [1, 1, 2],
    "num_res_blocks": [1, 1, 1],
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "num_head_channels": 32,
    "context_dim": TEXT["width"],
    "use_linear_in_transformer": True,
    "legacy": False,
}
