"""Weights that no one has trained yet."""

from __future__ import annotations

import math

import torch

from ...geometry.input_error import InputError
from ..attention.codes import frequencies
from .checkpoint import CAAWeights
from .kinds import Kind, Widths
from .shapes import FREQUENCIES, expected_shapes

# The last layer of each residual branch: at zero the block returns its input.
LAST_LAYERS = ("attn1.to_out.", "ff.net.2.", "conv2.")


def fresh_weights(kind: Kind, widths: Widths, seed: int = 0, zero: bool = True) -> CAAWeights:
    """Seeded random weights, drawn on the CPU. `zero`: last layers are zero, so that the blocks change nothing yet.

    Raises InputError where a width cannot be split into heads of 32.
    """
    odd = [width for width in widths.by_block().values() if width % 32]
    if odd:
        raise InputError(f"CAA blocks need widths that are multiples of 32, and this UNet has {odd}")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in expected_shapes(kind, widths).items():
        if FREQUENCIES in key:
            continue
        if zero and any(layer in key for layer in LAST_LAYERS):
            tensors[key] = torch.zeros(shape)
        elif len(shape) > 1:
            tensors[key] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        else:
            tensors[key] = torch.full(shape, float(key.endswith("weight")))
    bands = {block: frequencies(width, kind.code_dims) for block, width in widths.by_block().items()}
    return CAAWeights(kind, widths, tensors, bands, base="untrained")
