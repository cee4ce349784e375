"""`Room`: a furnished room made from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

from .furniture import Piece, Size
from .placing import footprint, furniture
from .textures import TEXTURES
from .walls import on_walls, surfaces

SHAPES = ("box", "sphere", "cylinder")


@dataclass(frozen=True, eq=False)
class Room:
    """P primitives that close a room and furnish it. Tensors are on the CPU, floating ones float64.

    size: (width, height, length) inside, along x, y and z.
    shape: (P,) places in SHAPES. centre, half_size: (P, 3). yaw: (P,) radians to the right.
    colours: (P, 2, 3) main and accent colour, as displayed, 0..1. texture: (P,) places in textures.TEXTURES.
    period: (P,) metres of a texture's period. glow: (P,) how much of its colour a primitive shines by itself.
    thing: (P,) which of the things in `names` it belongs to.
    names: what captions call each thing: walls, floor and ceiling first, then what is on and between them.
    """

    size: Size
    shape: torch.Tensor
    centre: torch.Tensor
    half_size: torch.Tensor
    yaw: torch.Tensor
    colours: torch.Tensor
    texture: torch.Tensor
    period: torch.Tensor
    glow: torch.Tensor
    thing: torch.Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, size: Size, pieces: Sequence[Piece]) -> Room:
        """The room of things that stand where their parts say."""
        parts = [part for piece in pieces for part in piece.parts]
        finishes = [part.finish for part in parts]
        return cls(
            size,
            torch.tensor([SHAPES.index(part.shape) for part in parts]),
            torch.tensor([part.centre for part in parts], dtype=torch.float64),
            torch.tensor([part.size for part in parts], dtype=torch.float64) / 2,
            torch.tensor([part.yaw for part in parts], dtype=torch.float64),
            torch.tensor([(finish.colour, finish.accent) for finish in finishes], dtype=torch.float64),
            torch.tensor([TEXTURES.index(finish.texture) for finish in finishes]),
            torch.tensor([finish.period for finish in finishes], dtype=torch.float64),
            torch.tensor([finish.glow for finish in finishes], dtype=torch.float64),
            torch.tensor([number for number, piece in enumerate(pieces) for _ in piece.parts]),
            tuple(piece.name for piece in pieces),
        )


def random_room(seed: int) -> Room:
    """The room of a seed, the same on every machine: 3-7 m wide and long, 2.4-3.2 m high, with 4-10 pieces."""
    rng = Random(seed)
    size = (rng.uniform(3, 7), rng.uniform(2.4, 3.2), rng.uniform(3, 7))
    closing, hanging = surfaces(rng, size), on_walls(rng, size)
    doorway = next(footprint(piece.parts) for piece in hanging if piece.name == "door")
    return Room.of(size, [*closing, *hanging, *furniture(rng, size, doorway)])
