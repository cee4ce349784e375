"""`Room`: a furnished room made from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

from .furniture import ANYWHERE, BRIGHT, COLOURS, LARGE, LINEN, SMALL, WOODS, Finish, Part, Piece, on, scaled
from .textures import TEXTURES

Area = tuple[float, float, float, float]  # x0, z0, x1, z1 of a rectangle seen from above

SHAPES = ("box", "sphere", "cylinder")
THICKNESS = 0.3  # metres of walls, floor and ceiling; they reach as far past the corners, which are then tight
GAP = 0.12  # metres between pieces of furniture, at least
FREE = 0.65  # metres around one point near the middle that stay empty, so that there is room to walk
DOORWAY = 0.3  # metres before and beside a door that stay empty
MOST_TRIES = 60  # places that are tried for a piece of furniture before it is left out
WALL_COLOURS = {
    "white": (0.90, 0.88, 0.83),
    "blue": (0.52, 0.68, 0.84),
    "green": (0.62, 0.78, 0.60),
    "yellow": (0.94, 0.84, 0.56),
    "pink": (0.90, 0.68, 0.68),
    "orange": (0.92, 0.70, 0.50),
    "grey": (0.68, 0.70, 0.73),
}


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

    size: tuple[float, float, float]
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
    def of(cls, size: tuple[float, float, float], pieces: Sequence[Piece]) -> Room:
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
    surfaces, on_walls = _surfaces(rng, size), _on_walls(rng, size)
    doorway = next(footprint(piece.parts) for piece in on_walls if piece.name == "door")
    return Room.of(size, [*surfaces, *on_walls, *_furniture(rng, size, doorway)])


def _surfaces(rng: Random, size: tuple[float, float, float]) -> list[Piece]:
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


def _on_walls(rng: Random, size: tuple[float, float, float]) -> list[Piece]:
    """A window, a door and pictures: each wall has some of them, side by side."""
    frame, door = Finish((0.96, 0.95, 0.92)), Finish(COLOURS[rng.choice(("red", "teal", "blue", "green", "white"))])
    sky, meadow = (0.62, 0.82, 0.97), (0.45, 0.68, 0.35)
    pane = Finish(sky, meadow, "landscape", 0.9, glow=0.9)
    things = [
        ("window", (1.3, 1.1), 0.95, frame, pane),
        ("door", (0.9, 2.0), 0.0, scaled_finish(door, 0.75), door),
    ]
    for _ in range(rng.randint(1, 4)):
        main, other = (COLOURS[name] for name in rng.sample(BRIGHT, 2))
        canvas = Finish(main, other, rng.choice(("landscape", "checker", "stripes", "plain")), rng.uniform(0.12, 0.3))
        things.append(
            ("picture", (rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.7)), 1.35, Finish((0.2, 0.16, 0.13)), canvas)
        )
    rng.shuffle(things)
    walls = rng.sample(range(4), 4)
    pieces = []
    for number, (name, extent, bottom, border, inside) in enumerate(things):
        wall, slot = walls[number % 4], number // 4
        breadth = size[0] if wall % 2 == 0 else size[2]
        # The second thing on a wall takes its other half.
        reach = max(0.0, breadth / 4 - extent[0] / 2 - 0.1)
        along = (breadth / 4 if slot == 0 else -breadth / 4) + rng.uniform(-reach, reach)
        knob = [on("sphere", extent[0] * 0.36, 0.98, 0.05, (0.07, 0.07, 0.07), Finish((0.85, 0.72, 0.35)))]
        bars = [on("box", 0, bottom, 0.02, (0.05, extent[1], 0.05), border)]
        panel = on("box", 0, bottom + 0.05, 0.02, (extent[0] - 0.1, extent[1] - 0.1, 0.045), inside)
        parts = [on("box", 0, bottom, 0.01, (*extent, 0.04), border), panel]
        if name == "picture":
            mount = (extent[0] - 0.24, extent[1] - 0.24, 0.05)
            parts[1] = panel._replace(finish=Finish(LINEN))
            parts.append(on("box", 0, bottom + 0.12, 0.02, mount, inside))
        parts += {"door": knob, "window": bars}.get(name, [])
        pieces.append(Piece(name, _against_wall(parts, size, wall, along, 0.0)))
    return pieces


def scaled_finish(finish: Finish, factor: float) -> Finish:
    """The finish in a darker or lighter shade."""
    return finish._replace(colour=scaled(finish.colour, factor))


def _furniture(rng: Random, size: tuple[float, float, float], doorway: Area) -> list[Piece]:
    """4-10 pieces that stand apart from each other and leave a place near the middle and the doorway empty."""
    width, _, length = size
    free = (rng.uniform(-0.15, 0.15) * width, rng.uniform(-0.15, 0.15) * length)
    taken = [(free[0] - FREE, free[1] - FREE, free[0] + FREE, free[1] + FREE)]
    taken.append((doorway[0] - DOORWAY, doorway[1] - DOORWAY, doorway[2] + DOORWAY, doorway[3] + DOORWAY))
    wanted = min(10, max(4, round(width * length / 3.2) + rng.randint(0, 1)))
    pieces: list[Piece] = []
    # Large pieces first, each kind once before any comes again: else plants and balls take the walls.
    kinds = [kind for _ in range(3) for group in (LARGE, SMALL) for kind in rng.sample(group, len(group))]
    for kind in kinds:
        piece, at_wall = kind(rng), kind not in ANYWHERE
        for _ in range(MOST_TRIES):
            placed = Piece(piece.name, _placed(rng, piece.parts, size, at_wall))
            area = footprint(placed.parts)
            if _inside(area, size) and not any(_meet(area, other) for other in taken):
                pieces.append(placed)
                taken.append(area)
                break
        if len(pieces) == wanted:
            break
    return pieces


def _placed(rng: Random, parts: list[Part], size: tuple[float, float, float], at_wall: bool) -> list[Part]:
    if at_wall:
        wall = rng.randrange(4)
        breadth = size[0] if wall % 2 == 0 else size[2]
        return _against_wall(parts, size, wall, rng.uniform(-0.5, 0.5) * breadth, 0.03)
    place = rng.uniform(-0.5, 0.5) * size[0], rng.uniform(-0.5, 0.5) * size[2]
    return moved(parts, rng.uniform(-math.pi, math.pi), *place)


def _against_wall(
    parts: list[Part], size: tuple[float, float, float], wall: int, along: float, gap: float
) -> list[Part]:
    """The parts with their back `gap` before a wall (0: z least, then to the right), `along` it from its middle."""
    back = -min(part.centre[2] - part.size[2] / 2 for part in parts) if gap else 0.0
    yaw = wall * math.pi / 2
    distance = -(size[2] if wall % 2 == 0 else size[0]) / 2 + gap + back
    x, z = math.cos(yaw) * along + math.sin(yaw) * distance, math.cos(yaw) * distance - math.sin(yaw) * along
    return moved(parts, yaw, x, z)


def moved(parts: list[Part], yaw: float, x: float, z: float) -> list[Part]:
    """The parts turned by `yaw` to the right about the vertical and then moved."""
    c, s = math.cos(yaw), math.sin(yaw)
    return [
        part._replace(
            centre=(
                c * part.centre[0] + s * part.centre[2] + x,
                part.centre[1],
                c * part.centre[2] - s * part.centre[0] + z,
            ),
            yaw=part.yaw + yaw,
        )
        for part in parts
    ]


def footprint(parts: list[Part]) -> Area:
    """The rectangle (x0, z0, x1, z1) that the parts cover, seen from above."""
    reach = []
    for _, (x, _, z), (width, _, depth), _, yaw in parts:
        c, s = abs(math.cos(yaw)) / 2, abs(math.sin(yaw)) / 2
        across, along = c * width + s * depth, s * width + c * depth
        reach.append((x - across, z - along, x + across, z + along))
    x0, z0, x1, z1 = zip(*reach, strict=True)
    return min(x0), min(z0), max(x1), max(z1)


def _inside(area: Area, size: tuple[float, float, float]) -> bool:
    x, z = size[0] / 2 - 0.02, size[2] / 2 - 0.02
    return area[0] >= -x and area[1] >= -z and area[2] <= x and area[3] <= z


def _meet(one: Area, other: Area) -> bool:
    """Whether two rectangles are closer than GAP."""
    return all(one[i] < other[i + 2] + GAP and other[i] < one[i + 2] + GAP for i in (0, 1))
