"""A sampling run over all views at once: what is checked before it, what it needs, and how it reaches the blocks.

A MODEL carries `Setup` in its transformer options. When sampling starts, `begin_run` checks everything against it and
puts a `Run` into the options of that run alone; the sites in the UNet find it there, and it is gone with the run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial

import comfy.model_management
import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP
from einops import rearrange

from ..caa.blocks import CAA
from ..caa.memory import Memory
from ..caa.tables import Tables
from ..geometry.cameras import Cameras
from ..geometry.correspondence import Correspondences, panorama_correspondences
from .checks import check_cameras, check_run
from .inject import RUN, Site, eject, inject, run_site
from .inputs import repeat_given_images
from .preview import with_live_preview

KEY = "mvdiffusion"
ATTENTION = "auto", "plain"
logger = logging.getLogger("MVDiffusion")


@dataclass(frozen=True, eq=False)
class Setup:
    """What the nodes have told a MODEL.

    strength: of its CAA blocks; None: it has none. attention: how they attend, one of ATTENTION. cameras: its cameras.
    """

    strength: float | None = None
    attention: str = ATTENTION[0]
    cameras: Cameras | None = None


def setup_of(model) -> Setup:
    """The `Setup` of a ModelPatcher; an empty one where no node of this pack has touched it."""
    return model.model_options["transformer_options"].get(KEY, Setup())


def with_blocks(model, blocks_patcher, strength: float, attention: str = ATTENTION[0]):
    """A clone of MODEL that runs the CAA blocks of `blocks_patcher` at `strength`; the original stays untouched."""
    model = _with_setup(model, strength=strength, attention=attention)
    model.set_additional_models(KEY, [blocks_patcher])
    model.set_injections(KEY, [PatcherInjection(inject=inject, eject=eject)])
    patches = model.model_options["transformer_options"].setdefault("patches", {})
    handlers = patches.setdefault("forward_timestep_embed_patch", [])
    if not any(layer_class is Site for layer_class, _ in handlers):
        handlers.append((Site, run_site))
    return model


def with_cameras(model, cameras: Cameras):
    """A clone of MODEL that any sampler of the host samples over all views of `cameras`."""
    model = _with_setup(model, cameras=cameras)
    model.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, partial(with_live_preview, cameras))
    return model


def _with_setup(model, **changes):
    model = model.clone()
    model.model_options["transformer_options"][KEY] = replace(setup_of(model), **changes)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, begin_run)
    return model


class Run:
    """One sampling run: cameras, blocks, and the tables that follow from them."""

    def __init__(self, cameras: Cameras, caa: CAA, strength: float, attention: str = ATTENTION[0]) -> None:
        self.cameras, self.caa, self.strength, self.attention = cameras, caa, strength, attention
        self._memory: Memory | None = None
        self._tables: dict[tuple[int, int], Tables] = {}

    def tables(self, height: int, width: int, device: torch.device) -> Tables:
        """The tables at one feature size, made when first asked for: models are loaded then, and memory is known."""
        if self._memory is None:
            self._memory = Memory.within(comfy.model_management.get_free_memory(device), device.type == "cpu")
        if (height, width) not in self._tables:
            fast = self.attention == "auto"
            self._tables[height, width] = Tables(self.correspondences(height, width), self._memory, fast)
        return self._tables[height, width]

    def correspondences(self, height: int, width: int) -> Correspondences:
        """Which points of the views correspond, at one feature size."""
        return panorama_correspondences(self.cameras, height, width)

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """x + strength (block(x) - x) for the block of site `name`; (B V, C, h, w) features, views within panoramas.

        Raises ValueError where the batch is no multiple of the views.
        """
        found = self.caa.at_site(name)
        if found is None or self.strength == 0:
            return x
        views = self.cameras.views
        if x.shape[0] % views:
            raise ValueError(
                f"MVDiffusion's blocks got a batch of {x.shape[0]} for {views} cameras: it must be a multiple of the "
                "views. A node between Apply Cameras and the sampler splits the batch; views are sampled together."
            )
        tables = self.tables(*x.shape[-2:], x.device)
        if not tables.correspondences.pairs:
            return x
        block, bands = found
        panoramas = rearrange(x, "(p v) c h w -> p v c h w", v=views)
        y = block(panoramas, tables, bands).flatten(0, 1)
        return y if self.strength == 1 else x + self.strength * (y - x)


def begin_run(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
    """The host's OUTER_SAMPLE wrapper: checks the run before any model is loaded, then makes it and drops it."""
    guider = executor.class_obj
    setup = setup_of(guider)
    patchers = guider.model_patcher.get_additional_models_with_key(KEY)
    caa = patchers[0].model if patchers else None
    check_run(setup, None if caa is None else caa.kind, guider, sampler, noise, latent_image, denoise_mask)
    guider.conds = repeat_given_images(guider.conds, setup.cameras.views, noise.shape[0])
    options = guider.model_options["transformer_options"]
    if caa is not None:
        options[RUN] = Run(setup.cameras, caa, setup.strength, setup.attention)
    else:
        logger.warning("This MODEL has no MVDiffusion blocks: its views are sampled together but will not agree.")
    try:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    finally:
        options.pop(RUN, None)


def empty_latent(cameras: Cameras, panoramas: int) -> dict:
    """The host's LATENT of zeros for `panoramas` x V views. Raises ValueError for cameras that cannot be sampled."""
    check_cameras(cameras)
    shape = (panoramas * cameras.views, 4, cameras.height // 8, cameras.width // 8)
    # The host fits channels and scale of empty latents to the MODEL's latent format.
    return {"samples": to_intermediate(torch.zeros(shape)), "downscale_ratio_spacial": 8}


def to_intermediate(tensor: torch.Tensor) -> torch.Tensor:
    """A result on the device and in the dtype (from 0.33 on) that the host wants between nodes."""
    dtype = getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()
    return tensor.to(device=comfy.model_management.intermediate_device(), dtype=dtype)


def mask_to_intermediate(mask: torch.Tensor) -> torch.Tensor:
    """A MASK on the device that the host wants between nodes; in float32, since its mask nodes take nothing less."""
    return mask.to(device=comfy.model_management.intermediate_device(), dtype=torch.float32)
