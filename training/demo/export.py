"""The trained weights as they are shipped: fp16 safetensors and what the host's classes are built with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from . import config
from .context import Context
from .kinds import CHANNELS
from .parts import sealed, trained_base, words

TOKENS = "tokens"


def export(context: Context) -> None:
    """Writes `autoencoder`, `text` and `unet` to the folder `export`, and `demo.json` beside them.

    autoencoder: the host's names. text: the host's names within its text model; row 0 of the token table is for tokens
    that are not in `tokens` (int32), row 1 + i is that of tokens[i]. unet: the host's names, and instead of
    input_blocks.0.0 `first.KIND.weight` and `.bias` for each kind.
    """
    folder = context.folder / "export"
    folder.mkdir(parents=True, exist_ok=True)
    shared, text = trained_base(context)
    first = {f"first.{key}": value for key, value in shared.first.state_dict().items()}
    tokens = {TOKENS: torch.tensor(words(context).tokens, dtype=torch.int32)}
    _write(folder / "autoencoder.safetensors", _half(sealed(context)))
    _write(folder / "text.safetensors", _half(text) | tokens)
    _write(folder / "unet.safetensors", _half(shared.body) | {key: value.half() for key, value in first.items()})
    about = {"autoencoder": config.AUTOENCODER, "unet": config.UNET, "text": config.TEXT, "channels": CHANNELS}
    (folder / "demo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _half(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().half().contiguous() for key, value in module.state_dict().items()}


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh)
    fresh.replace(path)
