"""What depends on how a version of the host is built, each thing once: where it was tried, and what happens without it.

"All" is 0.3.64, 0.8.0 and 0.33.0.
"""

from __future__ import annotations

import contextlib
import inspect

import comfy.model_management
import comfy.model_patcher
import latent_preview
import torch
from comfy.samplers import CFGGuider
from comfy_api.latest import io


def patcher_class(disable_dynamic: bool = False) -> type[comfy.model_patcher.ModelPatcher]:
    """The class of patchers that hold a model of ours.

    0.33 rebinds CoreModelPatcher to its patcher with dynamic VRAM when it starts, so the name is read at each call. The
    others have no such name, and get the plain class.
    """
    plain = comfy.model_patcher.ModelPatcher
    return plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)


def is_dynamic(patcher) -> bool:
    """Whether a patcher pages its weights (0.33). Weights are then assigned, since layers have none before."""
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()


def without_dynamic(disable_dynamic: bool) -> dict[str, bool]:
    """The argument that asks loaders of 0.33 for a plain patcher. The others lack it, and never ask for one."""
    return {"disable_dynamic": True} if disable_dynamic else {}


def intermediate_dtype() -> torch.dtype:
    """The dtype of results between nodes: a setting in 0.33, float32 in the others."""
    return getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()


def in_use_by_another(patcher) -> bool:
    """Whether the patcher's model is loaded by another one: all clones share it, and the host ejects when one dies.

    All set `current_patcher`; were it gone, a clone that dies would take the blocks out of a running one.
    """
    return getattr(patcher.model, "current_patcher", None) not in (None, patcher)


def pixels_per_latent(latent_format, shape: torch.Size | None = None, width: int = 0) -> int:
    """Pixels along a latent's side: what the latent format says (0.33).

    The others say nothing: it is 8 for latents of up to 16 channels, and for deeper ones what latents of `shape`, if
    there are any, are of views of `width` pixels.
    """
    deep = latent_format.latent_channels > 16
    unsaid = max(1, width // shape[-1]) if shape is not None and deep else 8
    return getattr(latent_format, "spacial_downscale_ratio", unsaid)


def hands_predictions_over(guider) -> bool:
    """Whether the host's wrappers around predictions (PREDICT_NOISE, all) see those of a guider.

    The host calls them in CFGGuider. Guiders that put their own in its place would not fuse views, without a word.
    """
    return all(getattr(type(guider), name) is getattr(CFGGuider, name) for name in ("__call__", "outer_predict_noise"))


def known_schema_fields(fields: dict) -> dict:
    """Those fields of a node's schema that this host has: 0.3.64 and 0.8 lack search_aliases."""
    known = io.Schema.__dataclass_fields__
    return {name: value for name, value in fields.items() if name in known}


def holds_easy_cache(options: dict) -> bool:
    """Whether transformer options hold the host's EasyCache, which would give one window what it has kept of another.

    Known by its holder's name, in all. Were it called otherwise, windows under EasyCache would get wrong pictures.
    """
    return type(options.get("easycache")).__name__ == "EasyCacheHolder"


def holds_self_attention_guidance(options: dict) -> bool:
    """Whether transformer options hold the host's Self-Attention Guidance, which keeps the last window's attention.

    Known by the node in which its replacement of an attention layer is written, in all. Were it called otherwise,
    windows would end in an error of torch about shapes.
    """
    replaced = options.get("patches_replace", {}).get("attn1", {}).values()
    return any(_written_in(patch, "SelfAttentionGuidance") for patch in replaced)


def holds_perp_neg(model_options: dict) -> bool:
    """Whether a MODEL holds the host's old Perp-Neg node, which asks the model for inputs without telling it latents.

    Known by the node in which its function is written, in all. Were it called otherwise, models that take more than
    latents would end in an error about `None`.
    """
    return _written_in(model_options.get("sampler_cfg_function"), "PerpNeg")


def _written_in(function, node: str) -> bool:
    return getattr(function, "__qualname__", "").startswith(f"{node}.")


def reads_negative(guider, sampler) -> bool:
    """Whether a run depends on its negative conditioning although cfg is 1: there the host leaves it out.

    Samplers of CFG++ need it, known by "_pp" in their functions' names (all), and nodes may forbid to leave it out
    (`disable_cfg1_optimization`, all). Guiders that steer in their own way read it too. Were a name another one, a
    missing negative conditioning would be refused by the host, in its own words.
    """
    as_the_host = type(guider).predict_noise is CFGGuider.predict_noise
    forbidden = guider.model_options.get("disable_cfg1_optimization", False)
    plus_plus = "_pp" in getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    return not as_the_host or forbidden or plus_plus


def previewer_of(callback, depth: int = 3) -> latent_preview.LatentPreviewer | None:
    """The previewer that a callback of latent_preview.prepare_callback holds, also where others have wrapped it.

    It is a variable of the function's closure, `previewer`, in all. None where there is none, and where another pack
    has put its own in place: previews then show the first view, as the host would.
    """
    if not inspect.isfunction(callback) or not depth:
        return None
    held = _closure(callback)
    if callback.__module__ != latent_preview.__name__:
        return next(filter(None, (previewer_of(value, depth - 1) for value in held.values())), None)
    previewer = held.get("previewer")
    method = getattr(previewer, "decode_latent_to_preview_image", None)
    own = getattr(method, "__func__", None) is latent_preview.LatentPreviewer.decode_latent_to_preview_image
    return previewer if own else None


def _closure(function) -> dict[str, object]:
    """The variables that a function has taken from around it, by name."""
    held = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            held[name] = cell.cell_contents
    return held
