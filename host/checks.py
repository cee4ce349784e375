"""What must hold before a run over cameras starts; every message names the node, the value and what would be right."""

from __future__ import annotations

import comfy.model_sampling
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..caa.kinds import DEPTH, Kind
from ..geometry.cameras import Cameras
from ..geometry.neighbours import views_alone
from .inputs import LATENTS, MASKS, mask_rows


def check_run(setup, kind: Kind | None, guider, noise: torch.Tensor, latent_image: torch.Tensor, mask) -> None:
    """Raises ValueError for the first thing that would make the run fail or lie, before any model is loaded.

    `kind` is that of the MODEL's CAA weights, None without any.
    """
    if setup.cameras is None:
        raise ValueError(
            "This MODEL holds MVDiffusion's blocks but no cameras: put Apply Cameras between Load MVDiffusion and the "
            "sampler, or sample it with Multi-View KSampler."
        )
    check_cameras(setup.cameras)
    if kind == DEPTH:
        raise ValueError(
            "This MODEL holds depth weights, which need a depth map per view, and Panorama Cameras have none: load "
            "panorama or outpainting weights."
        )
    ratio = getattr(guider.model_patcher.get_model_object("latent_format"), "spacial_downscale_ratio", 8)
    _check_latents(setup.cameras, noise, ratio)
    if not torch.isfinite(latent_image).all():
        raise ValueError("The LATENT to be sampled holds NaN or infinite numbers: mend the node that it comes from.")
    if mask is not None and not torch.isfinite(mask).all():
        raise ValueError(
            "The noise mask of the LATENT holds NaN or infinite numbers: mend the node that it comes from."
        )
    if kind is not None:
        check_prediction(guider.model_patcher)
        _check_one_gpu(guider.model_patcher)
    if guider.model_options.get("context_handler") is not None:
        raise ValueError(
            "Context Windows cannot be combined with Apply Cameras: they would tear the views of one scene apart. "
            "Remove the Context Windows node from this MODEL."
        )
    for name, conditionings in guider.conds.items():
        for conditioning in conditionings or ():
            _check_area(name, conditioning)
            _check_text(name, conditioning, setup.cameras.views, noise.shape[0], _context_width(guider.model_patcher))
            _check_given_images(name, conditioning, setup.cameras, noise.shape, guider.model_patcher)


def check_cameras(cameras: Cameras) -> None:
    """Raises ValueError for cameras that can cut pictures but not be sampled."""
    if not cameras.rings:
        raise ValueError(
            "These cameras have no neighbours (the faces of a cube do not overlap): they cut and join pictures, but "
            "cannot be sampled. Choose ring, sphere or rings in Panorama Cameras."
        )
    if alone := views_alone(cameras):
        raise ValueError(
            f"Panorama Cameras: {_named_views(alone)} of {cameras.views} overlap no neighbour and could not agree with "
            "it: use a larger fov, more views, or pitches that are closer together."
        )
    if cameras.width % 64 or cameras.height % 64:
        raise ValueError(
            f"Panorama Cameras: views that are sampled need a width and a height that are multiples of 64, not "
            f"{cameras.width} x {cameras.height}."
        )


def _named_views(views: list[int]) -> str:
    """'view 3', 'views 0, 1, 2', 'views 0, 1, 2, ... 95'."""
    names = [str(view) for view in views]
    if len(names) > 8:
        names = [*names[:3], f"... {names[-1]}"]
    return f"view{'s' * (len(views) > 1)} {', '.join(names)}"


def _check_latents(cameras: Cameras, noise: torch.Tensor, ratio: int) -> None:
    height, width = cameras.height // ratio, cameras.width // ratio
    if noise.ndim != 4 or noise.shape[2:] != (height, width):
        raise ValueError(
            f"The LATENT is {tuple(noise.shape)}, but cameras of {cameras.width} x {cameras.height} "
            f"pixels need (views, channels, {height}, {width}): use the LATENT of Apply Cameras, or encode images "
            "of the cameras' size."
        )
    if noise.shape[0] % cameras.views:
        raise ValueError(
            f"The LATENT holds {noise.shape[0]} views, which is no multiple of the {cameras.views} "
            "cameras: it needs one latent per view, panorama by panorama."
        )


def _check_area(name: str, conditioning: dict) -> None:
    bounds = conditioning.get("set_area_to_bounds") and conditioning.get("mask") is not None
    if conditioning.get("area") is not None or bounds:
        node = "Conditioning Set Mask with 'mask bounds'" if bounds else "Conditioning Set Area"
        raise ValueError(
            f"The {name} conditioning has an area ({node}): it would crop the views, and cropped views do not "
            "correspond. Use Conditioning Set Mask with set_cond_area 'default', or a prompt per view."
        )


def _check_text(name: str, conditioning: dict, views: int, batch: int, context_width: int | None) -> None:
    text = conditioning.get("cross_attn")
    if text is None:
        return
    if text.shape[0] not in (1, views, batch):
        raise ValueError(
            f"The {name} conditioning holds {text.shape[0]} prompts: {views} cameras and a batch of {batch} need 1, "
            f"{views} or {batch}. Write that many lines into Multi-View Text Encode."
        )
    if context_width is not None and text.shape[2] != context_width:
        raise ValueError(
            f"The {name} conditioning is {text.shape[2]} wide and this MODEL takes {context_width}: it comes from the "
            "CLIP of another model. Connect the CLIP that was loaded with this MODEL."
        )
    if not torch.isfinite(text).all():
        raise ValueError(f"The {name} conditioning holds NaN or infinite numbers: mend the node that it comes from.")


def _check_given_images(name: str, conditioning: dict, cameras: Cameras, shape: torch.Size, model) -> None:
    latents, mask = conditioning.get(LATENTS), conditioning.get(MASKS)
    if latents is None and mask is None:
        return
    _check_takes_images(name, model)
    if latents is not None:
        _check_given_latents(name, latents, cameras, shape)
    if mask is not None:
        _check_given_masks(name, mask_rows(mask), cameras, shape[0])
    for given in (latents, mask):
        if given is not None and not torch.isfinite(given).all():
            raise ValueError(
                f"The given images or masks in the {name} conditioning hold NaN or infinite numbers: mend the picture "
                "or the mask that InpaintModelConditioning gets."
            )


def _check_takes_images(name: str, model) -> None:
    unet, latent_format = model.get_model_object("diffusion_model"), model.get_model_object("latent_format")
    if isinstance(unet, UNetModel) and unet.in_channels == latent_format.latent_channels:
        raise ValueError(
            f"The {name} conditioning holds given images (InpaintModelConditioning), but this MODEL's UNet has "
            f"{unet.in_channels} input channels and would ignore them. Load the authors' pano_outpaint.ckpt (its UNet, "
            "or an SD 2 inpainting MODEL, has 9), or use Set Latent Noise Mask in place of InpaintModelConditioning."
        )


def _check_given_latents(name: str, latents: torch.Tensor, cameras: Cameras, shape: torch.Size) -> None:
    rows, views, batch = latents.shape[0], cameras.views, shape[0]
    if rows == 1 < views:
        raise ValueError(
            f"The {name} conditioning holds 1 given image for {views} cameras: put Source Image to Views, which makes "
            "one picture per view, before InpaintModelConditioning."
        )
    if rows not in (views, batch):
        raise ValueError(
            f"The {name} conditioning holds {rows} given images: {views} cameras and a batch of {batch} need {views} "
            f"or {batch}. Use the same cameras in Source Image to Views."
        )
    if latents.shape[1:] != shape[1:]:
        raise ValueError(
            f"The given images in the {name} conditioning are latents of {tuple(latents.shape[1:])}, but cameras of "
            f"{cameras.width} x {cameras.height} pixels need {tuple(shape[1:])}: use the same cameras in Source Image "
            "to Views, and the VAE that was loaded with this MODEL."
        )


def _check_given_masks(name: str, masks: torch.Tensor, cameras: Cameras, batch: int) -> None:
    rows, _, height, width = masks.shape
    if rows not in (1, cameras.views, batch):
        raise ValueError(
            f"The {name} conditioning holds {rows} masks: {cameras.views} cameras and a batch of {batch} need 1, "
            f"{cameras.views} or {batch}. Use the same cameras in Source Image to Views."
        )
    # The host would crop it.
    if width * cameras.height != height * cameras.width:
        raise ValueError(
            f"The masks in the {name} conditioning are {width} x {height} pixels, and the views are {cameras.width} x "
            f"{cameras.height}: they need the views' proportions. Use the masks of Source Image to Views."
        )


def _context_width(model) -> int | None:
    """How wide the UNet takes text; None where the MODEL's configuration does not say."""
    return model.model.model_config.unet_config.get("context_dim")


def _check_one_gpu(model) -> None:
    if model.get_additional_models_with_key("multigpu"):
        raise ValueError(
            "MVDiffusion's blocks run on one GPU, and this MODEL is split over several: remove the multi-GPU node."
        )


def check_prediction(model) -> None:
    """Raises ValueError for a MODEL that predicts v: the published weights predict the noise."""
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION):
        raise ValueError(
            "MVDiffusion's weights predict the noise (epsilon), and this MODEL predicts v (SD 2 768-v is such a "
            "model): load SD 2 512-base instead, or set ModelSamplingDiscrete to eps if ComfyUI guessed wrong."
        )
