"""Views as the UNet is trained on them: latents, inverse depth, partly masked views and captions as rows of tokens.

Written in chunks of rooms, each of which is one file, so that a killed run goes on with the next.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...geometry.depth import inverse_depth
from . import files
from .autoencoder import encode
from .config import SCALE
from .machine import Machine
from .rooms import Rooms
from .text import Words, shortened

CHUNK = 250  # rooms in a file
PARTIAL_EVERY = 4  # views of a room, of which one is also encoded with parts of it masked


class Latents(NamedTuple):
    """R rooms of 16 views; latents are scaled as the UNet is fed them.

    clean: (R, 16, 4, h, w) float16. depth: (R, 16, h, w) float16, as `inverse_depth` makes it.
    partial: (R, 4, 4, h, w) float16, every fourth view from a place of the room's own on with parts masked by grey.
    masks: (R, 4, h, w) uint8, 1 where those are masked. partial_views: (R, 4) which views they are.
    rows: (R, 16, 2, 77) int16 rows of the token table, of the whole caption and of a shortened one.
    """

    clean: torch.Tensor
    depth: torch.Tensor
    partial: torch.Tensor
    masks: torch.Tensor
    partial_views: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def read(cls, folder: Path) -> Latents:
        """All chunks of a folder that there are; empty ones raise ValueError."""
        chunks = [files.load(path) for path in sorted(folder.glob("*.pt"))]
        if not chunks:
            raise ValueError(f"{folder} holds no latents: run the stage 'latents' first.")
        return cls(*(torch.cat([chunk[field] for chunk in chunks]) for field in cls._fields))


class Encoder:
    """The frozen encoder, as it is at inference: means, scaled."""

    def __init__(self, module: nn.Module, machine: Machine) -> None:
        self.module, self.machine = machine.place(module).requires_grad_(False), machine

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 4, H / 8, W / 8) float32 on the CPU of (N, 3, H, W) pictures."""
        with torch.no_grad():
            parts = [encode(self.module, self.machine.tensor(part))[0].cpu() for part in pictures.split(8)]
        return torch.cat(parts) * SCALE


def encode_rooms(
    folder: Path,
    rooms: Rooms,
    encoder: Encoder,
    words: Words,
    tokenize: Callable[[str], list[int]],
    said: Callable[[int], None],
) -> None:
    """Encodes those chunks of `rooms` that the folder lacks; a last, smaller one only until there are more rooms."""
    for first in range(0, len(rooms), CHUNK):
        last = min(first + CHUNK, len(rooms))
        path = folder / f"{first:06d}-{last:06d}.pt"
        if path.exists():
            continue
        parts = [_encoded(rooms, room, encoder, words, tokenize) for room in range(first, last)]
        files.save(path, {field: torch.stack([getattr(p, field) for p in parts]) for field in Latents._fields})
        for shorter in set(folder.glob(f"{first:06d}-*.pt")) - {path}:
            shorter.unlink()
        said(last)


def all_words(rooms: Rooms, tokenize: Callable[[str], list[int]]) -> Words:
    """The words of all captions, and those that only shortened ones have."""
    texts = {caption for captions in rooms.captions for caption in captions}
    return Words({token for text in sorted(texts) for token in tokenize(text)} | set(tokenize("a room with and,")))


def _encoded(rooms: Rooms, number: int, encoder: Encoder, words: Words, tokenize: Callable) -> Latents:
    """One room, without the leading dimension."""
    random = Random(rooms.seeds[number])
    pictures = rooms.views([number] * 16, range(16))
    clean = encoder(pictures)
    depth = inverse_depth(torch.from_numpy(rooms.depth[number].astype(np.float32)), *clean.shape[-2:])
    views = torch.arange(random.randrange(PARTIAL_EVERY), 16, PARTIAL_EVERY)
    masks = torch.stack([_mask(pictures.shape[-1], random) for _ in views])
    partial = encoder(pictures[views] * (1 - masks[:, None]))  # 0 is grey
    # As the host brings masks to the size of latents.
    small = F.interpolate(masks[:, None], size=clean.shape[-2:], mode="bilinear")[:, 0].round()
    captions = [(text, shortened(text, random)) for text in rooms.captions[number]]
    rows = torch.tensor([[words.rows(tokenize(text)) for text in both] for both in captions], dtype=torch.int16)
    return Latents(clean.half(), depth.half(), partial.half(), small.to(torch.uint8), views, rows)


def _mask(size: int, random: Random) -> torch.Tensor:
    """(size, size), 1 where a view is to be painted: one side of it, or all but a rectangle."""
    mask = torch.ones(size, size)
    if random.random() < 0.5:
        side = mask if random.random() < 0.5 else mask.T
        width = random.randint(size // 8, 7 * size // 8)
        side[:, slice(0, width) if random.random() < 0.5 else slice(size - width, size)] = 0
    else:
        height, width = random.randint(size // 4, size), random.randint(size // 4, size)
        top, left = random.randint(0, size - height), random.randint(0, size - width)
        mask[top : top + height, left : left + width] = 0
    return mask
