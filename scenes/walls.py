"""What closes a room, and what is on its walls."""

from __future__ import annotations

from random import Random

from .furniture import BRIGHT, COLOURS, LINEN, WOODS, Finish, Part, Piece, Size, on, scaled
from .placing import against_wall

THICKNESS = 0.3  # metres of walls, floor and ceiling; they reach as far past the corners, which are then tight
WALL_COLOURS = {
    "white": (0.90, 0.88, 0.83),
    "blue": (0.52, 0.68, 0.84),
    "green": (0.62, 0.78, 0.60),
    "yellow": (0.94, 0.84, 0.56),
    "pink": (0.90, 0.68, 0.68),
    "orange": (0.92, 0.70, 0.50),
    "grey": (0.68, 0.70, 0.73),
}


def surfaces(rng: Random, size: Size) -> list[Piece]:
    """Walls, floor and ceiling, as boxes around the room."""
    width, height, length = size
    outer = (width + 2 * THICKNESS, height + 2 * THICKNESS, length + 2 * THICKNESS)
    walls, wall = _wall_finish(rng)
    floor, ground = _floor_finish(rng)
    x, z = (width + THICKNESS) / 2, (length + THICKNESS) / 2
    ends = [Part("box", (0, -height / 2, side * z), (outer[0], outer[1], THICKNESS), wall) for side in (-1, 1)]
    sides = [Part("box", (side * x, -height / 2, 0), (THICKNESS, outer[1], outer[2]), wall) for side in (-1, 1)]
    slab = (outer[0], THICKNESS, outer[2])
    light = on("cylinder", 0, height - 0.06, 0, (0.5, 0.06, 0.5), Finish((1.0, 0.97, 0.88), glow=1.0))
    skirting = Finish((0.93, 0.91, 0.87))
    low = [on("box", 0, 0, side * length / 2, (width, 0.09, 0.03), skirting) for side in (-1, 1)]
    low += [on("box", side * width / 2, 0, 0, (0.03, 0.09, length), skirting) for side in (-1, 1)]
    return [
        Piece(walls, [*ends, *sides, *low]),
        Piece(floor, [on("box", 0, -THICKNESS, 0, slab, ground)]),
        Piece("ceiling", [on("box", 0, height, 0, slab, Finish((0.95, 0.94, 0.91))), light]),
    ]


def _wall_finish(rng: Random) -> tuple[str, Finish]:
    name = rng.choice(list(WALL_COLOURS))
    colour = WALL_COLOURS[name]
    kind = rng.choice(("plain", "plain", "plain", "stripes", "bricks"))
    if kind == "bricks":
        return "brick walls", Finish((0.72, 0.42, 0.33), (0.86, 0.80, 0.74), "bricks", 0.30)
    if kind == "stripes":
        return f"{name} striped walls", Finish(colour, scaled(colour, 0.90), "stripes", 0.25)
    return f"{name} walls", Finish(colour)


def _floor_finish(rng: Random) -> tuple[str, Finish]:
    kind = rng.choice(("planks", "planks", "checker", "plain"))
    if kind == "planks":
        colour = rng.choice(WOODS)
        return "wooden floor", Finish(colour, scaled(colour, 0.72), "planks", 0.16)
    if kind == "checker":
        name = rng.choice(("grey", "teal", "blue", "green"))
        return f"{name} tiled floor", Finish((0.90, 0.88, 0.83), scaled(COLOURS[name], 0.9), "checker", 0.45)
    name = rng.choice(("grey", "teal", "purple", "pink", "green"))
    carpet = tuple(0.55 * channel + 0.3 for channel in COLOURS[name])
    return f"{name} carpet", Finish(carpet, scaled(carpet, 0.88), "stripes", 0.5)


def on_walls(rng: Random, size: Size) -> list[Piece]:
    """A window, a door and 1-4 pictures: at most two things on a wall, each in its own half."""
    pieces = [_window(), _door(rng), *(_picture(rng) for _ in range(rng.randint(1, 4)))]
    rng.shuffle(pieces)
    walls = rng.sample(range(4), 4)
    hung = []
    for number, piece in enumerate(pieces):
        wall, side = walls[number % 4], 1 if number < 4 else -1
        quarter = (size[0] if wall % 2 == 0 else size[2]) / 4
        reach = max(0.0, quarter - piece.parts[0].size[0] / 2 - 0.1)
        along = side * quarter + rng.uniform(-reach, reach)
        hung.append(Piece(piece.name, against_wall(piece.parts, size, wall, along)))
    return hung


def _window() -> Piece:
    frame = Finish((0.96, 0.95, 0.92))
    view = Finish((0.62, 0.82, 0.97), (0.45, 0.68, 0.35), "landscape", 0.9, glow=0.9)
    bar = on("box", 0, 0.95, 0.02, (0.05, 1.1, 0.05), frame)
    return Piece("window", [*_framed(1.3, 1.1, 0.95, frame, view), bar])


def _door(rng: Random) -> Piece:
    colour = COLOURS[rng.choice(("red", "teal", "blue", "green", "white"))]
    knob = on("sphere", 0.324, 0.98, 0.05, (0.07, 0.07, 0.07), Finish((0.85, 0.72, 0.35)))
    return Piece("door", [*_framed(0.9, 2.0, 0.0, Finish(scaled(colour, 0.75)), Finish(colour)), knob])


def _picture(rng: Random) -> Piece:
    main, accent = (COLOURS[name] for name in rng.sample(BRIGHT, 2))
    painted = Finish(main, accent, rng.choice(("landscape", "checker", "stripes", "plain")), rng.uniform(0.12, 0.3))
    width, height = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.7)
    canvas = on("box", 0, 1.47, 0.02, (width - 0.24, height - 0.24, 0.05), painted)
    return Piece("picture", [*_framed(width, height, 1.35, Finish((0.2, 0.16, 0.13)), Finish(LINEN)), canvas])


def _framed(width: float, height: float, bottom: float, frame: Finish, inside: Finish) -> list[Part]:
    """A panel in a frame, whose outer size is given, on the wall z = 0."""
    panel = on("box", 0, bottom + 0.05, 0.02, (width - 0.1, height - 0.1, 0.045), inside)
    return [on("box", 0, bottom, 0.01, (width, height, 0.04), frame), panel]
