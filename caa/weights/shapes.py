"""What weights of a kind hold at given widths: what the modules say that they hold."""

from __future__ import annotations

from torch import nn

from ..blocks import CAA
from .kinds import Kind, Widths

FREQUENCIES = "pe.freq_bands"  # beside a block's `transformer`; no parameter of the modules


def expected_shapes(kind: Kind, widths: Widths) -> dict[str, tuple[int, ...]]:
    """Shapes of all that weights of this kind hold at these widths, frequencies included; named as in `CAAWeights`."""
    modules = CAA(kind, widths, {}, nn, device="meta").state_dict()
    frequencies = {
        frequencies_key(block, kind): (1, 1, width // (2 * kind.code_dims))
        for block, width in widths.by_block().items()
    }
    return {key: tuple(tensor.shape) for key, tensor in modules.items()} | frequencies


def frequencies_key(block: str, kind: Kind) -> str:
    """The key of a block's frequencies."""
    return f"{block}.{kind.attention_prefix}{FREQUENCIES}"
