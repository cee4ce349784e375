"""Training that goes on from exported weights where the folder of an earlier run is gone."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from . import files
from .context import Context
from .export import TOKENS

BEGUN = "begun.pt"  # what UNet and text encoder begin with


def adopt(context: Context, folder: Path) -> bool:
    """Takes over what `export` wrote to a folder: autoencoder and words, and first weights of the UNet and the text.

    Moments are not among them: a training begins anew, but not from nothing. Returns whether there was anything to do:
    not so where the folder of this run has an autoencoder of its own.
    """
    sealed = context.folder / "autoencoder.sealed.pt"
    if sealed.exists() or not (folder / "unet.safetensors").exists():
        return False
    autoencoder, text, unet = (load_file(folder / f"{name}.safetensors") for name in ("autoencoder", "text", "unet"))
    context.folder.mkdir(parents=True, exist_ok=True)
    words = text.pop(TOKENS).tolist()
    body = {key if key.startswith("first.") else f"body.{key}": value.float() for key, value in unet.items()}
    files.save(context.folder / BEGUN, {"unet": body, "text": {key: value.float() for key, value in text.items()}})
    (context.folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    files.save(sealed, {key: value.float() for key, value in autoencoder.items()})
    return True
