"""What is seen around one place, as panorama weights are trained on it besides rings: latents and captions.

Full spheres, so that the model paints what is up and down, too; and rings of finer views, whose noise is never so
strong that it decides what stands where, so that the model sharpens panoramas that were painted coarsely and enlarged.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from ...geometry.layouts import ring, sphere
from ...geometry.panorama_views import PanoramaViews
from ...scenes.room import random_room
from ...scenes.viewpoints import at_viewpoint
from .context import LARGE, SIZE
from .diffusion import STEPS
from .rooms import FOV_DEG
from .taking import Eye, read_scenes

LEVEL = 8  # views of a level ring


class Sort(NamedTuple):
    """Scenes of one sort. rooms: how many are rendered to train on.

    share: of panorama's steps. at_once: scenes in a step. timesteps: below which noise is drawn.
    """

    cameras: PanoramaViews
    rooms: int
    share: float
    at_once: int
    timesteps: int


SORTS = {
    "spheres": Sort(sphere(LEVEL, FOV_DEG, SIZE, SIZE), 3000, 0.35, 4, STEPS),
    "fine": Sort(ring(LEVEL, FOV_DEG, LARGE, LARGE), 600, 0.2, 2, 600),
}
SORT_SHARES = {name: sort.share for name, sort in SORTS.items()}


class Around(NamedTuple):
    """N scenes of V views. clean: (N, V, 4, h, w) float16. rows: (N, V, 2, 77) int16, as those of `Latents`."""

    clean: torch.Tensor
    rows: torch.Tensor
    captions: list[list[str]]

    @classmethod
    def read(cls, folder: Path, sort: str) -> Around:
        """All scenes of a folder. Raises ValueError where there are none."""
        read = read_scenes(folder, sort)
        return cls(read["clean"], read["rows"], read["captions"])


def take_around(eye: Eye, cameras: PanoramaViews, seed: int) -> dict:
    """What is seen around the viewpoint of a seed's room."""
    room = random_room(seed)
    return eye.take(room, at_viewpoint(cameras, room, seed), Random(seed))[0]
