"""Tile loop."""

from __future__ import annotations

import numba
import numpy as np

from .kernels import _casting, _displayed, _hits, _light, _lighten, _seen, _surfaces  # noqa: F401

BLOCK = 4  # tiles


@numba.njit(fastmath=True, nogil=True)
def _rays(left, top, width, height, offsets, px, py):
    """Puts the pixels' places into (N,) px and py, shifted by each of (S, 2) offsets in turn."""
    ray = 0
    for plane in range(len(offsets)):
        for row in range(height):
            for column in range(width):
                px[ray] = np.float32(left + column) + offsets[plane, 0]
                py[ray] = np.float32(top + row) + offsets[plane, 1]
                ray += 1
    return ray


@numba.njit(fastmath=True, nogil=True)
def _points(origin, world, px, py, depth, count, points):
    for axis in range(3):
        start, a, b, c = origin[axis], world[axis, 0], world[axis, 1], world[axis, 2]
        along = points[axis]
        for i in range(count):
            along[i] = start + depth[i] * (a * px[i] + b * py[i] + c)


@numba.njit(fastmath=True, nogil=True)
def trace(primitives, views, lighting, patterns, offsets, planes, middle, side, images, depths, things):
    """Fills (V, H, W, 3) images, (V, H, W) depths and things."""
    shapes, thing = primitives[2], primitives[3]
    starts, rows, origins, worlds = views
    lamp, lamps, room, numbers, reach, display = lighting
    height, width = depths.shape[1:]
    rays = len(offsets) * side * side
    px, py, depth = np.empty(rays, np.float32), np.empty(rays, np.float32), np.empty(rays, np.float32)
    lit, glow, points = np.empty(rays, np.float32), np.empty(rays, np.float32), np.empty((3, rays), np.float32)
    normals, colours = np.empty_like(points), np.empty_like(points)
    hit, everything = np.empty(rays, np.int32), np.arange(len(shapes)).astype(np.int32)
    candidates, order, nearest = np.empty_like(everything), np.empty_like(everything), np.empty(len(shapes), np.float32)
    half = np.float32(0.5)
    for view in range(len(starts)):
        start, row = starts[view], rows[view]
        for block_top in range(0, height, side * BLOCK):
            for block_left in range(0, width, side * BLOCK):
                bottom, right = min(block_top + side * BLOCK, height), min(block_left + side * BLOCK, width)
                half_width, half_height = half * np.float32(right - block_left), half * np.float32(bottom - block_top)
                x, y = np.float32(block_left) + half_width - half, np.float32(block_top) + half_height - half
                many = _seen(
                    start, row, everything, len(everything), x, y, half_width, half_height, candidates, nearest
                )
                for top in range(block_top, bottom, side):
                    for left in range(block_left, right, side):
                        high, wide = min(side, bottom - top), min(side, right - left)
                        half_width, half_height = half * np.float32(wide), half * np.float32(high)
                        x, y = np.float32(left) + half_width - half, np.float32(top) + half_height - half
                        found = _seen(start, row, candidates, many, x, y, half_width, half_height, order, nearest)
                        count = _rays(left, top, wide, high, offsets, px, py)
                        pixels = wide * high
                        _hits(shapes, start, row, order, nearest, found, px, py, count, depth, hit)
                        first = middle * pixels
                        for i in range(pixels):
                            at = depth[first + i]
                            r, c = top + i // wide, left + i % wide
                            depths[view, r, c] = at if at < np.float32(1e29) else np.inf
                            things[view, r, c] = thing[hit[first + i]]
                        count = planes * pixels
                        _points(origins[view], worlds[view], px, py, depth, count, points)
                        _light(primitives, lamp, lamps, reach, points, count, planes, pixels, order, lit)
                        _surfaces(primitives, patterns, points, hit, count, normals, colours, glow)
                        for plane in range(planes):
                            _lighten(
                                lamps[plane],
                                room,
                                numbers,
                                points,
                                normals,
                                glow,
                                lit,
                                plane * pixels,
                                (plane + 1) * pixels,
                            )
                        for channel in range(3):
                            colour = colours[channel]
                            _displayed(display, colour, lit, planes, pixels)
                            for i in range(pixels):
                                images[view, top + i // wide, left + i % wide, channel] = colour[i]
