"""Training that goes on from exported weights where the folder of an earlier run is gone."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from ...caa.weights.checkpoint import read_caa
from ...caa.weights.kinds import KINDS
from . import files
from .context import Context
from .export import TOKENS
from .parts import BEGUN


def adopt(context: Context, folder: Path) -> bool:
    """Takes over what `export` wrote to a folder: autoencoder and words, first weights of UNet, text and blocks.

    Moments are not among them: a training begins anew, but not from nothing. Returns whether there was anything to do:
    not so where the folder of this run has an autoencoder of its own.
    """
    sealed = context.folder / "autoencoder.sealed.pt"
    if sealed.exists() or not (folder / "unet.safetensors").exists():
        return False
    autoencoder, text, unet = (load_file(folder / f"{name}.safetensors") for name in ("autoencoder", "text", "unet"))
    blocks = {name: read_caa(folder / f"{name}.safetensors").tensors for name in KINDS}
    words = text.pop(TOKENS).tolist()
    body = {key if key.startswith("first.") else f"body.{key}": value for key, value in unet.items()}
    begun = {"unet": _exact(body), "text": _exact(text), "blocks": {name: _exact(of) for name, of in blocks.items()}}
    context.folder.mkdir(parents=True, exist_ok=True)
    files.save(context.folder / BEGUN, begun)
    (context.folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    files.save(sealed, _exact(autoencoder))
    return True


def _exact(tensors: dict) -> dict:
    return {key: value.float() for key, value in tensors.items()}
