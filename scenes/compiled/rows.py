"""Where in a tile's array each quantity of its rays starts.

Rays are numbered plane by plane: the first samples of all pixels, row by row, then all their second ones, and so on.
Where no sample is in the middle of its pixel a last plane goes through there, for depth and things alone.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from ..traced import MOST_RAYS

(
    SHIFT_X,  # from the tile's first pixel, in pixels
    SHIFT_Y,
    LAMP_X,  # where the lamp is for this sample, in the world
    LAMP_Y,
    LAMP_Z,
    PIXEL_X,
    PIXEL_Y,
    DEPTH,
    HIT,  # the primitive that is hit
    X,  # where it is hit, in the world
    Y,
    Z,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    RED,
    GREEN,
    BLUE,
    GLOW,
    LIGHT,  # whether the lamp shines there, then how bright it is
    U,  # on the surface, in the texture's periods
    V,
    SHARE,  # of the accent colour
    END,
) = (row * MOST_RAYS for row in range(24))

ZERO, HALF, ONE, TWO, TINY, FAR = (np.float32(number) for number in (0, 0.5, 1, 2, 1e-9, 1e30))

compiled = numba.njit(fastmath=True, error_model="numpy", nogil=True)
inlined = numba.njit(fastmath=True, error_model="numpy", nogil=True, forceinline=True)


def _extreme(name):
    """The larger or smaller of two numbers, so that the compiler finds that of a whole row on many at once.

    Python's max and min would come as a comparison and a choice, of which it does not know that NaN does not matter.
    """

    @intrinsic
    def extreme(_, one, other):
        def generate(context, builder, signature, numbers):
            single = ir.FloatType()
            function = builder.module.declare_intrinsic(name, (single,), ir.FunctionType(single, (single, single)))
            return builder.call(function, numbers, fastmath=("fast",))

        return numba.float32(numba.float32, numba.float32), generate

    return extreme


larger, smaller = _extreme("llvm.maxnum"), _extreme("llvm.minnum")
