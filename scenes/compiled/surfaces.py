"""What surfaces look like: their directions and textures, one primitive after the other, as `render` and `textures`."""

from __future__ import annotations

import math

import numpy as np

from ..room import SHAPES
from ..textures import BRICKS, COURSES, HILLS, SPREAD, TEXTURES
from .rows import (
    BLUE,
    GLOW,
    GREEN,
    HALF,
    HIT,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    ONE,
    RED,
    SHARE,
    TINY,
    TWO,
    ZERO,
    U,
    V,
    X,
    Y,
    Z,
    compiled,
    inlined,
)

BOX, SPHERE = SHAPES.index("box"), SHAPES.index("sphere")
PLAIN, CHECKER, STRIPES, LANDSCAPE = (TEXTURES.index(name) for name in ("plain", "checker", "stripes", "landscape"))
PLANKS, GRAIN = TEXTURES.index("planks"), TEXTURES.index("grain")


def _floats(numbers):
    return tuple(np.float32(number) for number in numbers)


PLANK_COURSES, GRAIN_COURSES, BRICK_COURSES = (_floats(COURSES[name]) for name in ("planks", "grain", "bricks"))
MOST, STEP, ROW_STEP = _floats(SPREAD)
OF_BRICKS = np.float32(BRICKS)
LOW, WAVE, OFTEN, SECOND, OFTENER, PHASE = _floats(HILLS)


@compiled
def paint(which, body, finish, tile, rays):
    """Fills normals, colours and GLOW of the rays that hit primitive `which`.

    body: (3, 3) from the world to its own axes and half sizes, (3,) centre, (3,) half sizes, cosine and sine of its
    turn, shape. finish: (2, 3) colours, period, glow, texture.
    """
    colours, period, glow, texture = finish
    number = np.float32(which)
    _turn_outwards(number, body, ONE / period, tile, rays)
    if texture != PLAIN and body[4] != BOX:
        _go_around(number, body, body[2][0] / period, tile, rays)
    _choose_share(texture, tile, rays)
    for channel, row in enumerate((RED, GREEN, BLUE)):
        main, more = colours[0, channel], colours[1, channel] - colours[0, channel]
        for i in range(rays):
            tile[row + i] = main + tile[SHARE + i] * more if tile[HIT + i] == number else tile[row + i]
    for i in range(rays):
        tile[GLOW + i] = glow if tile[HIT + i] == number else tile[GLOW + i]


@compiled
def _turn_outwards(number, body, density, tile, rays):
    """Fills the normals of the rays that hit a primitive, and U and V as on boxes. density: periods per metre."""
    own, centre, half_size, turn, shape = body
    cx, cy, cz = centre[0], centre[1], centre[2]
    width, height, length = half_size[0], half_size[1], half_size[2]
    c, s = turn[0], turn[1]
    e, h, b, g, k = own[0, 0], own[0, 2], own[1, 1], own[2, 0], own[2, 2]
    box, sphere = shape == BOX, shape == SPHERE
    for i in range(rays):
        px, py, pz = tile[X + i] - cx, tile[Y + i] - cy, tile[Z + i] - cz
        x, y, z = e * px + h * pz, b * py, g * px + k * pz
        # The face of a box or a cylinder's end is the axis along which a point is farthest out.
        largest = max(max(abs(x), abs(y)), abs(z))
        flat = box | (not sphere) & (y * y > x * x + z * z)
        nx = x if (not flat) | (abs(x) == largest) else ZERO
        ny = y if sphere | flat & (abs(y) == largest) else ZERO
        nz = z if (not flat) | (abs(z) == largest) else ZERO
        nx, ny, nz = nx / width, ny / height, nz / length
        scale = ONE / math.sqrt(max(nx * nx + ny * ny + nz * nz, TINY * TINY))
        nx, ny, nz = nx * scale, ny * scale, nz * scale
        tile[U + i] = density * (z * length if abs(nx) > HALF else x * width)
        tile[V + i] = density * (z * length if abs(ny) > HALF else y * height)
        mine = tile[HIT + i] == number
        tile[NORMAL_X + i] = c * nx + s * nz if mine else tile[NORMAL_X + i]
        tile[NORMAL_Y + i] = ny if mine else tile[NORMAL_Y + i]
        tile[NORMAL_Z + i] = c * nz - s * nx if mine else tile[NORMAL_Z + i]


@compiled
def _go_around(number, body, density, tile, rays):
    """Fills U as on what is round. density: texture periods per radian."""
    own, centre = body[0], body[1]
    for i in range(rays):
        if tile[HIT + i] == number:
            x, z = tile[X + i] - centre[0], tile[Z + i] - centre[2]
            tile[U + i] = math.atan2(own[0, 0] * x + own[0, 2] * z, -own[2, 0] * x - own[2, 2] * z) * density


@compiled
def _choose_share(texture, tile, rays):
    """Fills SHARE from U and V, as textures.accent_share."""
    if texture == PLAIN:
        for i in range(rays):
            tile[SHARE + i] = ZERO
    elif texture == CHECKER:
        for i in range(rays):
            tile[SHARE + i] = _odd(math.floor(tile[U + i]) + math.floor(tile[V + i]))
    elif texture == STRIPES:
        for i in range(rays):
            tile[SHARE + i] = _odd(math.floor(tile[U + i]))
    elif texture == LANDSCAPE:
        for i in range(rays):
            u = tile[U + i]
            hills = LOW + WAVE * math.sin(OFTEN * u) + SECOND * math.sin(OFTENER * u + PHASE)
            tile[SHARE + i] = ONE if tile[V + i] > hills else ZERO
    elif texture == PLANKS:
        _lay_boards(PLANK_COURSES, ONE, tile, rays)
    elif texture == GRAIN:
        _lay_boards(GRAIN_COURSES, ONE, tile, rays)
    else:
        _lay_boards(BRICK_COURSES, OF_BRICKS, tile, rays)


@inlined
def _odd(whole):
    return whole - TWO * math.floor(whole * HALF)


@compiled
def _lay_boards(courses, factor, tile, rays):
    """Fills SHARE with what boards have, times a factor, and with 1 in their gaps."""
    length, rows, shift, gap_width, gap_height = courses
    for i in range(rays):
        v = tile[V + i] * rows
        row = math.floor(v)
        along = tile[U + i] / length + shift * row
        board = math.floor(along)
        spread = STEP * board + ROW_STEP * row
        share = factor * MOST * (spread - math.floor(spread))
        tile[SHARE + i] = ONE if (along - board < gap_width) | (v - row < gap_height) else share
