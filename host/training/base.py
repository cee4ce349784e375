"""What a MODEL must be to be trained on, and what its blocks have to know of it."""

from __future__ import annotations

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ...caa.weights.kinds import Kind
from ...geometry.input_error import InputError
from ...training.schedule import Schedule
from ..inject import unet_widths

NAMES = {
    "SD15": "Stable Diffusion 1.5",
    "SD20": "Stable Diffusion 2",
    "SD21UnclipL": "Stable Diffusion 2.1 unCLIP",
    "SD21UnclipH": "Stable Diffusion 2.1 unCLIP",
    "SDXL": "Stable Diffusion XL",
    "SDXLRefiner": "Stable Diffusion XL refiner",
    "SSD1B": "SSD-1B",
}


def check_base(model, kind: Kind) -> None:
    """Raises InputError, one sentence, for a MODEL that blocks of this kind cannot be trained on."""
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel) or unet.middle_block is None:
        raise InputError(
            f"model has a {type(unet).__name__}, which has no places for MVDiffusion's blocks: take a Stable Diffusion "
            "UNet (SD 1.5, SD 2, SDXL or a fine-tune of one)."
        )
    if not any(isinstance(layer, SpatialTransformer) for layer in unet.modules()):
        raise InputError(
            "model has a UNet without cross-attention, which no caption can reach: take a Stable Diffusion UNet "
            "(SD 1.5, SD 2, SDXL or a fine-tune of one)."
        )
    if unet.in_channels != kind.in_channels:
        raise InputError(
            f"kind is {kind.name}, which needs a UNet with {kind.in_channels} input channels, such as {kind.base} has, "
            f"and model's has {unet.in_channels}: take such a MODEL, or another kind."
        )
    odd = [width for width in unet_widths(unet).by_block().values() if width % 32]
    if odd:
        raise InputError(f"model's UNet is {odd[0]} wide at a place for blocks, whose heads need a multiple of 32.")
    if model.get_additional_models_with_key("multigpu"):
        raise InputError(
            "model is split over several cards, and the graph trains on one: remove the multi-GPU node, or train on "
            "all of them with torchrun and scripts/train.py of the pack's repository."
        )
    schedule_of(model)


def schedule_of(model) -> Schedule:
    """The noise levels and the prediction that a MODEL was made for, ModelSamplingDiscrete included.

    What it predicts is seen in what it makes of numbers: other packs have their own classes.
    Raises InputError for a MODEL whose noise levels are no table, or that predicts something else.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = getattr(sampling, "sigmas", None)
    refused = InputError(
        f"model samples by {_kind_of(sampling)}, and blocks are trained on tables of noise levels with a UNet that "
        "predicts the noise (eps) or v: remove the Model Sampling node before it."
    )
    if sigmas is None or not hasattr(sampling, "timestep"):
        raise refused
    sigmas = sigmas.detach().to("cpu", torch.float32, copy=True)
    levels = torch.arange(len(sigmas))
    if not torch.equal(sampling.timestep(sigmas.to(sampling.sigmas.device)).cpu().round().long(), levels):
        raise refused
    sigma, fed, output = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 3.0, 1.0))
    expected = {"eps": fed - sigma * output, "v": fed / 5 - output * 2 / 5**0.5}
    scaled = torch.allclose(sampling.calculate_input(sigma, fed), fed / 5**0.5)
    denoised = sampling.calculate_denoised(sigma, output, fed)
    for prediction, would_be in expected.items():
        if scaled and torch.allclose(denoised, would_be):
            return Schedule(sigmas, prediction)
    raise refused


def base_name(model) -> str:
    """What a MODEL is a kind of, for people to read in the file of its blocks."""
    config = type(model.model.model_config).__name__
    return NAMES.get(config.removesuffix("_instructpix2pix"), config)


def _kind_of(sampling) -> str:
    names = [base.__name__ for base in type(sampling).__mro__[1:3]]
    return " and ".join(names)
