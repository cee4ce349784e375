"""The demo model's parts as far as they have been trained, in fp32 on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import nn

from ...caa.blocks import CAA
from ...caa.weights.kinds import KINDS, Kind, Widths
from ...caa.weights.random_weights import fresh_weights
from . import config, files
from .autoencoder import trained
from .context import Context
from .fresh import fresh
from .optimiser import load_mean
from .text import TextEncoder, Words
from .unet import Shared

SEED = 14  # of weights that are drawn
BEGUN = "begun.pt"  # what UNet, text encoder and blocks begin with, where it was taken over


def sealed(context: Context) -> nn.Module:
    """The autoencoder, whose latents are fixed.

    Raises ValueError where there is none yet.
    """
    state = files.load(context.folder / "autoencoder.sealed.pt")
    if state is None:
        raise ValueError("There is no autoencoder yet: run the stage 'autoencoder' first.")
    module = fresh(context.host.autoencoder(config.AUTOENCODER), SEED)
    module.load_state_dict(state)
    later = files.load(context.folder / "decoder.pt")
    if later is not None:
        load_mean(trained(module, True), later["optimiser"])
    return module


def words(context: Context) -> Words:
    """The words that the text encoder knows."""
    return Words(json.loads((context.folder / "words.json").read_text(encoding="utf-8")))


def base_models(context: Context) -> tuple[Shared, TextEncoder]:
    """UNet and text encoder with their first weights: drawn, or those that were taken over (adopt.py)."""
    torch.manual_seed(SEED)
    shared = Shared(fresh(context.host.unet(config.UNET), SEED))
    text = TextEncoder(len(words(context)), **config.TEXT)
    begun = files.load(context.folder / BEGUN)
    if begun is not None:
        shared.load_state_dict(begun["unet"])
        text.load_state_dict(begun["text"])
    return shared, text


def begun_blocks(context: Context, body: nn.Module) -> dict[str, CAA]:
    """Blocks by kind, for the host's UNet `body`, which gets the places for them.

    They change nothing yet, unless some were taken over. Panorama and outpainting have the same ones: their blocks are
    built alike and learn the same of neighbours.
    """
    widths, begun = context.host.put_sites(body), files.load(context.folder / BEGUN)
    around, depth = (_begun(KINDS[name], widths, begun) for name in ("panorama", "depth"))
    return {"panorama": around, "outpainting": around, "depth": depth}


def _begun(kind: Kind, widths: Widths, begun: dict | None) -> CAA:
    weights = fresh_weights(kind, widths, SEED)
    caa = CAA(kind, widths, weights.frequencies, nn, torch.float32)
    caa.load_state_dict(begun["blocks"][kind.name] if begun else weights.tensors)
    return caa


def trained_base(context: Context) -> tuple[Shared, TextEncoder]:
    """UNet and text encoder as far as the stage `unet` has trained them.

    Raises ValueError where it has not, and none were taken over.
    """
    shared, text = base_models(context)
    state = files.load(context.folder / "unet.pt")
    if state is not None:
        load_mean([*shared.parameters(), *text.parameters()], state["optimiser"])
    elif not (context.folder / BEGUN).exists():
        raise ValueError("There is no UNet yet: run the stage 'unet' first.")
    return shared, text


def trained_parts(context: Context) -> tuple[Shared, TextEncoder, dict[str, CAA]]:
    """UNet, text encoder and the blocks of each kind as far as they have been trained."""
    shared, text = trained_base(context)
    blocks = begun_blocks(context, shared.body)
    state = files.load(context.folder / "together.pt")
    if state is not None:
        load_mean(learning_together(shared, text, blocks), state["optimiser"])
    return shared, text, blocks


def learning_together(shared: nn.Module, text: nn.Module, blocks: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """What the stage `together` trains, in the order that its state has; blocks that kinds share stand there once."""
    return list(nn.ModuleList([shared, text, *blocks.values()]).parameters())
