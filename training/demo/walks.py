"""Walks through rooms as depth weights are trained on them: latents, captions, and cameras with their depth."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from ...geometry.posed import PosedViews
from ...scenes.paths import walk
from ...scenes.room import random_room
from .taking import Eye, read_scenes

VIEWS, FOV_DEG = 8, (55.0, 75.0)


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
        read = read_scenes(folder, "walks")
        height, width = read["depth"].shape[-2:]
        each = zip(read["k"], read["pose"], read["depth"].float(), strict=True)
        cameras = [PosedViews(k, pose, width, height, depth=depth) for k, pose, depth in each]
        inputs = torch.stack([one.own_inputs(*read["clean"].shape[-2:]) for one in cameras])
        return cls(read["clean"], inputs, read["rows"], cameras, read["captions"])


def take_walk(eye: Eye, seed: int) -> dict:
    """One walk through the room of a seed."""
    room, random = random_room(seed), Random(seed)
    cameras = walk(room, seed, VIEWS, eye.size, eye.size, random.uniform(*FOV_DEG))
    kept, rendering = eye.take(room, cameras, random)
    return kept | {"depth": rendering.depth.half(), "k": cameras.intrinsics, "pose": cameras.cam_to_world}
