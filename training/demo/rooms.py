"""Rendered rooms on disk: for each seed a ring of views from one place, with depth and captions.

A folder holds `pictures.u8`, `depth.f16` (files without headers that grow room by room) and `rooms.jsonl`, one line for
each room that is complete: what a killed run left beyond that is written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch

from ...scenes.captions import caption
from ...scenes.render import Rendering, render
from ...scenes.room import Room, random_room
from ...scenes.viewpoints import panorama_cameras

VIEWS, FOV_DEG, SAMPLES = 16, 90.0, 2  # 22.5 degrees apart: two rings of 8
HELD_OUT = range(64)  # seeds that nothing is trained on
FIRST_SEED = 1000  # of the rooms that are trained on


class Rooms:
    """The rooms of a folder that are complete: arrays on disk, and captions.

    pictures: (R, VIEWS, size, size, 3) uint8. depth: (R, VIEWS, size, size) float16, z in metres.
    captions: R lists of VIEWS sentences.
    """

    def __init__(self, folder: Path, size: int) -> None:
        lines = _complete_lines(folder)
        self.seeds = [line["seed"] for line in lines]
        self.captions = [line["captions"] for line in lines]
        shape = (len(lines), VIEWS, size, size)
        self.pictures = _mapped(folder / "pictures.u8", np.uint8, (*shape, 3))
        self.depth = _mapped(folder / "depth.f16", np.float16, shape)

    def __len__(self) -> int:
        return len(self.captions)

    def views(self, rooms: Sequence[int], views: Sequence[int]) -> torch.Tensor:
        """(N, 3, size, size) float32 in -1..1 of N places (room, view)."""
        return as_picture(torch.from_numpy(self.pictures[np.asarray(rooms), np.asarray(views)]))


def as_picture(pixels: torch.Tensor) -> torch.Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 in -1..1."""
    return pixels.movedim(-1, -3).float() / 127.5 - 1


def render_rooms(folder: Path, seeds: Sequence[int], size: int, said: Callable[[int], None]) -> None:
    """Renders the rooms of `seeds` that the folder lacks, in their order; `said` is called after each with its number.

    Raises ValueError for a folder that was made from other seeds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = [line["seed"] for line in _complete_lines(folder)]
    if there != list(seeds[: len(there)]):
        raise ValueError(f"{folder} holds rooms of other seeds; remove it to render them anew.")
    pictures, depth = (_growing(folder / name) for name in ("pictures.u8", "depth.f16"))
    with pictures, depth, _growing(folder / "rooms.jsonl") as lines:
        lines.truncate(_whole(lines.read()))
        lines.seek(0, os.SEEK_END)
        for number, seed in enumerate(seeds[len(there) :], len(there)):
            room, yaw, rendering = room_views(seed, size)
            _write(pictures, number, (rendering.images * 255).round().to(torch.uint8).numpy())
            _write(depth, number, rendering.depth.to(torch.float16).numpy())
            captions = [caption(room, things) for things in rendering.things]
            lines.write((json.dumps({"seed": seed, "yaw": yaw, "captions": captions}) + "\n").encode())
            said(number + 1)


def room_views(seed: int, size: int) -> tuple[Room, int, Rendering]:
    """The room of a seed, the yaw of its first view in whole degrees, and its views."""
    room, yaw = random_room(seed), Random(seed).randrange(360)
    return room, yaw, render(room, panorama_cameras(room, seed, VIEWS, FOV_DEG, size, size, float(yaw)), SAMPLES)


def _complete_lines(folder: Path) -> list[dict]:
    """What rooms.jsonl says, without a last line that a killed run left unfinished."""
    path = folder / "rooms.jsonl"
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text[: _whole(text)].splitlines()]


def _whole(text: bytes) -> int:
    """The length of the lines that have an end."""
    return text.rfind(b"\n") + 1


def _growing(path: Path):
    path.touch()
    return path.open("r+b", buffering=0)


def _write(file, number: int, array: np.ndarray) -> None:
    file.seek(number * array.nbytes)
    file.write(array.tobytes())


def _mapped(path: Path, dtype, shape: tuple[int, ...]) -> np.ndarray:
    if shape[0] == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape)
