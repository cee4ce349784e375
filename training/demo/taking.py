"""Scenes whose views are trained together: rendered, encoded, and written in chunks, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from ...geometry.cameras import Cameras
from ...scenes.captions import captions_of
from ...scenes.render import Rendering, render
from ...scenes.room import Room
from . import files
from .latents import Encoder
from .rooms import SAMPLES
from .text import Words, shortened

CHUNK = 50  # scenes in a file


@dataclass(frozen=True)
class Eye:
    """Takes views of rooms, `size` pixels wide and high."""

    size: int
    encoder: Encoder
    words: Words
    tokenize: Callable[[str], list[int]]

    def take(self, room: Room, cameras: Cameras, random: Random) -> tuple[dict, Rendering]:
        """What is kept of V views, and what was rendered.

        clean: (V, 4, h, w) float16 latents. rows: (V, 2, 77) int16, as those of `Latents`. captions: V sentences.
        """
        rendering = render(room, cameras, SAMPLES)
        captions = captions_of(room, rendering.things)
        rows = [[self._rows(text) for text in (caption, shortened(caption, random))] for caption in captions]
        clean = self.encoder(rendering.images.movedim(-1, 1) * 2 - 1).half()
        return {"clean": clean, "rows": torch.tensor(rows, dtype=torch.int16), "captions": captions}, rendering

    def _rows(self, text: str) -> list[int]:
        return self.words.rows(self.tokenize(text))


def take_scenes(folder: Path, seeds: range, take: Callable[[int], dict], said: Callable[[int], None]) -> None:
    """Writes what `take` keeps of the scene of each seed, in chunks; those that the folder has stay.

    said: called after each chunk with the number of scenes.
    """
    for first in range(0, len(seeds), CHUNK):
        path = folder / f"{first:06d}.pt"
        if path.exists():
            continue
        taken = [take(seed) for seed in seeds[first : first + CHUNK]]
        chunk = {name: torch.stack([one[name] for one in taken]) for name in taken[0] if name != "captions"}
        files.save(path, chunk | {"captions": [one["captions"] for one in taken]})
        said(first + len(taken))


def read_scenes(folder: Path, stage: str) -> dict:
    """What `take_scenes` wrote, all chunks together. Raises ValueError where there is nothing."""
    chunks = [files.load(path) for path in sorted(folder.glob("*.pt"))]
    if not chunks:
        raise ValueError(f"{folder} holds no scenes: run the stage '{stage}' first.")
    read = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0] if name != "captions"}
    return read | {"captions": [said for chunk in chunks for said in chunk["captions"]]}
