"""Where things stand in a room: against its walls or anywhere, apart from each other."""

from __future__ import annotations

import math
from random import Random

from .furniture import ANYWHERE, LARGE, SMALL, Part, Piece, Size

GAP = 0.12  # metres between pieces of furniture, at least
FREE = 0.65  # metres around one point near the middle that stay empty, so that there is room to walk
DOORWAY = 0.3  # metres before and beside a door that stay empty
BEHIND = 0.03  # metres between a wall and what stands at it: the skirting board is half as thick
MOST_TRIES = 60  # places that are tried for a piece of furniture before it is left out

Area = tuple[float, float, float, float]  # x0, z0, x1, z1 of a rectangle seen from above


def furniture(rng: Random, size: Size, doorway: Area) -> list[Piece]:
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


def _placed(rng: Random, parts: list[Part], size: Size, at_wall: bool) -> list[Part]:
    if at_wall:
        wall = rng.randrange(4)
        breadth = size[0] if wall % 2 == 0 else size[2]
        back = -footprint(parts)[1]
        return against_wall(parts, size, wall, rng.uniform(-0.5, 0.5) * breadth, back + BEHIND)
    place = rng.uniform(-0.5, 0.5) * size[0], rng.uniform(-0.5, 0.5) * size[2]
    return _moved(parts, rng.uniform(-math.pi, math.pi), *place)


def against_wall(parts: list[Part], size: Size, wall: int, along: float, before: float = 0.0) -> list[Part]:
    """The parts turned to face the room from a wall, their z = 0 `before` it and `along` it from its middle, in metres.

    wall: 0 to 3, those of least z, least x, greatest z and greatest x.
    """
    yaw = wall * math.pi / 2
    distance = before - (size[2] if wall % 2 == 0 else size[0]) / 2
    x, z = math.cos(yaw) * along + math.sin(yaw) * distance, math.cos(yaw) * distance - math.sin(yaw) * along
    return _moved(parts, yaw, x, z)


def _moved(parts: list[Part], yaw: float, x: float, z: float) -> list[Part]:
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


def _inside(area: Area, size: Size) -> bool:
    x, z = size[0] / 2 - 0.02, size[2] / 2 - 0.02
    return area[0] >= -x and area[1] >= -z and area[2] <= x and area[3] <= z


def _meet(one: Area, other: Area) -> bool:
    """Whether two rectangles are closer than GAP."""
    return all(one[i] < other[i + 2] + GAP and other[i] < one[i + 2] + GAP for i in (0, 1))
