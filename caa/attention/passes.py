"""What lies between the matrix products of a block: by compiled kernels where they may be used, else by torch.

On a card torch's many passes over memory would take longer than the attention. Gradients are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .checking import QUERIES, alignment, compare
from .compiled import attempt
from .softmax import accumulation_dtype

Pair = tuple[torch.Tensor, torch.Tensor]  # what was found and what was expected


def tokens_of(x: torch.Tensor, way: str) -> torch.Tensor:
    """(P, V, C, h, w) maps to (P, V, h, w, C) tokens."""

    def few(made: torch.Tensor) -> Pair:
        return made[-1, -1].flatten(0, 1)[-QUERIES:], x[-1, -1].flatten(1).T[-QUERIES:]

    made = _by_kernel("tokens", way, [x], lambda kernels: kernels.tokens_of(x), few, x.shape[2])
    return x.movedim(2, -1).contiguous() if made is None else made


def summed(x: torch.Tensor, tokens: torch.Tensor, attended: torch.Tensor, fed: torch.Tensor, way: str) -> torch.Tensor:
    """The sum of three (P, V, h, w, C) as maps like (P, V, C, h, w) `x`, whose strides they get, too: the rounding of
    the UNet's next convolution depends on them.

    It is made in fp32 and rounded once: half precision would round it after each layer.
    """

    def few(made: torch.Tensor) -> Pair:
        parts = [part[-1, -1].flatten(0, 1)[-QUERIES:].float() for part in (tokens, attended, fed)]
        return made[-1, -1].flatten(1).T[-QUERIES:], sum(parts[1:], parts[0]).to(x.dtype)

    given = [x, tokens, attended, fed]
    made = _by_kernel("sums", way, given, lambda kernels: kernels.summed(*given), few, x.shape[2])
    if made is not None:
        return made
    total = tokens.to(accumulation_dtype(x.dtype)) + attended + fed
    return torch.empty_like(x).copy_(total.movedim(-1, 2))


def centred(x: torch.Tensor, way: str) -> torch.Tensor:
    """(N, C) vectors less their means over C."""

    def few(made: torch.Tensor) -> Pair:
        given = x[-QUERIES:].float()  # beside it, by which what a sum rounds off is measured
        return made[-QUERIES:] + given, _centred(x[-QUERIES:]) + given

    made = _by_kernel("centred vectors", way, [x], lambda kernels: kernels.centred(x), few, x.shape[1])
    return _centred(x) if made is None else made


def gated(both: torch.Tensor, way: str) -> torch.Tensor:
    """(N, 2 C) value and gate to (N, C) value * gelu(gate), with the exact GELU."""

    def few(made: torch.Tensor) -> Pair:
        return made[-QUERIES:], _Gated.apply(both[-QUERIES:].float()).to(both.dtype)

    made = _by_kernel("gated values", way, [both], lambda kernels: kernels.gated(both), few, both.shape[1] // 2)
    return _Gated.apply(both) if made is None else made


def _by_kernel(
    what: str,
    way: str,
    given: list[torch.Tensor],
    run: Callable[[Any], torch.Tensor],
    few: Callable[[torch.Tensor], Pair],
    width: int,
) -> torch.Tensor | None:
    """What a kernel makes of what it is given, `width` wide; else None. few: some of it, and what torch makes there."""
    x = given[0]
    if way != "auto" or torch.is_grad_enabled():
        return None
    if any(part.dtype != x.dtype or not part.is_contiguous() for part in given):
        return None

    def call() -> torch.Tensor:
        from . import triton_passes

        return run(triton_passes)

    def shows(made: torch.Tensor) -> bool:
        place = f"{str(x.dtype).removeprefix('torch.')}, width {width}"
        return compare(f"{what} are", [few(made)], x.dtype, place)

    size = x.shape[-2] * x.shape[-1] if x.ndim == 5 else len(x)
    return attempt(x, (what, x.device, x.dtype, width, alignment(size)), call, shows)


def _centred(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True, dtype=accumulation_dtype(x.dtype))).to(x.dtype)


class _Gated(torch.autograd.Function):
    """Autograd alone would make both halves of the gradient apart, and then copy them together: at 8 C they are the
    largest tensors of a block."""

    @staticmethod
    def forward(ctx, both):
        value, gate = both.chunk(2, dim=-1)
        passed = F.gelu(gate)
        ctx.save_for_backward(both, passed)
        return value * passed

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        both, passed = ctx.saved_tensors
        value, gate = both.chunk(2, dim=-1)
        result = torch.empty_like(both)
        of_value, of_gate = result.chunk(2, dim=-1)
        torch.mul(gradient, passed, out=of_value)
        torch.ops.aten.gelu_backward.grad_input(gradient * value, gate, grad_input=of_gate)
        return result
