"""Pictures of a room, tile by tile: the one function that is called from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numba
import numpy as np

from .culling import grow, may_see, may_shadow, within
from .hits import bounds, first_hits, shadows
from .lighting import display, lighten
from .rows import (
    BLUE,
    DEPTH,
    END,
    FAR,
    GREEN,
    HALF,
    HIT,
    LAMP_X,
    LAMP_Y,
    LAMP_Z,
    ONE,
    PIXEL_X,
    PIXEL_Y,
    RED,
    SHIFT_X,
    SHIFT_Y,
    ZERO,
    X,
    Y,
    Z,
    compiled,
    inlined,
)
from .surfaces import paint

BLOCK = 4  # tiles along a side: their primitives are looked for together first
READ = "light", "room", "textures", "traced"  # the modules beside this package whose numbers are compiled in


def _sources() -> str:
    """What the compiled code is made from."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), *(folder.parent / f"{name}.py" for name in READ)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _cached(made_from: tuple[str, str]):
    """`trace`, compiled once for all processes, as long as it would be made from the same.

    numba's cache knows a function by its own file and by what it encloses: not by what it reads elsewhere, nor by the
    name of the package, which the host chooses and without which it cannot be loaded. So it encloses both.
    """

    @numba.njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
    def trace(primitives, views, lamps, grid, size, images, depths, things):
        """Fills (V, H, W, 3) images, (V, H, W) depths and things of V views; `traced` says what the others are."""
        made_from  # noqa: B018
        _trace(primitives, views, lamps, grid, size, images, depths, things)

    return trace


@compiled
def _trace(primitives, views, lamps, grid, size, images, depths, things):
    starts, turns, origins, worlds = views
    height, width = depths.shape[1:]
    many, step = len(primitives[0]), grid[4] * BLOCK
    every, nearest, near = np.arange(many), np.empty(many, np.float32), np.empty(many, np.int64)
    memory = np.empty(END, np.float32), np.empty_like(near), nearest, np.empty_like(near)
    for view in range(len(depths)):
        camera = starts[view], turns[view], origins[view], worlds[view]
        picture = images[view], depths[view], things[view]
        for top in range(0, height, step):
            for left in range(0, width, step):
                block = left, top, min(left + step, width), min(top + step, height)
                x, y, across, down = _middle(block)
                found = may_see(starts[view], turns[view], every, many, x, y, across, down, near, nearest)
                _trace_block(primitives, camera, lamps, grid, size, block, near[:found], memory, picture)


@inlined
def _middle(area):
    """The middle of the pixels in (left, top, right, bottom), and half their width and height."""
    left, top, right, bottom = area
    across, down = HALF * np.float32(right - left), HALF * np.float32(bottom - top)
    return np.float32(left) + across - HALF, np.float32(top) + down - HALF, across, down


@compiled
def _trace_block(primitives, camera, lamps, grid, size, block, near, memory, picture):
    """Fills block (left, top, right, bottom) of a picture: (H, W, 3) image, (H, W) depth and things.

    near: the primitives that may be seen there.
    """
    tile, order, nearest, casting = memory
    starts, turns, origin, world = camera
    shapes, owns, centres = primitives[0], primitives[1], primitives[2]
    samples, middle, side = grid[2], grid[3], grid[4]
    left, top, right, bottom = block
    every, box, around = np.arange(len(shapes)), np.empty((2, 3), np.float32), np.full((2, 3), -ONE)
    arranged, many = (0, 0), 0
    for row in range(top, bottom, side):
        for column in range(left, right, side):
            area = column, row, min(column + side, right), min(row + side, bottom)
            across, down = area[2] - column, area[3] - row
            if arranged != (across, down):
                arranged = across, down
                _arrange(grid, across, down, tile)
            rays, lit = len(grid[0]) * across * down, samples * across * down
            for i in range(rays):
                tile[PIXEL_X + i] = tile[SHIFT_X + i] + np.float32(column)
                tile[PIXEL_Y + i] = tile[SHIFT_Y + i] + np.float32(row)
            x, y, half_width, half_height = _middle(area)
            found = may_see(starts, turns, near, len(near), x, y, half_width, half_height, order, nearest)
            first_hits(shapes, starts, turns, order, nearest, found, tile, rays)
            _note_depth(tile, middle * across * down, primitives[3], area, picture[1], picture[2])
            _go(origin, world, tile, lit)
            _paint_all(primitives, order, found, tile, lit)
            bounds(tile, lit, box)
            if not within(box, around):  # tiles that lie near each other are shadowed by the same
                grow(box, around)
                many = may_shadow(owns, centres, lamps, every, len(every), around, casting)
            found = may_shadow(owns, centres, lamps, casting, many, box, order)
            shadows(shapes, owns, centres, order, found, tile, lit)
            lighten(size, tile, lit)
            display(samples, across * down, tile)
            _note_colours(tile, area, picture[0])


@compiled
def _arrange(grid, across, down, tile):
    """Fills what is the same in all tiles of a size: SHIFT and LAMP."""
    ray = 0
    for plane in range(len(grid[0])):
        shift, lamp = grid[0][plane], grid[1][plane]
        for row in range(down):
            for column in range(across):
                tile[SHIFT_X + ray], tile[SHIFT_Y + ray] = np.float32(column) + shift[0], np.float32(row) + shift[1]
                tile[LAMP_X + ray], tile[LAMP_Y + ray], tile[LAMP_Z + ray] = lamp
                ray += 1


@compiled
def _note_depth(tile, first, thing, area, depth, things):
    """Copies what a plane of rays hit. Rays that hit nothing get an infinite depth, and the first primitive's thing."""
    i = first
    for row in range(area[1], area[3]):
        for column in range(area[0], area[2]):
            depth[row, column] = tile[DEPTH + i] if tile[DEPTH + i] < FAR else np.inf
            things[row, column] = thing[int(tile[HIT + i])]
            i += 1


@compiled
def _go(origin, world, tile, rays):
    """Fills X, Y and Z. world: (3, 3) from pixels to directions."""
    for axis, place in enumerate((X, Y, Z)):
        start, a, b, c = origin[axis], world[axis, 0], world[axis, 1], world[axis, 2]
        for i in range(rays):
            depth = tile[DEPTH + i] if tile[DEPTH + i] < FAR else ZERO
            tile[place + i] = start + depth * (a * tile[PIXEL_X + i] + b * tile[PIXEL_Y + i] + c)


@compiled
def _paint_all(primitives, order, found, tile, rays):
    """Fills what `paint` does for all rays, whose primitives are among `found` in `order`."""
    shapes, owns, centres, _, half_sizes, turns, finishes, periods, glows, textures = primitives
    unpainted = np.float32(rays)
    for place in range(found):
        which = order[place]
        mine = ZERO
        for i in range(rays):
            mine += ONE if tile[HIT + i] == np.float32(which) else ZERO
        if mine > ZERO:
            body = owns[which], centres[which], half_sizes[which], turns[which], shapes[which]
            finish = finishes[which], periods[which], glows[which], textures[which]
            paint(which, body, finish, tile, rays)
            unpainted -= mine
            if unpainted <= ZERO:
                return


@compiled
def _note_colours(tile, area, image):
    """Copies the colours of the first plane of rays."""
    i = 0
    for row in range(area[1], area[3]):
        for column in range(area[0], area[2]):
            image[row, column, 0] = tile[RED + i]
            image[row, column, 1] = tile[GREEN + i]
            image[row, column, 2] = tile[BLUE + i]
            i += 1


trace = _cached((__name__, _sources()))
