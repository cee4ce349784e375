"""What must hold before a run over cameras starts; every message names the node, the value and what would be right."""

from __future__ import annotations

import torch

from ..caa.kinds import DEPTH, Kind
from ..geometry.cameras import Cameras


def check_run(setup, kind: Kind | None, guider, noise: torch.Tensor, latent_image: torch.Tensor) -> None:
    """Raises ValueError for the first thing that would make the run fail or lie, before any model is loaded.

    `kind` is that of the MODEL's CAA weights, None without any.
    """
    if setup.cameras is None:
        raise ValueError(
            "This MODEL holds MVDiffusion's blocks but no cameras: put Apply Cameras between Load MVDiffusion and the "
            "sampler, or sample it with Multi-View KSampler."
        )
    check_cameras(setup.cameras)
    if kind is DEPTH:
        raise ValueError(
            "This MODEL holds depth weights, which need a depth map per view, and Panorama Cameras have none: load "
            "panorama or outpainting weights."
        )
    ratio = getattr(guider.model_patcher.get_model_object("latent_format"), "spacial_downscale_ratio", 8)
    _check_latents(setup.cameras, noise, ratio)
    if not torch.isfinite(latent_image).all():
        raise ValueError("Apply Cameras: the LATENT to be sampled holds NaN or infinite numbers.")
    if guider.model_options.get("context_handler") is not None:
        raise ValueError(
            "Context Windows cannot be combined with Apply Cameras: they would tear the views of one scene apart. "
            "Remove the Context Windows node from this MODEL."
        )
    for name, conditionings in guider.conds.items():
        for conditioning in conditionings or ():
            _check_conditioning(name, conditioning, setup.cameras.views, noise.shape[0])


def check_cameras(cameras: Cameras) -> None:
    """Raises ValueError for cameras that can cut pictures but not be sampled."""
    if not cameras.rings:
        raise ValueError("These cameras have no neighbours: they can cut pictures (Equirect to Views), not be sampled.")
    if cameras.width % 64 or cameras.height % 64:
        raise ValueError(
            f"Panorama Cameras: views that are sampled need a width and a height that are multiples of 64, not "
            f"{cameras.width} x {cameras.height}."
        )


def _check_latents(cameras: Cameras, noise: torch.Tensor, ratio: int) -> None:
    height, width = cameras.height // ratio, cameras.width // ratio
    if noise.ndim != 4 or noise.shape[2:] != (height, width):
        raise ValueError(
            f"Apply Cameras: the LATENT is {tuple(noise.shape)}, but cameras of {cameras.width} x {cameras.height} "
            f"pixels need (views, channels, {height}, {width}): use the LATENT of Apply Cameras, or encode images "
            "of the cameras' size."
        )
    if noise.shape[0] % cameras.views:
        raise ValueError(
            f"Apply Cameras: the LATENT holds {noise.shape[0]} views, which is no multiple of the {cameras.views} "
            "cameras: it needs one latent per view, panorama by panorama."
        )


def _check_conditioning(name: str, conditioning: dict, views: int, batch: int) -> None:
    if conditioning.get("area") is not None:
        raise ValueError(
            f"The {name} conditioning has an area (Conditioning Set Area): it would crop the views, and cropped views "
            "do not correspond. Use a mask (Conditioning Set Mask) or a prompt per view."
        )
    text = conditioning.get("cross_attn")
    if text is not None and text.shape[0] not in (1, views, batch):
        raise ValueError(
            f"The {name} conditioning holds {text.shape[0]} prompts: {views} cameras and a batch of {batch} need 1, "
            f"{views} or {batch}. Write that many lines into Multi-View Text Encode."
        )
