"""The trained weights as they are shipped: fp16 safetensors and what the host's classes are built with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ...caa.weights.checkpoint import CAAWeights, write_slim
from ...caa.weights.kinds import KINDS
from . import config
from .context import Context
from .kinds import CHANNELS
from .parts import sealed, trained_parts, words

TOKENS = "tokens"


def export(context: Context) -> None:
    """Writes `autoencoder`, `text`, `unet` and the blocks of each kind to the folder `export`, and `demo.json` beside.

    autoencoder: the host's names. text: the host's names within its text model; row 0 of the token table is for tokens
    that are not in `tokens` (int32), row 1 + i is that of tokens[i]. unet: the host's names, and instead of
    input_blocks.0.0 `first.KIND.weight` and `.bias` for each kind. Blocks: slim files. Whatever has not been trained
    with the blocks yet is as it was before.
    """
    folder = context.folder / "export"
    folder.mkdir(parents=True, exist_ok=True)
    shared, text, blocks = trained_parts(context)
    first = {f"first.{key}": value for key, value in shared.first.state_dict().items()}
    tokens = {TOKENS: torch.tensor(words(context).tokens, dtype=torch.int32)}
    _write(folder / "autoencoder.safetensors", _half(sealed(context)))
    _write(folder / "text.safetensors", _half(text) | tokens)
    _write(folder / "unet.safetensors", _half(shared.body) | {key: value.half() for key, value in first.items()})
    for name, caa in blocks.items():
        weights = CAAWeights(KINDS[name], caa.widths, caa.state_dict(), caa.frequencies, base="the demo model")
        write_slim(folder / f"{name}.safetensors", weights, torch.float16)
    about = {"autoencoder": config.AUTOENCODER, "unet": config.UNET, "text": config.TEXT, "channels": CHANNELS}
    (folder / "demo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _half(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().half().contiguous() for key, value in module.state_dict().items()}


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh)
    fresh.replace(path)
