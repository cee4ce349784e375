"""Which primitives a tile's rays may meet: told from intervals, on the three axes of the box around each primitive.

Rays from `start` within a slab's -1..1, or towards it, are there from some `near` to some `far`. What they enter on one
axis after they left it on another they miss. All bounds err by SAFE towards tracing in vain.
"""

from __future__ import annotations

import numpy as np

from .hits import REACH
from .rows import FAR, HALF, ONE, ZERO, compiled

SAFE = np.float32(1e-4)
GROWTH = np.float32(1.0)  # metres
NOT_BEFORE = HALF * (ONE + REACH)  # of the way from the lamp: what is entered after that casts no shadow for sure


@compiled
def may_see(starts, turns, candidates, many, x, y, half_width, half_height, order, nearest):
    """How many of `candidates` a tile around pixel (x, y) may see. They are put into `order`, the nearest first.

    nearest: the least depth at which each may be hit.
    """
    found = 0
    for number in range(many):
        which = candidates[number]
        near, far = ZERO, FAR
        for axis in range(3):
            start, turn = starts[which, axis], turns[which, axis]
            middle = turn[0] * x + turn[1] * y + turn[2]
            spread = abs(turn[0]) * half_width + abs(turn[1]) * half_height
            spread += SAFE * (abs(middle) + spread)
            inwards = -middle if start > ZERO else middle
            slowest, quickest = inwards - spread, inwards + spread
            if abs(start) > ONE:
                if quickest <= ZERO:
                    near = FAR
                    break
                near = max(near, (abs(start) - ONE) / quickest)
            elif quickest < ZERO:
                far = min(far, (ONE - abs(start)) / -quickest)
            if slowest > ZERO:
                far = min(far, (ONE + abs(start)) / slowest)
        if near * (ONE - SAFE) > far * (ONE + SAFE):
            continue
        place = found
        while place > 0 and nearest[place - 1] > near:
            nearest[place], order[place] = nearest[place - 1], order[place - 1]
            place -= 1
        nearest[place], order[place] = near * (ONE - SAFE), which
        found += 1
    return found


@compiled
def may_shadow(owns, centres, lamps, candidates, many, box, order):
    """How many of `candidates` may stand between the lamp and points in a box; they are put into `order`.

    box: (2, 3) its middle and half size. lamps: (P, 2, 3) those of the lamp, in each primitive's own axes.
    """
    found = 0
    for number in range(many):
        which = candidates[number]
        centre = centres[which]
        own, own_lamp = owns[which], lamps[which]
        x, y, z = box[0, 0] - centre[0], box[0, 1] - centre[1], box[0, 2] - centre[2]
        near, far = ZERO, ONE
        for axis in (1, 0, 2):
            start, around = own_lamp[0, axis], own_lamp[1, axis]
            end = own[axis, 0] * x + own[axis, 1] * y + own[axis, 2] * z
            spread = abs(own[axis, 0]) * box[1, 0] + abs(own[axis, 1]) * box[1, 1] + abs(own[axis, 2]) * box[1, 2]
            around, spread = around * (ONE + SAFE), spread * (ONE + SAFE)
            if start < ZERO:
                start, end = -start, -end
            least, most = start - around, start + around
            if least <= ONE:
                continue
            if least <= end - spread:
                near = FAR
                break
            near = max(near, (least - ONE) / (least - (end - spread)))
            if least > end + spread:
                far = min(far, max((least + ONE) / (least - end - spread), (most + ONE) / (most - end - spread)))
            if near > NOT_BEFORE or near * (ONE - SAFE) > far * (ONE + SAFE):
                near = FAR
                break
        if near < FAR:
            order[found] = which
            found += 1
    return found


@compiled
def within(box, around):
    """Whether a box lies in another one; both (2, 3) middle and half size."""
    inside = True
    for axis in range(3):
        inside &= abs(box[0, axis] - around[0, axis]) + box[1, axis] <= around[1, axis]
    return inside


@compiled
def grow(box, around):
    """Makes `around` a box that also holds others near by."""
    for axis in range(3):
        around[0, axis], around[1, axis] = box[0, axis], box[1, axis] + GROWTH
