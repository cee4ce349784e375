"""What conditionings hold for each view: prompts, masks, and the hints of ControlNets. All of it is counted.

The host never refuses a number: it leaves out what is too much and begins again where something is missing, so that
views would get what was made for others. Given images are in inputs.py.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.controlnet import ControlLora

from ..geometry.pictures import same_proportions
from ..geometry.scene import Scene
from .inputs import mask_rows, takes_more_than_latents

# By the kind of scene: what would be right for pictures and masks that do not fit the views.
ONE_EACH = {
    "panorama": "cut a panorama with Equirect to Views and the same cameras",
    "sequence": "make one for all views, or one per view",
}
TEXTS = {  # the host's names; those of ControlNets are CLIP Text Encode ControlNet's
    "cross_attn": "prompts",
    "pooled_output": "pooled prompts",
    "cross_attn_controlnet": "ControlNet prompts",
    "pooled_output_controlnet": "pooled ControlNet prompts",
}


def check_conditionings(guider, cameras: Scene, batch: int, windows: bool) -> None:
    """Raises ValueError for anything in a run's conditionings that does not fit its views.

    batch: P x V. windows: whether the views are denoised in several windows.
    """
    width = _context_width(guider.model_patcher)
    for name, entries in guider.conds.items():
        for entry in entries or ():
            _check_area(name, entry)
            _check_texts(name, entry, cameras.views, batch, width)
            _check_masks(name, entry.get("mask"), cameras, batch)
            _check_controls(name, entry.get("control"), cameras, batch, guider.model_patcher)
            _check_vision(name, entry)
            if windows and entry.get("gligen") is not None:
                raise ValueError(
                    f"The {name} conditioning holds places of things (GLIGEN), which the windows of a depth sequence "
                    "cannot share: remove them, or set window to 0 in Multi-View KSampler."
                )


def _check_area(name: str, conditioning: dict) -> None:
    bounds = conditioning.get("set_area_to_bounds") and conditioning.get("mask") is not None
    if conditioning.get("area") is not None or bounds:
        node = "Conditioning Set Mask with 'mask bounds'" if bounds else "Conditioning Set Area"
        raise ValueError(
            f"The {name} conditioning has an area ({node}): it would crop the views, and cropped views do not "
            "correspond. Use Conditioning Set Mask with set_cond_area 'default', or a prompt per view."
        )


def _check_texts(name: str, conditioning: dict, views: int, batch: int, context_width: int | None) -> None:
    for key, what in TEXTS.items():
        text = conditioning.get(key)
        if text is not None and text.shape[0] not in (1, views, batch):
            needed = " or ".join(map(str, sorted({1, views, batch})))
            raise ValueError(
                f"The {name} conditioning holds {text.shape[0]} {what}: {views} cameras and a batch of {batch} need "
                f"{needed}. Write that many lines into Multi-View Text Encode."
            )
    text = conditioning.get("cross_attn")
    if text is None:
        return
    if context_width is not None and text.shape[2] != context_width:
        raise ValueError(
            f"The {name} conditioning is {text.shape[2]} wide and this MODEL takes {context_width}: it comes from the "
            "CLIP of another model. Connect the CLIP that was loaded with this MODEL."
        )
    if not torch.isfinite(text).all():
        raise ValueError(f"The {name} conditioning holds NaN or infinite numbers: fix the node that it comes from.")


def _context_width(model) -> int | None:
    """How wide the UNet takes text; None where the MODEL's configuration does not say."""
    return model.model.model_config.unet_config.get("context_dim")


def _check_masks(name: str, masks: torch.Tensor | None, cameras: Scene, batch: int) -> None:
    if masks is not None:
        rows = mask_rows(masks)
        _check_proportions(name, "masks (Conditioning Set Mask)", rows, cameras)
        _check_count(name, "masks (Conditioning Set Mask)", rows, cameras, batch)


def _check_controls(name: str, control: Any, cameras: Scene, batch: int, model) -> None:
    """The host's ControlNet, Control-LoRA or T2I-Adapter, and the ones before it."""
    while control is not None:
        if isinstance(control, ControlLora) and takes_more_than_latents(model):
            raise ValueError(
                f"The {name} conditioning holds a Control-LoRA, which has this MODEL's first layer, and that takes "
                "depth or given images beside the latents: use a ControlNet, which has its own."
            )
        if isinstance(control.cond_hint_original, torch.Tensor):
            _check_hints(name, control, cameras, batch)
        control = control.previous_controlnet


def _check_hints(name: str, control: Any, cameras: Scene, batch: int) -> None:
    hints = control.cond_hint_original
    _check_proportions(name, "hints (Apply ControlNet)", hints, cameras)
    _check_count(name, "hints (Apply ControlNet)", hints, cameras, batch)
    for masks in control.extra_concat_orig:
        _check_hint_masks(name, mask_rows(masks), len(hints), cameras)


def _check_hint_masks(name: str, masks: torch.Tensor, hints: int, cameras: Scene) -> None:
    """The masks of inpainting ControlNets. The host gives them the number of the hints."""
    if masks[0].numel() == 1:  # the host's own, where none is connected
        return
    _check_proportions(name, "masks of ControlNet hints", masks, cameras)
    if len(masks) not in (1, hints):
        raise ValueError(
            f"The {name} conditioning holds {len(masks)} masks for {hints} ControlNet hints: connect one, or one per "
            "hint."
        )


def _check_proportions(name: str, what: str, rows: torch.Tensor, cameras: Scene) -> None:
    """Raises ValueError for (rows, ..., h, w) that the host would crop or squeeze to the views' shape."""
    height, width = rows.shape[-2:]
    if not same_proportions(width, height, cameras):
        raise ValueError(
            f"The {name} conditioning holds {what} of {width} x {height} pixels, and the views are {cameras.width} x "
            f"{cameras.height}: they need the views' proportions; {ONE_EACH[cameras.kind]}."
        )


def _check_count(name: str, what: str, rows: torch.Tensor, cameras: Scene, batch: int) -> None:
    """Raises ValueError unless there is one for all views, one for each, or one for each of all panoramas."""
    counts = sorted({1, cameras.views, batch})
    if len(rows) not in counts:
        raise ValueError(
            f"The {name} conditioning holds {len(rows)} {what}, and {cameras.views} cameras need "
            f"{' or '.join(map(str, counts))}: {ONE_EACH[cameras.kind]}."
        )


def _check_vision(name: str, conditioning: dict) -> None:
    for picture in conditioning.get("unclip_conditioning") or ():
        rows = len(picture["clip_vision_output"].image_embeds)
        if rows > 1:
            raise ValueError(
                f"The {name} conditioning holds {rows} pictures in one unCLIP Conditioning, which ComfyUI would mix "
                "into one for all views, not give one to each: connect one picture."
            )
