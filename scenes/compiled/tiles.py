"""Pictures of a room, tile by tile: the one function that is called from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numba
import numpy as np

from . import culling, hits, lighting, surfaces
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

BLOCK = 4  # tiles along a side: their primitives are looked for together first
first_hits, bounds, shadows = hits.first_hits, hits.bounds, hits.shadows
may_see, may_shadow = culling.may_see, culling.may_shadow
paint, lighten, display = surfaces.paint, lighting.lighten, lighting.display


def _sources() -> str:
    """What the compiled code was made from."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), *(folder.parent / f"{name}.py" for name in ("light", "room", "textures"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _cached(made_from: tuple[str, ...]):
    """`trace`, compiled once for all processes, as long as it would be made from the same.

    numba's cache knows a function by its own file and by what it encloses: not by what it reads elsewhere, nor by the
    name of the package, which hosts choose. So it encloses them.
    """

    @numba.njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
    def trace(primitives, views, lamp, grid, size, images, depths, things):
        """Fills (V, H, W, 3) images, (V, H, W) depths and things of V views; the arguments are those of `traced`."""
        made_from  # noqa: B018
        _trace(primitives, views, lamp, grid, size, images, depths, things)

    return trace


@compiled
def _trace(primitives, views, lamp, grid, size, images, depths, things):
    starts, turns, origins, worlds = views
    height, width = depths.shape[1:]
    many, step = len(primitives[0]), grid[4] * BLOCK
    every, near = np.arange(many), np.empty(many, np.int64)
    memory = (
        np.empty(END, np.float32),
        np.empty(many, np.int64),
        np.empty(many, np.float32),
        np.empty((2, 3), np.float32),
    )
    for view in range(len(depths)):
        camera = starts[view], turns[view], origins[view], worlds[view]
        for top in range(0, height, step):
            for left in range(0, width, step):
                block = left, top, min(left + step, width), min(top + step, height)
                x, y, across, down = _middle(block)
                found = may_see(camera[0], camera[1], every, many, x, y, across, down, near, memory[2])
                _trace_block(
                    primitives,
                    camera,
                    lamp,
                    grid,
                    size,
                    block,
                    near[:found],
                    memory,
                    images[view],
                    depths[view],
                    things[view],
                )


@inlined
def _middle(area):
    """The middle of the pixels in (left, top, right, bottom), and half their width and height."""
    left, top, right, bottom = area
    across, down = HALF * np.float32(right - left), HALF * np.float32(bottom - top)
    return np.float32(left) + across - HALF, np.float32(top) + down - HALF, across, down


@compiled
def _trace_block(primitives, camera, lamp, grid, size, block, near, memory, image, depth, things):
    """Fills block (left, top, right, bottom) of a (H, W, 3) image, (H, W) depth and things.

    near: the primitives that may be seen there.
    """
    tile, order, nearest, box = memory
    starts, turns, origin, world = camera
    shapes, owns, centres = primitives[0], primitives[1], primitives[2]
    samples, middle, side = grid[2], grid[3], grid[4]
    left, top, right, bottom = block
    arranged = 0, 0
    for row in range(top, bottom, side):
        for column in range(left, right, side):
            area = column, row, min(column + side, right), min(row + side, bottom)
            across, down = area[2] - column, area[3] - row
            if arranged != (across, down):
                arranged = across, down
                _arrange(grid, across, down, tile)
            x, y, half_width, half_height = _middle(area)
            found = may_see(starts, turns, near, len(near), x, y, half_width, half_height, order, nearest)
            pixels = across * down
            rays, lit = len(grid[0]) * pixels, samples * pixels
            for i in range(rays):
                tile[PIXEL_X + i] = tile[SHIFT_X + i] + np.float32(column)
                tile[PIXEL_Y + i] = tile[SHIFT_Y + i] + np.float32(row)
            first_hits(shapes, starts, turns, order, nearest, found, tile, rays)
            _note_depth(tile, middle * pixels, primitives[3], area, depth, things)
            _go(origin, world, tile, lit)
            _paint_all(primitives, order, found, tile, lit)
            bounds(tile, lit, box)
            found = may_shadow(owns, centres, lamp[0], lamp[1], lamp[2], box, order)
            shadows(shapes, owns, centres, order, found, tile, lit)
            lighten(size, tile, lit)
            display(samples, pixels, tile)
            _note_colours(tile, area, image)


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
    """Copies what a plane of rays hit. Rays that hit nothing get an infinite depth, and look like the first primitive."""
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
    _, owns, centres, _, half_sizes, turns, finishes, periods, glows, textures = primitives
    shapes = primitives[0]
    unpainted = rays
    for place in range(found):
        which = order[place]
        mine = ZERO
        for i in range(rays):
            mine += ONE if tile[HIT + i] == np.float32(which) else ZERO
        if mine > ZERO:
            paint(
                which,
                owns[which],
                centres[which],
                shapes[which],
                half_sizes[which],
                turns[which],
                finishes[which],
                periods[which],
                glows[which],
                textures[which],
                tile,
                rays,
            )
            unpainted -= int(mine)
            if unpainted <= 0:
                return


@compiled
def _note_colours(tile, area, image):
    i = 0
    for row in range(area[1], area[3]):
        for column in range(area[0], area[2]):
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = (
                tile[RED + i],
                tile[GREEN + i],
                tile[BLUE + i],
            )
            i += 1


trace = _cached((__name__, _sources()))
