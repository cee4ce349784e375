"""What is computed once: latents and text, kept in memory, and beyond its limit in files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

MB = 2**20
Tensors = dict[str, torch.Tensor]


class Cache:
    """Tensors by key, for the time of one process.

    memory_bytes: what may be kept in memory; the rest goes to files in `folder`, which is this process's own, and which
    `close` removes; None: all is kept in memory. Nothing is taken over from an earlier process: models and pictures may
    have changed since.
    """

    def __init__(self, folder: Path | None = None, memory_bytes: int = 1024 * MB) -> None:
        self._left, self._folder = memory_bytes, folder
        self._kept: dict[str, Tensors] = {}
        self._files: dict[str, Path] = {}
        self._remove()  # a process that was killed has left its own

    def get(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """What was made for the key, or is made now. Nothing may be changed in place."""
        if key in self._kept:
            return self._kept[key]
        if key in self._files:
            return load_file(self._files[key])
        made = make()
        size = sum(tensor.numel() * tensor.element_size() for tensor in made.values())
        if size <= self._left or self._folder is None:
            self._left -= size
            self._kept[key] = made
        else:
            self._files[key] = self._written(made)
        return made

    def close(self) -> None:
        """Removes the files."""
        self._remove()
        self._kept.clear()
        self._files.clear()

    def _remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, tensors: Tensors) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self._files)}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return path
