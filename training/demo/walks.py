"""Walks through rooms as depth weights are trained on them: latents, captions, and cameras with their depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from ...geometry.posed import PosedViews
from ...scenes.captions import captions_of
from ...scenes.paths import walk
from ...scenes.render import render
from ...scenes.room import random_room
from . import files
from .latents import Encoder
from .rooms import SAMPLES
from .text import Words, shortened

VIEWS, FOV_DEG = 8, (55.0, 75.0)
CHUNK = 50  # walks in a file


class Walks(NamedTuple):
    """N walks of VIEWS views. clean: (N, V, 4, h, w) float16. rows: (N, V, 2, 77) int16, as those of `Latents`.

    inputs: (N, V, 1, h, w) what the UNet is fed beside the latents: it follows from the cameras' depth.
    """

    clean: torch.Tensor
    inputs: torch.Tensor
    rows: torch.Tensor
    cameras: list[PosedViews]
    captions: list[list[str]]

    @classmethod
    def read(cls, folder: Path) -> Walks:
        """All walks of a folder. Raises ValueError where there are none."""
        chunks = [files.load(path) for path in sorted(folder.glob("*.pt"))]
        if not chunks:
            raise ValueError(f"{folder} holds no walks: run the stage 'walks' first.")
        parts = {name: torch.cat([chunk[name] for chunk in chunks]) for name in ("clean", "rows", "depth", "k", "pose")}
        height, width = parts["depth"].shape[-2:]
        each = zip(parts["k"], parts["pose"], parts["depth"].float(), strict=True)
        cameras = [PosedViews(k, pose, width, height, depth=depth) for k, pose, depth in each]
        inputs = torch.stack([one.own_inputs(*parts["clean"].shape[-2:]) for one in cameras])
        return cls(
            parts["clean"], inputs, parts["rows"], cameras, [said for chunk in chunks for said in chunk["captions"]]
        )


def take_walks(
    folder: Path,
    seeds: range,
    size: int,
    encoder: Encoder,
    words: Words,
    tokenize: Callable[[str], list[int]],
    said: Callable[[int], None],
) -> None:
    """Renders and encodes one walk through the room of each seed, in chunks; those that the folder has stay."""
    for first in range(0, len(seeds), CHUNK):
        path = folder / f"{first:06d}.pt"
        if path.exists():
            continue
        taken = [_walk(seed, size, encoder, words, tokenize) for seed in seeds[first : first + CHUNK]]
        chunk = {name: torch.stack([one[name] for one in taken]) for name in taken[0] if name != "captions"}
        files.save(path, chunk | {"captions": [one["captions"] for one in taken]})
        said(first + len(taken))


def _walk(seed: int, size: int, encoder: Encoder, words: Words, tokenize: Callable) -> dict:
    room, random = random_room(seed), Random(seed)
    cameras = walk(room, seed, VIEWS, size, size, random.uniform(*FOV_DEG))
    rendering = render(room, cameras, SAMPLES)
    captions = captions_of(room, rendering.things)
    rows = [[words.rows(tokenize(text)) for text in (caption, shortened(caption, random))] for caption in captions]
    return {
        "clean": encoder(rendering.images.movedim(-1, 1) * 2 - 1).half(),
        "rows": torch.tensor(rows, dtype=torch.int16),
        "depth": rendering.depth.half(),
        "k": cameras.intrinsics,
        "pose": cameras.cam_to_world,
        "captions": captions,
    }
