"""What a stage keeps between runs: one file, replaced in one piece."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def save(path: Path, state: dict) -> None:
    """Writes tensors, numbers, text, and lists and dicts of them; a killed run leaves the file from before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load(path: Path) -> dict | None:
    """What `save` wrote; None where nothing was saved."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
