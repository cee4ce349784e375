"""What stands in a room: pieces of furniture as parts of three shapes.

A piece stands on y = 0 (up is -y) around x = z = 0, with its back at -z. Sizes are (width, height, depth) in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

RGB = tuple[float, float, float]
Size = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.80, 0.16, 0.15),
    "orange": (0.93, 0.50, 0.14),
    "yellow": (0.95, 0.78, 0.20),
    "green": (0.24, 0.56, 0.28),
    "teal": (0.10, 0.55, 0.56),
    "blue": (0.17, 0.36, 0.74),
    "purple": (0.48, 0.28, 0.62),
    "pink": (0.91, 0.52, 0.62),
    "white": (0.93, 0.92, 0.89),
    "grey": (0.52, 0.53, 0.55),
}
BRIGHT = tuple(name for name in COLOURS if name not in ("white", "grey"))
WOODS: tuple[RGB, ...] = ((0.70, 0.48, 0.27), (0.56, 0.36, 0.20), (0.80, 0.62, 0.40))
STEEL, SOIL, LEAF, CLAY = (0.30, 0.31, 0.33), (0.25, 0.17, 0.12), (0.22, 0.52, 0.22), (0.76, 0.40, 0.26)
LINEN: RGB = (0.95, 0.94, 0.90)


class Finish(NamedTuple):
    """How a surface looks. texture: a name in textures.TEXTURES, `period` metres wide. glow: 1 for what shines."""

    colour: RGB
    accent: RGB = (0.0, 0.0, 0.0)
    texture: str = "plain"
    period: float = 1.0
    glow: float = 0.0


class Part(NamedTuple):
    """A box, an ellipsoid ("sphere") or an upright cylinder of a size around a centre, turned by `yaw` radians."""

    shape: str
    centre: tuple[float, float, float]
    size: Size
    finish: Finish
    yaw: float = 0.0


class Piece(NamedTuple):
    """A piece of furniture. name: as a caption says it, without its article."""

    name: str
    parts: list[Part]


def scaled(colour: RGB, factor: float) -> RGB:
    """A darker or lighter shade."""
    return tuple(min(1.0, channel * factor) for channel in colour)


def wood(rng: Random) -> Finish:
    """Planks of one of the woods."""
    colour = rng.choice(WOODS)
    return Finish(colour, scaled(colour, 0.78), "grain", 0.11)


def on(shape: str, x: float, bottom: float, z: float, size: Size, finish: Finish) -> Part:
    """A part whose lowest point is `bottom` metres above the floor."""
    return Part(shape, (x, -bottom - size[1] / 2, z), size, finish)


def _legs(width: float, height: float, depth: float, thickness: float, finish: Finish) -> list[Part]:
    x, z = (width - thickness) / 2, (depth - thickness) / 2
    return [on("box", i * x, 0, j * z, (thickness, height, thickness), finish) for i in (-1, 1) for j in (-1, 1)]


def table(rng: Random) -> Piece:
    width, depth, finish = rng.uniform(0.9, 1.5), rng.uniform(0.7, 0.9), wood(rng)
    top = on("box", 0, 0.70, 0, (width, 0.05, depth), finish)
    vase = Finish(COLOURS[rng.choice(BRIGHT)])
    parts = [
        top,
        *_legs(width - 0.06, 0.70, depth - 0.06, 0.07, finish),
        on("sphere", 0, 0.75, 0, (0.2, 0.24, 0.2), vase),
    ]
    return Piece("wooden table", parts)


def chair(rng: Random) -> Piece:
    name = rng.choice(BRIGHT)
    cushion, frame = Finish(COLOURS[name]), wood(rng)
    return Piece(
        f"{name} chair",
        [
            *_legs(0.44, 0.42, 0.44, 0.05, frame),
            on("box", 0, 0.42, 0, (0.46, 0.07, 0.46), cushion),
            on("box", 0, 0.49, -0.205, (0.46, 0.45, 0.05), cushion),
        ],
    )


def sofa(rng: Random) -> Piece:
    name, width = rng.choice(BRIGHT), rng.uniform(1.6, 2.1)
    fabric, lighter = Finish(COLOURS[name]), Finish(scaled(COLOURS[name], 1.2))
    seat = (width - 0.4) / 2
    sides = [on("box", i * (width / 2 - 0.1), 0.08, 0, (0.2, 0.52, 0.9), fabric) for i in (-1, 1)]
    seats = [on("box", i * seat / 2, 0.30, 0.1, (seat - 0.02, 0.16, 0.68), lighter) for i in (-1, 1)]
    base = on("box", 0, 0.08, 0, (width - 0.4, 0.22, 0.88), fabric)
    back = on("box", 0, 0.30, -0.34, (width - 0.4, 0.52, 0.2), fabric)
    pillow = Finish(COLOURS[rng.choice(BRIGHT)], LINEN, "stripes", 0.08)
    pillows = [on("sphere", i * (seat - 0.25), 0.46, -0.1, (0.42, 0.36, 0.24), pillow) for i in (-1, 1)]
    return Piece(
        f"{name} sofa", [*sides, base, back, *seats, *pillows, *_legs(width - 0.1, 0.08, 0.8, 0.06, Finish(STEEL))]
    )


def shelf(rng: Random) -> Piece:
    width, height, finish = rng.uniform(0.8, 1.1), rng.uniform(1.6, 2.0), wood(rng)
    boards = [on("box", 0, 0.02 + i * (height - 0.06) / 4, 0, (width, 0.04, 0.32), finish) for i in range(5)]
    sides = [on("box", i * (width / 2 + 0.02), 0, 0, (0.04, height, 0.32), finish) for i in (-1, 1)]
    back = on("box", 0, 0, -0.15, (width, height, 0.02), Finish(scaled(finish.colour, 0.7)))
    books = []
    for level in range(4):
        row = (rng.uniform(0.4, 0.85) * width, rng.uniform(0.2, 0.28), 0.2)
        spines = Finish(COLOURS[rng.choice(BRIGHT)], COLOURS[rng.choice(BRIGHT)], "stripes", 0.07)
        left = rng.choice((-1, 1)) * (width - row[0]) / 2
        books.append(on("box", left, 0.06 + level * (height - 0.06) / 4, -0.01, row, spines))
    return Piece("bookshelf", [*boards, *sides, back, *books])


def cabinet(rng: Random) -> Piece:
    name, width, height = rng.choice((*BRIGHT, "white")), rng.uniform(0.8, 1.3), rng.uniform(0.75, 1.0)
    body, door = Finish(scaled(COLOURS[name], 0.85)), Finish(COLOURS[name])
    doors = [on("box", i * width / 4, 0.1, 0.215, (width / 2 - 0.04, height - 0.16, 0.03), door) for i in (-1, 1)]
    knobs = [on("sphere", i * 0.07, height * 0.55, 0.245, (0.05, 0.05, 0.05), Finish(STEEL)) for i in (-1, 1)]
    return Piece(f"{name} cabinet", [on("box", 0, 0, 0, (width, height, 0.42), body), *doors, *knobs])


def bed(rng: Random) -> Piece:
    name, width, frame = rng.choice(BRIGHT), rng.uniform(1.0, 1.6), wood(rng)
    cover = Finish(COLOURS[name], scaled(COLOURS[name], 1.25), rng.choice(("plain", "stripes", "checker")), 0.24)
    pillows = [on("sphere", i * width / 4, 0.48, -0.72, (width * 0.4, 0.2, 0.36), Finish(LINEN)) for i in (-1, 1)]
    return Piece(
        f"{name} bed",
        [
            on("box", 0, 0, -0.99, (width + 0.08, 0.95, 0.06), frame),
            on("box", 0, 0.05, 0, (width, 0.27, 1.92), frame),
            on("box", 0, 0.32, 0, (width - 0.04, 0.2, 1.88), Finish(LINEN)),
            on("box", 0, 0.31, 0.28, (width + 0.04, 0.24, 1.36), cover),
            *pillows,
        ],
    )


def lamp(rng: Random) -> Piece:
    name = rng.choice(("yellow", "red", "white", "pink"))
    shade = Finish(scaled(COLOURS[name], 1.15), glow=0.55)
    return Piece(
        f"floor lamp with a {name} shade",
        [
            on("cylinder", 0, 0, 0, (0.32, 0.03, 0.32), Finish(STEEL)),
            on("cylinder", 0, 0.03, 0, (0.04, 1.35, 0.04), Finish(STEEL)),
            on("cylinder", 0, 1.3, 0, (0.42, 0.32, 0.42), shade),
        ],
    )


def plant(rng: Random) -> Piece:
    height = rng.uniform(0.7, 1.0)
    leaves = [(0, height * 0.75, 0, 0.5), (0.13, height * 0.55, 0.1, 0.34), (-0.14, height * 0.6, -0.06, 0.36)]
    crown = [
        on("sphere", x, bottom, z, (width, width, width), Finish(scaled(LEAF, 1 + 0.15 * i)))
        for i, (x, bottom, z, width) in enumerate(leaves)
    ]
    pot = Finish(rng.choice((CLAY, COLOURS["white"], COLOURS["blue"])))
    soil, stem = Finish(SOIL), Finish(scaled(SOIL, 1.4))
    return Piece(
        "green plant",
        [
            on("cylinder", 0, 0, 0, (0.34, 0.34, 0.34), pot),
            on("cylinder", 0, 0.34, 0, (0.30, 0.01, 0.30), soil),
            on("cylinder", 0, 0.35, 0, (0.04, height * 0.6, 0.04), stem),
            *crown,
        ],
    )


def ball(rng: Random) -> Piece:
    name, width = rng.choice(BRIGHT), rng.uniform(0.3, 0.5)
    return Piece(
        f"{name} ball", [on("sphere", 0, 0, 0, (width,) * 3, Finish(COLOURS[name], LINEN, "stripes", width * 0.39))]
    )


LARGE: tuple[Callable[[Random], Piece], ...] = (sofa, shelf, cabinet, bed, table)
SMALL: tuple[Callable[[Random], Piece], ...] = (chair, lamp, plant, ball)
ANYWHERE = (table, chair, ball)  # the others stand with their back to a wall
