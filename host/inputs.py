"""What a UNet that takes images is fed beside the latents: given pictures and masks, view by view.

The host's InpaintModelConditioning puts both into the conditionings: latents (rows, 4, h, w), masks (rows, 1, H, W).
"""

from __future__ import annotations

import math

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..geometry.pictures import same_proportions
from ..geometry.scene import Scene
from .quirks import reads_negative

LATENTS, MASKS = "concat_latent_image", "concat_mask"  # the host's names


def repeat_given_images(conds: dict[str, list[dict]], views: int, batch: int) -> dict[str, list[dict]]:
    """A run's conditionings with the given images and masks of V views repeated for each panorama of the batch.

    The host repeats prompts and noise masks in their order, 0 1 2 3 0 1 2 3, but stretches these rows over the batch,
    0 0 1 1 2 2 3 3: with more than one panorama views would get pictures of other views. Rows of any other number than
    V stay as they are. Nothing given is changed, since its tensors are the user's.
    """
    panoramas = batch // views
    if panoramas == 1:
        return conds
    return {name: [_repeated(entry, views, panoramas) for entry in entries] for name, entries in conds.items()}


def mask_rows(mask: torch.Tensor) -> torch.Tensor:
    """(rows, 1, H, W) as the host reads a mask of (rows, 1, H, W), (rows, H, W) or (H, W)."""
    mask = mask[:, :1] if mask.ndim == 4 else mask
    return mask.reshape(-1, 1, *mask.shape[-2:])


def _repeated(entry: dict, views: int, panoramas: int) -> dict:
    rows = {key: entry[key] for key in (LATENTS, MASKS) if entry.get(key) is not None}
    if MASKS in rows:
        rows[MASKS] = mask_rows(rows[MASKS])
    return entry | {
        key: value.repeat(panoramas, *[1] * (value.ndim - 1)) for key, value in rows.items() if len(value) == views
    }


def check_given_images(guider, sampler, cameras: Scene, shape: torch.Size) -> None:
    """Raises ValueError for given images and masks of a run that do not fit cameras, latents of `shape`, or MODEL."""
    conds = guider.conds
    for name, entries in conds.items():
        for entry in entries or ():
            _check_given_images(name, entry, cameras, shape, guider.model_patcher)
    given = {name: any(LATENTS in entry for entry in entries or ()) for name, entries in conds.items()}
    if given.get("positive") != given.get("negative", given.get("positive")):
        missing = "negative" if given["positive"] else "positive"
        if missing == "negative" and math.isclose(guider.cfg, 1.0) and not reads_negative(guider, sampler):
            return
        raise ValueError(
            f"The {missing} conditioning holds no given images, and the other one does: connect {missing} of "
            "InpaintModelConditioning too."
        )


def _check_given_images(name: str, conditioning: dict, cameras: Scene, shape: torch.Size, model) -> None:
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
                f"The given images or masks in the {name} conditioning hold NaN or infinite numbers: fix the picture "
                "or the mask that goes into InpaintModelConditioning."
            )
    if mask is not None and not mask.any():
        raise ValueError(
            f"The masks in the {name} conditioning are 0 everywhere, so everything is given and nothing left to "
            "generate: paint a mask, or use that of Source Image to Views."
        )


def takes_more_than_latents(model) -> bool:
    """Whether a MODEL's UNet is fed depth or given images beside the latents."""
    unet, latents = model.get_model_object("diffusion_model"), model.get_model_object("latent_format").latent_channels
    return isinstance(unet, UNetModel) and unet.in_channels > latents  # others count patches of latents


def _check_takes_images(name: str, model) -> None:
    unet, latent_format = model.get_model_object("diffusion_model"), model.get_model_object("latent_format")
    # Latents, mask and latents of what is given; 5 channels are the depth weights', whose fifth is depth.
    latents = latent_format.latent_channels
    if isinstance(unet, UNetModel) and unet.in_channels <= latents + 1:
        load = "Load the authors' pano_outpaint.ckpt (its UNet, or an SD 2 inpainting MODEL, has 9), or use"
        remedy = load if unet.in_channels == latents else "Use"
        raise ValueError(
            f"The {name} conditioning holds given images (InpaintModelConditioning), but this MODEL's UNet has "
            f"{unet.in_channels} input channels and would ignore them. {remedy} Set Latent Noise Mask in "
            "place of InpaintModelConditioning."
        )


def _check_given_latents(name: str, latents: torch.Tensor, cameras: Scene, shape: torch.Size) -> None:
    rows, views, batch = latents.shape[0], cameras.views, shape[0]
    if rows == 1 < views:
        raise ValueError(
            f"The {name} conditioning holds 1 given image for {views} cameras: put Source Image to Views, which makes "
            "one picture per view, before InpaintModelConditioning."
        )
    _check_rows(name, "given images", rows, views, batch)
    if latents.shape[1] != shape[1]:
        raise ValueError(
            f"The given images in the {name} conditioning are latents of {latents.shape[1]} channels, and this MODEL's "
            f"have {shape[1]}: use the VAE that was loaded with it."
        )
    if latents.shape[2:] != shape[2:]:
        height, width = (
            given * side // latent
            for given, side, latent in zip(latents.shape[2:], (cameras.height, cameras.width), shape[2:], strict=True)
        )
        raise ValueError(
            f"The given images in the {name} conditioning are {width} x {height} pixels, and the cameras' views "
            f"{cameras.width} x {cameras.height}: use the same cameras in Source Image to Views."
        )


def _check_given_masks(name: str, masks: torch.Tensor, cameras: Scene, batch: int) -> None:
    rows, _, height, width = masks.shape
    if rows > 1:
        _check_rows(name, "masks", rows, cameras.views, batch)
    if not same_proportions(width, height, cameras):  # the host would crop it
        raise ValueError(
            f"The masks in the {name} conditioning are {width} x {height} pixels, and the views are {cameras.width} x "
            f"{cameras.height}: they need the views' proportions. Use the masks of Source Image to Views."
        )


def _check_rows(name: str, what: str, rows: int, views: int, batch: int) -> None:
    """Raises ValueError unless there is one row per view, or one per view of each panorama."""
    if rows in (views, batch):
        return
    if rows % views:
        raise ValueError(
            f"The {name} conditioning holds {rows} {what}, and there are {views} cameras: use the same cameras in "
            "Source Image to Views."
        )
    raise ValueError(
        f"The {name} conditioning holds the {what} of {rows // views} panoramas, and {batch // views} "
        f"{'is' if batch == views else 'are'} sampled: set "
        f"panoramas to {rows // views}, or give the pictures of one."
    )
