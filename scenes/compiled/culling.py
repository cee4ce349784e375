"""Which primitives a tile's rays may meet: told from intervals, on the three axes of the box around each primitive.

Rays from `start` within a slab's -1..1, or towards it, are there from some `near` to some `far`. What they enter on one
axis after they left it on another they miss. All bounds err by SAFE towards tracing in vain.
"""

from __future__ import annotations

import numpy as np

from .hits import REACH
from .rows import FAR, HALF, ONE, ZERO, compiled

SAFE = np.float32(1e-4)
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
def may_shadow(owns, centres, lamp, box, order):
    """How many primitives may stand between the lamp and points in a box; they are put into `order`.

    lamp, box: (2, 3) middle and half size.
    """
    found = 0
    for which in range(len(owns)):
        own, centre = owns[which], centres[which]
        near, far = ZERO, ONE
        for axis in range(3):
            start, around, end, spread = ZERO, ZERO, ZERO, ZERO
            for k in range(3):
                start += own[axis, k] * (lamp[0, k] - centre[k])
                end += own[axis, k] * (box[0, k] - centre[k])
                around += abs(own[axis, k]) * lamp[1, k]
                spread += abs(own[axis, k]) * box[1, k]
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
        if near <= NOT_BEFORE and near * (ONE - SAFE) <= far * (ONE + SAFE):
            order[found] = which
            found += 1
    return found
