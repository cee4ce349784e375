"""What must hold before a run over cameras starts; every message names the node, the value and what would be right."""

from __future__ import annotations

import math

import comfy.model_sampling
import torch

from ..caa.weights.kinds import Kind
from ..geometry.input_error import counted
from ..geometry.pictures import same_proportions
from ..geometry.scene import Scene
from .conditionings import ONE_EACH, check_conditionings
from .inputs import check_given_images, takes_more_than_latents
from .quirks import holds_easy_cache, holds_perp_neg, holds_self_attention_guidance, pixels_per_latent
from .setup import Setup

# By the kind of scene.
NODE_OF = {"panorama": "Panorama Cameras", "sequence": "Depth Cameras"}
OTHER_SCENE = {
    "sequence": "which need a depth map per view, and Panorama Cameras have none: use Depth Cameras, or load panorama "
    "or outpainting weights",
    "panorama": "which know nothing of depth, and the cameras are Depth Cameras: load the authors' depth_gen.ckpt, "
    "or use Panorama Cameras",
}


def check_run(
    setup: Setup, kind: Kind | None, guider, sampler, noise: torch.Tensor, latent_image: torch.Tensor, mask
) -> None:
    """Raises ValueError for the first thing that would make the run fail or lie, before any model is loaded.

    `kind` is that of the MODEL's CAA weights, None without any.
    """
    if setup.cameras is None:
        raise ValueError(
            "This MODEL holds MVDiffusion's blocks but no cameras: put Apply Cameras between Load MVDiffusion and the "
            "sampler, or sample it with Multi-View KSampler."
        )
    check_cameras(setup.cameras)
    _check_kind(kind, setup.cameras)
    if setup.fusing is None or kind is not None:
        _check_takes_depth(guider.model_patcher, setup.cameras)
    _check_latents(setup.cameras, noise, guider.model_patcher.get_model_object("latent_format"))
    if not torch.isfinite(latent_image).all():
        raise ValueError("The LATENT to be sampled holds NaN or infinite numbers: fix the node that it comes from.")
    if mask is not None and not torch.isfinite(mask).all():
        raise ValueError("The noise mask of the LATENT holds NaN or infinite numbers: fix the node that it comes from.")
    if mask is not None and not mask.any():
        raise ValueError(
            "The noise mask of the LATENT is 0 everywhere, so nothing would be sampled: paint a mask, or leave it out."
        )
    if kind is not None:
        check_prediction(guider.model_patcher, setup.prediction)
        _check_one_gpu(guider.model_patcher)
    if guider.model_options.get("context_handler") is not None:
        raise ValueError(
            "Context Windows cannot be combined with Apply Cameras: they would tear the views of one scene apart. "
            "Remove the Context Windows node from this MODEL."
        )
    if setup.windows:
        _check_windows(guider.model_options["transformer_options"])
    if holds_perp_neg(guider.model_options) and takes_more_than_latents(guider.model_patcher):
        raise ValueError(
            "The old Perp-Neg node does not work with a MODEL that takes depth or given images beside the latents: use "
            "Perp-Neg Guider with SamplerCustomAdvanced and Apply Cameras."
        )
    check_given_images(guider, sampler, setup.cameras, noise.shape)
    check_conditionings(guider, setup.cameras, noise.shape[0], bool(setup.windows))


def _check_windows(options: dict) -> None:
    """Raises ValueError for nodes of the host that would give one window what they have kept of another."""
    if holds_easy_cache(options):
        raise ValueError(
            "EasyCache mixes up the windows of a depth sequence: use LazyCache instead, or set window to 0 in "
            "Multi-View KSampler."
        )
    if holds_self_attention_guidance(options):
        raise ValueError(
            "Self-Attention Guidance keeps attention of one window only, and needs that of all views: use Perturbed "
            "Attention Guidance instead, or set window to 0 in Multi-View KSampler."
        )


def _check_kind(kind: Kind | None, cameras: Scene) -> None:
    """Raises ValueError where weights were made for another kind of scene."""
    if kind is not None and kind.scene != cameras.kind:
        raise ValueError(f"This MODEL holds {kind.name} weights, {OTHER_SCENE[kind.scene]}.")


def takes_depth(model, cameras: Scene) -> bool:
    """Whether the UNet takes what the scene has for it beside the latents; also where that is nothing."""
    return _inputs(model) == _inputs_with_own(model, cameras)


def _check_takes_depth(model, cameras: Scene) -> None:
    if cameras.own_channels and not takes_depth(model, cameras):
        raise ValueError(
            "Depth Cameras need a MODEL whose UNet takes depth beside the latents, "
            f"{_inputs_with_own(model, cameras)} input channels in all, and this one has {_inputs(model)}: load the "
            "authors' depth_gen.ckpt with Load MVDiffusion Checkpoint."
        )


def _inputs(model) -> int | None:
    return getattr(model.get_model_object("diffusion_model"), "in_channels", None)


def _inputs_with_own(model, cameras: Scene) -> int:
    return model.get_model_object("latent_format").latent_channels + cameras.own_channels


def check_cameras(cameras: Scene) -> None:
    """Raises ValueError for cameras that can cut pictures but not be sampled."""
    if not cameras.sampled:
        raise ValueError(
            "These cameras have no neighbours (the faces of a cube do not overlap): they cut and join pictures, but "
            "cannot be sampled. Choose ring, sphere or rings in Panorama Cameras."
        )
    if cameras.width % 64 or cameras.height % 64:
        raise ValueError(
            f"{NODE_OF[cameras.kind]}: views that are sampled need a width and a height that are multiples of 64, not "
            f"{cameras.width} x {cameras.height}."
        )
    if apart := cameras.apart():
        does, those = ("does", "a view that does") if len(apart) == 1 else ("do", "views that do")
        raise ValueError(
            f"{NODE_OF[cameras.kind]}: {_named_views(apart)} of {cameras.views} {does} not overlap view 0, nor "
            f"{those}, and could not agree with it: {_how_to_overlap(cameras, apart)}"
        )


def _how_to_overlap(cameras: Scene, apart: list[int]) -> str:
    """What would join the views that are `apart` with view 0."""
    if not cameras.rings:
        return "use views that overlap."
    views = cameras.rings[0]
    if apart[0] >= views:
        return (
            "views of different rings must share more than 5 %. Use a larger fov, squarer views, or pitches that are "
            "nearer to each other."
        )
    if cameras.rotation[:views, 1, 2].abs().max() > 1e-9:
        return "use a larger fov or more views in each ring."
    if views == 2:
        return "two level views never overlap. Use 3 or more in a ring."
    least = math.ceil(3600 / views) / 10  # rounded up: what is said is enough
    return f"in a level ring of {views} fov must be above {least:g}. Use a larger fov or more views."


def _named_views(views: list[int]) -> str:
    """'view 3', 'views 8 to 10, 12'."""
    firsts = [view for view in views if view - 1 not in views]
    lasts = [view for view in views if view + 1 not in views]
    runs = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(firsts, lasts, strict=True)]
    return f"view{'s' * (len(views) > 1)} {', '.join(runs)}"


def _check_latents(cameras: Scene, noise: torch.Tensor, latent_format) -> None:
    if noise.ndim == 5 and noise.shape[2] != 1:
        raise ValueError(
            f"The LATENT is a video of {noise.shape[2]} frames per view, and views are pictures: give an empty LATENT "
            "of length 1, or that of Apply Cameras or Fuse Views."
        )
    ratio = pixels_per_latent(latent_format, noise.shape, cameras.width)
    height, width = cameras.height // ratio, cameras.width // ratio
    if noise.ndim not in (4, 5) or noise.shape[-2:] != (height, width):
        raise ValueError(
            f"The LATENT is {tuple(noise.shape)}, but cameras of {cameras.width} x {cameras.height} "
            f"pixels need (views, channels, {height}, {width}): use the LATENT of Apply Cameras, or encode images "
            "of the cameras' size."
        )
    if noise.shape[0] % cameras.views:
        raise ValueError(
            f"The LATENT holds {counted(noise.shape[0], 'view')}, which is not a multiple of the {cameras.views} "
            "cameras: it needs one latent per view, panorama by panorama."
        )


def check_window(node: str, window: int, shared: int, least: int = 2) -> None:
    """Raises ValueError for windows that do not move on or leave views out, or hold fewer than `least`. 0: none."""
    if shared < 0:
        raise ValueError(f"{node}: overlap must be 0 or more, not {shared}.")
    least = max(least, shared + 1)
    if window and window < least:
        raise ValueError(
            f"{node}: a window of {counted(window, 'view')} that shares {shared} with the next one is too small: "
            f"window must be {least} or more, or 0 for all views at once."
        )


def check_panoramas_of(latent_image: dict, cameras: Scene, panoramas: int) -> None:
    """Raises ValueError where a LATENT holds the views of fewer panoramas than Multi-View KSampler is to make."""
    rows = latent_image["samples"].shape[0]
    if rows % cameras.views == 0 and panoramas not in (1, rows // cameras.views):
        raise ValueError(
            f"Multi-View KSampler: panoramas is {panoramas}, but latent_image holds the views of "
            f"{rows // cameras.views}: put Repeat Latent Batch before it, or set panoramas to 1."
        )


def check_noise_mask(latent_image: dict, cameras: Scene) -> None:
    """Raises ValueError for a noise mask that fits neither all views nor each of them.

    When sampling starts the host has made it fit: missing masks are those of other views, other shapes are squeezed.
    """
    if (mask := latent_image.get("noise_mask")) is None:
        return
    remedy = ONE_EACH[cameras.kind]
    mask = mask.reshape(-1, *mask.shape[-2:])
    counts = sorted({1, cameras.views, latent_image["samples"].shape[0]})
    if len(mask) not in counts:
        raise ValueError(
            f"Multi-View KSampler: the noise mask of latent_image holds {len(mask)} masks, and {cameras.views} cameras "
            f"need {' or '.join(map(str, counts))}: {remedy}."
        )
    height, width = mask.shape[1:]
    if not same_proportions(width, height, cameras):
        raise ValueError(
            f"Multi-View KSampler: the noise mask of latent_image is {width} x {height}, and the views are "
            f"{cameras.width} x {cameras.height}: it needs their proportions; {remedy}."
        )


def _check_one_gpu(model) -> None:
    if model.get_additional_models_with_key("multigpu"):
        raise ValueError(
            "MVDiffusion's blocks run on one GPU, and this MODEL is split over several: remove the multi-GPU node."
        )


def check_prediction(model, prediction: str) -> None:
    """Raises ValueError for a MODEL that predicts v where the weights' base predicted the noise, or the reverse."""
    if predicts_v(model) == (prediction == "v"):
        return
    if prediction == "v":
        raise ValueError(
            "These MVDiffusion weights were trained on a base that predicts v, and this MODEL predicts the noise: load "
            "the base that they were trained on, or set ModelSamplingDiscrete to v_prediction if ComfyUI guessed wrong."
        )
    raise ValueError(
        "These MVDiffusion weights predict the noise (epsilon), and this MODEL predicts v (SD 2 768-v is such a "
        "model): load SD 2 512-base instead, or set ModelSamplingDiscrete to eps if ComfyUI guessed wrong."
    )


def predicts_v(model) -> bool:
    """Whether a MODEL predicts v, and not the noise."""
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
