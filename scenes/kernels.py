"""A room traced in compiled code, tile by tile: which primitives a tile may see, what its rays hit, and how it is lit.

All of it is one compiled function with its parts inlined, float32, on the calling thread and without the interpreter's
lock. It has no constants of its own: numba's cache knows a file by its time, and not what that reads from others. So
all numbers come as arrays from `traced`, and everything that is compiled stands in this one file.

A tile's rays are numbered plane by plane: all pixels' first samples, then all second ones; S planes of n pixels. Where
pixels have no sample in their middle one more plane is traced through it, for depth and things alone.
"""

from __future__ import annotations

import math

import numba
import numpy as np

BOX, SPHERE = 0, 1
PLAIN, CHECKER, STRIPES, LANDSCAPE = 0, 1, 2, 6
FIRST_COURSES, BRICKS = 3, 5
ZERO, HALF, ONE, TWO = (np.float32(number) for number in (0, 0.5, 1, 2))
TINY, FAR = np.float32(1e-9), np.float32(1e30)  # in place of 0 and of infinity, which fast arithmetic does not know
SAFE = np.float32(1e-4)  # by how much, relatively, culling errs towards tracing in vain

_inlined = numba.njit(fastmath=True, inline="always")
_compiled = numba.njit(fastmath=True, nogil=True)


@_inlined
def _slab(start, direction):
    """Where a ray enters and leaves -1..1 of one axis."""
    inverse = ONE / (direction if abs(direction) > TINY else TINY)
    middle, half = -start * inverse, abs(inverse)
    return middle - half, middle + half


@_inlined
def _box(x, y, z, dx, dy, dz):
    """How far along a ray, in a box's own axes and half sizes, it comes in from outside; FAR if it does not."""
    x0, x1 = _slab(x, dx)
    y0, y1 = _slab(y, dy)
    z0, z1 = _slab(z, dz)
    enter, leave = max(max(x0, y0), z0), min(min(x1, y1), z1)
    return enter if (enter <= leave) & (enter > ZERO) else FAR


@_inlined
def _sphere(x, y, z, dx, dy, dz):
    square = max(dx * dx + dy * dy + dz * dz, TINY * TINY)
    middle = -(x * dx + y * dy + z * dz) / square
    x, y, z = x + middle * dx, y + middle * dy, z + middle * dz
    left = ONE - (x * x + y * y + z * z)
    enter = middle - math.sqrt(max(left, ZERO) / square)
    return enter if (left >= ZERO) & (enter > ZERO) else FAR


@_inlined
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
    """Makes the function that notes in (N,) depth and hit where rays through (N,) px, py hit primitive `which`.

    start: the camera; rows: (3, 3) from pixels to directions; both in the primitive's own axes.
    """

    @_compiled
    def hits(start, rows, px, py, count, which, depth, hit):
        x, y, z = start[0], start[1], start[2]
        a, b, c = rows[0, 0], rows[0, 1], rows[0, 2]
        d, e, f = rows[1, 0], rows[1, 1], rows[1, 2]
        g, h, k = rows[2, 0], rows[2, 1], rows[2, 2]
        for i in range(count):
            u, v = px[i], py[i]
            enter = entry(x, y, z, a * u + b * v + c, d * u + e * v + f, g * u + h * v + k)
            nearer = enter < depth[i]
            depth[i] = enter if nearer else depth[i]
            hit[i] = which if nearer else hit[i]

    return hits


def _shadows(entry):
    """Makes the function that puts 0 into (N,) lit where a primitive stands between the lamp and (N,) points.

    lamp: one point (3,), own: (3, 3) from the world to the primitive's axes, centre: (3,).
    """

    @_compiled
    def shadows(lamp, own, centre, points, first, end, reach, lit):
        a, c, b, d, e = own[0, 0], own[0, 2], own[1, 1], own[2, 0], own[2, 2]
        x, y, z = lamp[0] - centre[0], lamp[1] - centre[1], lamp[2] - centre[2]
        x, y, z = a * x + c * z, b * y, d * x + e * z
        lx, ly, lz = lamp[0], lamp[1], lamp[2]
        xs, ys, zs = points[0], points[1], points[2]
        for i in range(first, end):
            dx, dy, dz = xs[i] - lx, ys[i] - ly, zs[i] - lz
            enter = entry(x, y, z, a * dx + c * dz, b * dy, d * dx + e * dz)
            lit[i] = ZERO if enter <= reach else lit[i]

    return shadows


_box_hits, _sphere_hits, _cylinder_hits = _first_hits(_box), _first_hits(_sphere), _first_hits(_cylinder)
_box_shadows, _sphere_shadows, _cylinder_shadows = _shadows(_box), _shadows(_sphere), _shadows(_cylinder)


@_compiled
def _seen(starts, rows, candidates, many, x, y, half_width, half_height, order, nearest):
    """How many of `candidates` a tile around pixel (x, y) may see, put into `order`, the nearest first.

    nearest: the least depth at which each may be hit.
    """
    found = 0
    for number in range(many):
        which = candidates[number]
        near, far = ZERO, FAR
        for axis in range(3):
            start, row = starts[which, axis], rows[which, axis]
            middle = row[0] * x + row[1] * y + row[2]
            spread = abs(row[0]) * half_width + abs(row[1]) * half_height
            spread += SAFE * (abs(middle) + spread)
            towards = -middle if start > ZERO else middle
            before, behind = abs(start) - ONE, abs(start) + ONE
            if before > ZERO:
                if towards + spread <= ZERO:
                    near = FAR
                    break
                near = max(near, before / (towards + spread))
                if towards - spread > ZERO:
                    far = min(far, behind / (towards - spread))
            else:
                # From within the slab a ray leaves at the latest by the farther side, unless it may run along it.
                if towards - spread > ZERO:
                    far = min(far, behind / (towards - spread))
                elif towards + spread < ZERO:
                    far = min(far, (ONE - abs(start)) / -(towards + spread))
        if near * (ONE - SAFE) > far * (ONE + SAFE) or near >= FAR:
            continue
        place = found
        while place > 0 and nearest[place - 1] > near:
            nearest[place], order[place] = nearest[place - 1], order[place - 1]
            place -= 1
        nearest[place], order[place] = near * (ONE - SAFE), which
        found += 1
    return found


@_compiled
def _casting(lamp_middle, lamp_half, owns, centres, shapes, low, high, reach, order):
    """How many primitives may stand between the lamp and points within a box low..high (3,), put into `order`."""
    found = 0
    for which in range(len(shapes)):
        own, centre = owns[which], centres[which]
        near, far = ZERO, ONE
        for axis in range(3):
            start, point, around, spread = ZERO, ZERO, ZERO, ZERO
            for k in range(3):
                part = own[axis, k]
                start += part * (lamp_middle[k] - centre[k])
                around += abs(part) * lamp_half[k]
                point += part * (HALF * (low[k] + high[k]) - centre[k])
                spread += abs(part) * HALF * (high[k] - low[k])
            if start < ZERO:
                start, point = -start, -point
            spread += SAFE * spread
            least, most = start - around * (ONE + SAFE), start + around * (ONE + SAFE)
            if least > ONE:
                if least - (point - spread) <= ZERO:
                    near = FAR
                    break
                near = max(near, (least - ONE) / (least - (point - spread)))
                if least - (point + spread) > ZERO:
                    leaves = (least + ONE) / (least - (point + spread))
                    far = min(far, max(leaves, (most + ONE) / (most - (point + spread))))
        if near > reach + HALF * (ONE - reach) or near * (ONE - SAFE) > far * (ONE + SAFE):
            continue
        order[found] = which
        found += 1
    return found


@_inlined
def _courses(u, v, courses, spread):
    """The share of the board at a point, and whether the point lies in a gap; as textures._courses."""
    v = v * courses[1]
    row = math.floor(v)
    along = u / courses[0] + courses[2] * row
    board = math.floor(along)
    evenly = spread[1] * board + spread[2] * row
    share = spread[0] * (evenly - math.floor(evenly))
    return share, (along - board < courses[3]) | (v - row < courses[4])


@_inlined
def _odd(whole):
    return whole - TWO * math.floor(whole * HALF)


@_inlined
def _accent_share(texture, u, v, courses, spread, hills):
    """As textures.accent_share. spread: SPREAD and BRICKS."""
    if texture == PLAIN:
        return ZERO
    if texture == CHECKER:
        return _odd(math.floor(u) + math.floor(v))
    if texture == STRIPES:
        return _odd(math.floor(u))
    if texture == LANDSCAPE:
        wave = hills[0] + hills[1] * math.sin(hills[2] * u) + hills[3] * math.sin(hills[4] * u + hills[5])
        return ONE if v > wave else ZERO
    share, in_gap = _courses(u, v, courses[texture - FIRST_COURSES], spread)
    return ONE if in_gap else (spread[3] * share if texture == BRICKS else share)


@_compiled
def _surfaces(primitives, patterns, points, hit, count, normals, colours, glow):
    """Normals and colours (3, N) and glow (N,) of what was hit at points (3, N)."""
    owns, centres, shapes, _, half_sizes, turns, finishes, periods, glows, textures = primitives
    courses, spread, hills = patterns
    for i in range(count):
        which = hit[i]
        own, centre, half, shape = owns[which], centres[which], half_sizes[which], shapes[which]
        px, py, pz = points[0, i] - centre[0], points[1, i] - centre[1], points[2, i] - centre[2]
        x, y, z = own[0, 0] * px + own[0, 2] * pz, own[1, 1] * py, own[2, 0] * px + own[2, 2] * pz
        across, down, deep = x * half[0], y * half[1], z * half[2]
        if shape == BOX or (shape != SPHERE and y * y > x * x + z * z):
            # The face of a box or a cylinder's end is the axis along which a point is farthest out.
            largest = max(max(abs(x), abs(y)), abs(z))
            nx = x if abs(x) == largest else ZERO
            ny = y if abs(y) == largest else ZERO
            nz = z if abs(z) == largest else ZERO
        else:
            nx, ny, nz = x, (y if shape == SPHERE else ZERO), z
        nx, ny, nz = nx / half[0], ny / half[1], nz / half[2]
        scale = ONE / math.sqrt(max(nx * nx + ny * ny + nz * nz, TINY * TINY))
        nx, ny, nz = nx * scale, ny * scale, nz * scale
        u = math.atan2(x, -z) * half[0] if shape != BOX else (deep if abs(nx) > HALF else across)
        v = deep if abs(ny) > HALF else down
        period = periods[which]
        share = _accent_share(textures[which], u / period, v / period, courses, spread, hills)
        c, s = turns[which, 0], turns[which, 1]
        normals[0, i], normals[1, i], normals[2, i] = c * nx + s * nz, ny, c * nz - s * nx
        finish = finishes[which]
        for k in range(3):
            colours[k, i] = finish[0, k] + share * (finish[1, k] - finish[0, k])
        glow[i] = glows[which]


@_inlined
def _faded(x):
    """exp(-x) of x >= 0, up to 2e-7."""
    y = x * np.float32(1 / 16)
    series = ONE + y * (ONE + y * (HALF + y * (np.float32(1 / 6) + y * (np.float32(1 / 24) + y * np.float32(1 / 120)))))
    result = ONE / series
    result *= result
    result *= result
    result *= result
    return result * result


@_compiled
def _lighten(lamp, room, numbers, points, normals, glow, lit, first, end):
    """Turns (N,) lit, 1 where the lamp shines, into how bright it is there. numbers: those of light."""
    ambient, shine, falloff, from_above, corner, corner_width = numbers
    lx, ly, lz = lamp[0], lamp[1], lamp[2]
    half_width, half_height, half_length = HALF * room[0], HALF * room[1], HALF * room[2]
    xs, ys, zs, nxs, nys, nzs = points[0], points[1], points[2], normals[0], normals[1], normals[2]
    for i in range(first, end):
        x, y, z, nx, ny, nz = xs[i], ys[i], zs[i], nxs[i], nys[i], nzs[i]
        dx, dy, dz = lx - x, ly - y, lz - z
        square = dx * dx + dy * dy + dz * dz
        facing = max((nx * dx + ny * dy + nz * dz) / math.sqrt(square), ZERO)
        openness = ONE - corner * _faded(max(half_width - abs(x), ZERO) / corner_width) * (ONE - abs(nx))
        openness *= ONE - corner * _faded(max(half_height - abs(y + half_height), ZERO) / corner_width) * (
            ONE - abs(ny)
        )
        openness *= ONE - corner * _faded(max(half_length - abs(z), ZERO) / corner_width) * (ONE - abs(nz))
        light = ambient * (ONE - from_above * ny) * openness + shine * facing * lit[i] / (ONE + falloff * square)
        lit[i] = light + glow[i] * max(ONE - light, ZERO)


@_compiled
def _displayed(display, colours, light, planes, pixels):
    """Turns the first n of (N,) colours into the mean of S planes of n colours in that light, as displayed.

    display: (D + 1,) displayed values of squares of 0..1 in D steps.
    """
    steps = np.float32(len(display) - 1)
    for i in range(planes * pixels):
        place = math.sqrt(min(max(colours[i] * light[i], ZERO), ONE)) * steps
        low = min(np.int32(place), np.int32(len(display) - 2))
        colours[i] = display[low] + (place - np.float32(low)) * (display[low + 1] - display[low])
    for plane in range(1, planes):
        for i in range(pixels):
            colours[i] += colours[plane * pixels + i]
    for i in range(pixels):
        colours[i] /= np.float32(planes)


@_compiled
def _hits(shapes, starts, rows, order, nearest, found, px, py, count, depth, hit):
    """Depth and hit (N,) of the first of `found` primitives in `order` that each ray hits."""
    for i in range(count):
        depth[i], hit[i] = FAR, 0
    for place in range(found):
        farthest = ZERO
        for i in range(count):
            farthest = max(farthest, depth[i])
        if nearest[place] > farthest:
            break
        which = order[place]
        shape = shapes[which]
        if shape == BOX:
            _box_hits(starts[which], rows[which], px, py, count, which, depth, hit)
        elif shape == SPHERE:
            _sphere_hits(starts[which], rows[which], px, py, count, which, depth, hit)
        else:
            _cylinder_hits(starts[which], rows[which], px, py, count, which, depth, hit)


@_compiled
def _light(primitives, lamp, lamps, reach, points, count, planes, pixels, order, lit):
    """1 in (N,) lit where the lamp shines on points (3, N), else 0. lamp: (2, 3), its middle and half its size."""
    owns, centres, shapes = primitives[:3]
    low, high = np.empty(3, np.float32), np.empty(3, np.float32)
    for axis in range(3):
        along = points[axis]
        least, most = along[0], along[0]
        for i in range(count):
            least, most = min(least, along[i]), max(most, along[i])
        low[axis], high[axis] = least, most
    for i in range(count):
        lit[i] = ONE
    for place in range(_casting(lamp[0], lamp[1], owns, centres, shapes, low, high, reach, order)):
        which = order[place]
        own, centre, shape = owns[which], centres[which], shapes[which]
        for plane in range(planes):
            first, end = plane * pixels, (plane + 1) * pixels
            if shape == BOX:
                _box_shadows(lamps[plane], own, centre, points, first, end, reach, lit)
            elif shape == SPHERE:
                _sphere_shadows(lamps[plane], own, centre, points, first, end, reach, lit)
            else:
                _cylinder_shadows(lamps[plane], own, centre, points, first, end, reach, lit)
