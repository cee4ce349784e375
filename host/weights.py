"""CAA weights beside a MODEL: as a patcher of their own, which the host loads, offloads and frees with the UNet."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import comfy.model_management
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..caa.attention.tables import WAYS
from ..caa.blocks import CAA
from ..caa.weights.checkpoint import BASE, CAAWeights, write_slim
from ..caa.weights.kinds import identify
from ..caa.weights.tensor_files import TensorFile
from .begin import with_blocks
from .checks import check_prediction
from .folders import writing_to
from .inject import unet_widths
from .loading import unet_patches
from .quirks import is_dynamic, patcher_class
from .setup import KEY, change_setup

logger = logging.getLogger("MVDiffusion")
STORED = (torch.float16, torch.bfloat16, torch.float32)


def attach_weights(
    model,
    read: Callable[[], CAAWeights],
    strength: float,
    attention: str = WAYS[0],
    weights: CAAWeights | None = None,
):
    """A clone of MODEL with the CAA blocks that `read` returns. `read` is called again where the host rebuilds a MODEL.

    weights: what `read` would return, where it is known already.

    Raises ValueError where the weights do not fit the MODEL, in one sentence.
    """
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel) or unet.middle_block is None:
        raise ValueError(
            f"MVDiffusion's blocks go into a Stable Diffusion UNet (SD 1.5, SD 2 or SDXL), not into a "
            f"{type(unet).__name__}: the published weights need SD 2 (512-base)."
        )
    weights = weights or read()
    _check_fit(weights, model, unet)
    if weights.base == BASE and not isinstance(model.model.model_config, comfy.supported_models.SD20):
        logger.warning("These MVDiffusion weights were trained with %s: with another base, views may not agree.", BASE)
    dtype = model.model_dtype() if model.model_dtype() in STORED else torch.float16
    model = with_blocks(model, caa_patcher(read, dtype, weights=weights), strength, attention)
    change_setup(model, prediction=weights.prediction)
    return model


def with_tuned_unet(model, file: TensorFile):
    """A clone of MODEL whose UNet has the weights of an authors' file, where that was trained with its blocks.

    They are patches that go first, so that LoRAs before or after this give one picture; MODEL stays untouched.
    Raises ValueError where the UNet is another one.
    """
    if not identify(file.shapes, file.metadata).tuned:
        return model
    patches = {key: Tuned(patch) for key, patch in unet_patches(file, model).items()}
    if not patches:
        own = "the MODEL's own one is used, which has to be the authors' depth model."
        logger.warning("%s holds no UNet: %s", file.path, own)
        return model
    return _with_set(model, patches)


def with_trained_unet(model, weights: dict[str, torch.Tensor]):
    """A clone of MODEL whose UNet has these weights, by their names in the UNet; MODEL stays untouched."""
    return _with_set(model, {f"diffusion_model.{name}": Tuned(("set", (weight,))) for name, weight in weights.items()})


def _with_set(model, patches: dict[str, Tuned]):
    model = model.clone()
    model.add_patches(patches)
    for key in patches:
        *others, own = model.patches[key]
        model.patches[key] = [own, *(patch for patch in others if not isinstance(patch[1], Tuned))]
    return model


class Tuned(tuple):
    """A patch of `with_tuned_unet`: a later file's takes the place of an earlier one's."""


class ReadCAA(CAA):
    """Blocks made of the host's layers, in `dtype`. read: reads their weights again, with all their digits."""

    def __init__(self, read: Callable[[], CAAWeights], weights: CAAWeights, dtype: torch.dtype, device) -> None:
        super().__init__(weights.kind, weights.widths, weights.frequencies, comfy.ops.manual_cast, dtype, device)
        self.read = read


def caa_patcher(
    read: Callable[[], CAAWeights], dtype: torch.dtype, disable_dynamic: bool = False, weights: CAAWeights | None = None
):
    """A ModelPatcher around the blocks with the weights: the host pages and casts them."""
    weights = weights or read()
    offload = comfy.model_management.unet_offload_device()
    caa = ReadCAA(read, weights, dtype, offload)
    patcher = patcher_class(disable_dynamic)(
        caa, load_device=comfy.model_management.get_torch_device(), offload_device=offload
    )
    caa.load_state_dict({key: tensor.to(dtype) for key, tensor in weights.tensors.items()}, assign=is_dynamic(patcher))
    patcher.cached_patcher_init = (caa_patcher, (read, dtype))
    return patcher


def save_weights(model, path: str, dtype: torch.dtype) -> None:
    """Writes the CAA blocks of a MODEL to a slim safetensors file, from where they were read: with all their digits.

    Raises ValueError where the MODEL has none, OSError where their file is gone, RuntimeError where no file can be
    written.
    """
    patchers = model.get_additional_models_with_key(KEY)
    if not patchers:
        raise ValueError("Save MVDiffusion: this MODEL has no MVDiffusion blocks. Connect one from Load MVDiffusion.")
    weights = patchers[0].model.read()
    folder = os.path.dirname(path)
    with writing_to("Save MVDiffusion", folder):
        os.makedirs(folder, exist_ok=True)
        write_slim(path, weights, dtype)


def _check_fit(weights: CAAWeights, model, unet: UNetModel) -> None:
    """Raises ValueError unless the weights belong to the UNet of MODEL by kind, widths and prediction."""
    kind, widths = weights.kind, weights.widths
    if unet.in_channels != kind.in_channels:
        raise ValueError(
            f"These are {kind.name} weights, made for a UNet with {kind.in_channels} input channels, and this MODEL "
            f"has {unet.in_channels}: load {kind.base}, or take everything from the authors' file with Load "
            "MVDiffusion Checkpoint."
        )
    if widths != unet_widths(unet):
        raise ValueError(
            f"These weights are {widths.encoder} wide on the way down and {widths.decoder} on the way up, and this "
            f"MODEL's UNet is {unet_widths(unet).encoder} and {unet_widths(unet).decoder}: take the base that they "
            "were made for, SD 2 (512-base) for the published ones."
        )
    check_prediction(model, weights.prediction)
