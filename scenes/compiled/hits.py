"""What the rays of a tile hit, and what stands between them and the lamp."""

from __future__ import annotations

import math

import numpy as np

from ..light import AT_THE_POINT
from ..room import SHAPES
from .rows import (
    DEPTH,
    FAR,
    HALF,
    HIT,
    LAMP_X,
    LAMP_Y,
    LAMP_Z,
    LIGHT,
    ONE,
    PIXEL_X,
    PIXEL_Y,
    TINY,
    ZERO,
    X,
    Y,
    Z,
    compiled,
    inlined,
    larger,
    smaller,
)

BOX, SPHERE = SHAPES.index("box"), SHAPES.index("sphere")
REACH = np.float32(1 - AT_THE_POINT)  # of the way from the lamp, on which things cast a shadow


@inlined
def _slab(start, direction):
    """Where a ray enters and leaves -1..1 of one axis."""
    inverse = ONE / (direction if abs(direction) > TINY else TINY)
    middle, half = -start * inverse, abs(inverse)
    return middle - half, middle + half


@inlined
def _box(x, y, z, dx, dy, dz):
    """How far along a ray, in a box's own axes and half sizes, it comes in from outside; FAR if it does not."""
    x0, x1 = _slab(x, dx)
    y0, y1 = _slab(y, dy)
    z0, z1 = _slab(z, dz)
    enter, leave = max(max(x0, y0), z0), min(min(x1, y1), z1)
    return enter if (enter <= leave) & (enter > ZERO) else FAR


@inlined
def _sphere(x, y, z, dx, dy, dz):
    square = max(dx * dx + dy * dy + dz * dz, TINY * TINY)
    middle = -(x * dx + y * dy + z * dz) / square
    x, y, z = x + middle * dx, y + middle * dy, z + middle * dz
    left = ONE - (x * x + y * y + z * z)
    enter = middle - math.sqrt(max(left, ZERO) / square)
    return enter if (left >= ZERO) & (enter > ZERO) else FAR


@inlined
def _cylinder(x, y, z, dx, dy, dz):
    square = max(dx * dx + dz * dz, TINY * TINY)
    middle = -(x * dx + z * dz) / square
    x, z = x + middle * dx, z + middle * dz
    left = ONE - (x * x + z * z)
    half = math.sqrt(max(left, ZERO) / square)
    y0, y1 = _slab(y, dy)
    enter, leave = max(middle - half, y0), min(middle + half, y1)
    return enter if (left >= ZERO) & (enter <= leave) & (enter > ZERO) else FAR


def _first_hits(entry):
    """Makes the function that puts a primitive into DEPTH and HIT of the rays that hit it before anything else.

    start: (3,) the camera, turn: (3, 3) from pixels to directions; both in the primitive's own axes and half sizes.
    """

    @compiled
    def hit_first(start, turn, tile, rays, which):
        x, y, z = start[0], start[1], start[2]
        a, b, c = turn[0, 0], turn[0, 1], turn[0, 2]
        d, e, f = turn[1, 0], turn[1, 1], turn[1, 2]
        g, h, k = turn[2, 0], turn[2, 1], turn[2, 2]
        number = np.float32(which)
        for i in range(rays):
            u, v = tile[PIXEL_X + i], tile[PIXEL_Y + i]
            enter = entry(x, y, z, a * u + b * v + c, d * u + e * v + f, g * u + h * v + k)
            nearer = enter < tile[DEPTH + i]
            tile[DEPTH + i] = enter if nearer else tile[DEPTH + i]
            tile[HIT + i] = number if nearer else tile[HIT + i]

    return hit_first


def _shadow(entry):
    """Makes the function that puts 0 into LIGHT where a primitive stands between the lamp and a ray's end.

    own: (3, 3) from the world to the primitive's own axes and half sizes, around its centre (3,).
    """

    @compiled
    def shadow(own, centre, tile, rays):
        a, c, b, d, e = own[0, 0], own[0, 2], own[1, 1], own[2, 0], own[2, 2]
        cx, cy, cz = centre[0], centre[1], centre[2]
        for i in range(rays):
            x, y, z = tile[LAMP_X + i], tile[LAMP_Y + i], tile[LAMP_Z + i]
            dx, dy, dz = tile[X + i] - x, tile[Y + i] - y, tile[Z + i] - z
            x, y, z = x - cx, y - cy, z - cz
            enter = entry(a * x + c * z, b * y, d * x + e * z, a * dx + c * dz, b * dy, d * dx + e * dz)
            tile[LIGHT + i] = ZERO if enter <= REACH else tile[LIGHT + i]

    return shadow


_hit_box, _hit_sphere, _hit_cylinder = _first_hits(_box), _first_hits(_sphere), _first_hits(_cylinder)
_shadow_of_box, _shadow_of_sphere, _shadow_of_cylinder = _shadow(_box), _shadow(_sphere), _shadow(_cylinder)


@compiled
def first_hits(shapes, starts, turns, order, nearest, found, tile, rays):
    """Fills DEPTH and HIT with the first of `found` primitives in `order` that each ray hits."""
    for i in range(rays):
        tile[DEPTH + i], tile[HIT + i] = FAR, ZERO
    for place in range(found):
        farthest = ZERO
        for i in range(rays):
            farthest = larger(farthest, tile[DEPTH + i])
        if nearest[place] > farthest:
            break
        which = order[place]
        if shapes[which] == BOX:
            _hit_box(starts[which], turns[which], tile, rays, which)
        elif shapes[which] == SPHERE:
            _hit_sphere(starts[which], turns[which], tile, rays, which)
        else:
            _hit_cylinder(starts[which], turns[which], tile, rays, which)


@compiled
def bounds(tile, rays, box):
    """Puts middle and half size of the box around the rays' ends into (2, 3) `box`."""
    for axis, row in enumerate((X, Y, Z)):
        low, high = FAR, -FAR
        for i in range(rays):
            low, high = smaller(low, tile[row + i]), larger(high, tile[row + i])
        box[0, axis], box[1, axis] = HALF * (low + high), HALF * (high - low)


@compiled
def shadows(shapes, owns, centres, order, found, tile, rays):
    """Fills LIGHT with 1 where the lamp shines on the rays' ends, and with 0 elsewhere.

    order: `found` primitives that may cast a shadow there.
    """
    for i in range(rays):
        tile[LIGHT + i] = ONE
    for place in range(found):
        which = order[place]
        if shapes[which] == BOX:
            _shadow_of_box(owns[which], centres[which], tile, rays)
        elif shapes[which] == SPHERE:
            _shadow_of_sphere(owns[which], centres[which], tile, rays)
        else:
            _shadow_of_cylinder(owns[which], centres[which], tile, rays)
