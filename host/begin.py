"""How a sampling run over all views begins.

A MODEL carries its `Setup`. When sampling starts, `begin_run` checks everything against it and puts the run's `Windows`
into the options of that run alone; `predict` finds them there, and they are gone with the run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import torch
from comfy.model_management import get_free_memory
from comfy.patcher_extension import PatcherInjection, WrappersMP

from ..caa.attention.kept import KEPT
from ..caa.attention.tables import WAYS
from ..caa.blocks import CAA
from ..geometry.scene import Scene
from ..geometry.sequence.windows import Window
from .checks import check_cameras, check_run, takes_depth
from .fuse import FUSER, Fuser, agreeing_noise, check_fusing, check_guider, fuse
from .inject import Site, eject, inject, run_site
from .inputs import repeat_given_images
from .preview import with_live_preview
from .progress import progress_bar
from .quirks import pixels_per_latent
from .run import WINDOWS, Allowance, Run, Windows, predict
from .setup import KEY, Fusing, Setup, change_setup, setup_of
from .tensors import to_intermediate

logger = logging.getLogger("MVDiffusion")
MOST_STRENGTH = 2.0  # of blocks


def with_blocks(model, blocks_patcher, strength: float, attention: str = WAYS[0]):
    """A clone of MODEL that runs the CAA blocks of `blocks_patcher` at `strength`; the original stays untouched.

    Raises ValueError for a strength that is none.
    """
    if not 0 <= strength <= MOST_STRENGTH:
        raise ValueError(
            f"The strength of MVDiffusion's blocks must lie between 0 and {MOST_STRENGTH:g}, not {strength:g}."
        )
    model = _with_setup(model, strength=strength, attention=attention)
    model.set_additional_models(KEY, [blocks_patcher])
    model.set_injections(KEY, [PatcherInjection(inject=inject, eject=eject)])
    patches = model.model_options["transformer_options"].setdefault("patches", {})
    handlers = patches.setdefault("forward_timestep_embed_patch", [])
    if not any(layer_class is Site for layer_class, _ in handlers):
        handlers.append((Site, run_site))
    return model


def with_cameras(model, cameras: Scene, windows: Sequence[Window] = (), known: torch.Tensor | None = None):
    """A clone of MODEL that any sampler of the host samples over all views of `cameras`; the rest as in `Setup`."""
    model = _with_setup(model, cameras=cameras, windows=tuple(windows), known=known)
    wrappers = {
        WrappersMP.PREPARE_SAMPLING: prepare_for_window,
        WrappersMP.APPLY_MODEL: predict,
        WrappersMP.PREDICT_NOISE: fuse,
        WrappersMP.SAMPLER_SAMPLE: partial(with_live_preview, cameras),
    }
    for place, wrapper in wrappers.items():
        model.remove_wrappers_with_key(place, KEY)
        model.add_wrapper_with_key(place, KEY, wrapper)
    return model


def with_fusing(model, cameras: Scene, fusing: Fusing):
    """The same as `with_cameras`, of views that fuse. Raises ValueError where inputs of Fuse Views cannot be right."""
    check_fusing(fusing, model.get_model_object("latent_format"))
    model = with_cameras(model, cameras)
    change_setup(model, fusing=fusing)
    return model


def _with_setup(model, **changes):
    model = model.clone()
    change_setup(model, **changes)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, begin_run)
    return model


def begin_run(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
    """The host's OUTER_SAMPLE wrapper: checks the run before any model is loaded, then makes it and drops it."""
    guider = executor.class_obj
    setup = setup_of(guider)
    patchers = guider.model_patcher.get_additional_models_with_key(KEY)
    caa = patchers[0].model if patchers else None
    check_run(setup, None if caa is None else caa.kind, guider, sampler, noise, latent_image, denoise_mask)
    cameras = setup.cameras
    assert cameras is not None  # the check would have said so
    if setup.fusing is not None:
        check_guider(guider)
    guider.conds = repeat_given_images(guider.conds, cameras.views, noise.shape[0])
    if caa is None and setup.fusing is None:
        logger.warning("This MODEL has no MVDiffusion blocks: its views are sampled together but will not agree.")
    options = guider.model_options["transformer_options"]
    try:
        options[WINDOWS] = _windows(setup, cameras, caa, guider.model_patcher)
        if setup.fusing is not None and setup.fusing.strength > 0:
            options[FUSER] = Fuser(cameras, setup.fusing, sigmas, guider)
            if setup.fusing.noise == "shared" and setup.known is None:  # key frames keep the noise that they had
                noise = agreeing_noise(noise, cameras)
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    finally:
        options.pop(WINDOWS, None)
        options.pop(FUSER, None)
        KEPT.rest(get_free_memory(torch.device("cpu")))


def prepare_for_window(executor, model, noise_shape, conds, *args, **kwargs):
    """The host's PREPARE_SAMPLING wrapper: makes room for the largest window instead of all views.

    A ControlNet still sees all views at once: the host runs it before the windows are made.
    """
    setup = setup_of(model)
    controlled = any("control" in entry for entries in conds.values() for entry in entries or ())
    if setup.cameras is not None and setup.windows and not controlled:
        scenes = noise_shape[0] // setup.cameras.views
        noise_shape = [scenes * max(map(len, setup.windows)), *noise_shape[1:]]
    return executor(model, noise_shape, conds, *args, **kwargs)


def _windows(setup: Setup, cameras: Scene, caa: CAA | None, model) -> Windows:
    """What the views of a run are denoised by."""
    allowance = Allowance()
    known = None if setup.known is None else model.get_model_object("latent_format").process_in(setup.known)
    parts, show = [], progress_bar()
    windows = setup.windows or (tuple(range(cameras.views)),)
    for number, window in enumerate(windows):
        condition = None if known is None else _condition(known[list(window)])
        whole = window == tuple(range(cameras.views))
        seen_by = cameras if whole else cameras.subset(window)
        if caa is not None or setup.fusing is not None:  # it is asked for here, where people can stop it
            seen_by.neighbours(lambda done, of, number=number: show(number * of + done, len(windows) * of))
        parts.append((window, Run(seen_by, caa, setup.strength, setup.attention, condition, allowance)))
    return Windows(cameras.views, parts, takes_depth(model, cameras))


def _condition(known: torch.Tensor) -> torch.Tensor:
    """(n, 5, h, w) image condition of a window over views whose first and last are known, from (n, 4, h, w) latents."""
    condition = torch.zeros((len(known), 5, *known.shape[2:]), dtype=known.dtype, device=known.device)
    for end in (0, -1):
        condition[end, :4], condition[end, 4] = known[end], 1
    return condition


def empty_latent(model, cameras: Scene, panoramas: int) -> dict:
    """MODEL's LATENT of zeros for `panoramas` x V views.

    Raises ValueError for cameras that cannot be sampled, and for less than one panorama.
    """
    if panoramas < 1:
        raise ValueError(f"panoramas must be 1 or more, not {panoramas}.")
    check_cameras(cameras)
    latent_format = model.get_model_object("latent_format")
    ratio = pixels_per_latent(latent_format)
    rows = panoramas * cameras.views
    shape = rows, latent_format.latent_channels, cameras.height // ratio, cameras.width // ratio
    return {"samples": to_intermediate(torch.zeros(shape)), "downscale_ratio_spacial": ratio}
