"""All that is seen from one place, up and down too, so that the model paints full spheres: latents and captions."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from ...geometry.layouts import sphere
from ...geometry.panorama_views import PanoramaViews
from ...scenes.room import random_room
from ...scenes.viewpoints import at_viewpoint
from .rooms import FOV_DEG
from .taking import Eye, read_scenes

LEVEL = 8  # views of the level ring; those that look up and down follow


class Spheres(NamedTuple):
    """N spheres of V views. clean: (N, V, 4, h, w) float16. rows: (N, V, 2, 77) int16, as those of `Latents`."""

    clean: torch.Tensor
    rows: torch.Tensor
    captions: list[list[str]]

    @classmethod
    def read(cls, folder: Path) -> Spheres:
        """All spheres of a folder. Raises ValueError where there are none."""
        read = read_scenes(folder, "spheres")
        return cls(read["clean"], read["rows"], read["captions"])


def sphere_views(size: int) -> PanoramaViews:
    """The cameras of each sphere."""
    return sphere(LEVEL, FOV_DEG, size, size)


def take_sphere(eye: Eye, seed: int) -> dict:
    """The sphere around the viewpoint of a seed's room."""
    room = random_room(seed)
    return eye.take(room, at_viewpoint(sphere_views(eye.size), room, seed), Random(seed))[0]
