"""How bright surfaces are, and as which colours they are displayed; as `render`."""

from __future__ import annotations

import math

import numpy as np

from .. import light
from .rows import (
    BLUE,
    GLOW,
    GREEN,
    HALF,
    LAMP_X,
    LAMP_Y,
    LAMP_Z,
    LIGHT,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    ONE,
    RED,
    ZERO,
    X,
    Y,
    Z,
    compiled,
    inlined,
)

AMBIENT, LAMP, FALLOFF = np.float32(light.AMBIENT), np.float32(light.LAMP), np.float32(light.FALLOFF)
CORNER, CORNER_DENSITY = np.float32(light.CORNER), np.float32(1 / light.CORNER_WIDTH)
FROM_ABOVE, DARK = np.float32(light.FROM_ABOVE), np.float32(1e-9)
SIXTEENTH, THIRD, QUARTER, FIFTH = (np.float32(1 / number) for number in (16, 3, 4, 5))


def _fitted():
    """Coefficients, lowest first, of q^(16 / GAMMA - 7) for q in 0..1, fitted where its product with q^7 matters."""
    q = 0.5 + 0.5 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    powers = np.polynomial.polynomial.polyfit(q, q ** (16 / light.GAMMA - 7), 5, w=q**7)
    return tuple(np.float32(power) for power in powers)


FIT = _fitted()


@inlined
def _faded(x):
    """exp(-x) of x >= 0, up to 2e-7: one over a sixteenth's series to the power of 16."""
    y = x * SIXTEENTH
    result = ONE / (ONE + y * (ONE + y * HALF * (ONE + y * THIRD * (ONE + y * QUARTER * (ONE + y * FIFTH)))))
    result *= result
    result *= result
    result *= result
    return result * result


@inlined
def _open(half, place, normal):
    """The share of ambient light that a wall and the one opposite leave."""
    return ONE - CORNER * _faded(max(half - abs(place), ZERO) * CORNER_DENSITY) * (ONE - abs(normal))


@compiled
def lighten(size, tile, rays):
    """Turns LIGHT from whether the lamp shines on the rays' ends into how bright they are. size: (3,) of the room."""
    half_width, half_height, half_length = HALF * size[0], HALF * size[1], HALF * size[2]
    for i in range(rays):
        x, y, z = tile[X + i], tile[Y + i], tile[Z + i]
        nx, ny, nz = tile[NORMAL_X + i], tile[NORMAL_Y + i], tile[NORMAL_Z + i]
        dx, dy, dz = tile[LAMP_X + i] - x, tile[LAMP_Y + i] - y, tile[LAMP_Z + i] - z
        square = dx * dx + dy * dy + dz * dz
        facing = max((nx * dx + ny * dy + nz * dz) / math.sqrt(square), ZERO)
        openness = _open(half_width, x, nx) * _open(half_height, y + half_height, ny) * _open(half_length, z, nz)
        bright = AMBIENT * (ONE - FROM_ABOVE * ny) * openness + LAMP * facing * tile[LIGHT + i] / (
            ONE + FALLOFF * square
        )
        tile[LIGHT + i] = bright + tile[GLOW + i] * max(ONE - bright, ZERO)


@compiled
def display(samples, pixels, tile):
    """Turns the colours of the first rays, one per pixel, into the means of what is displayed of all samples' rays."""
    a, b, c, d, e, f = FIT
    share = ONE / np.float32(samples)
    for row in (RED, GREEN, BLUE):
        for i in range(samples * pixels):
            q = math.sqrt(min(max(tile[row + i] * tile[LIGHT + i], DARK), ONE))
            q = math.sqrt(math.sqrt(math.sqrt(q)))
            q2 = q * q
            q7 = q2 * q2 * q2 * q
            tile[row + i] = q7 * (a + q * (b + q * (c + q * (d + q * (e + q * f)))))
        for i in range(pixels):
            total = ZERO
            for sample in range(samples):
                total += tile[row + sample * pixels + i]
            tile[row + i] = min(total * share, ONE)
