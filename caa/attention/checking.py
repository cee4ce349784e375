"""Whether kernels are right here: a few queries of a batch, and their gradients, by torch's own way beside theirs.

A compiler and a driver that nobody has tried may give anything. What is compared is a part of the very batch that the
kernels were given, with nothing but what these queries read of it, so that the comparison takes little time and memory.
"""

# pyright: reportArgumentType=false, reportOptionalSubscript=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from .bags import Piece
from .headwise import attend_piece
from .memory import CACHED_BYTES
from .projected import Projected
from .reads import Reads
from .softmax import HEAD

QUERIES = 256  # that are compared
# Both ways sum in fp32 and round once, to the features' dtype.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 8e-3}


class MismatchError(RuntimeError):
    """Kernels gave something else than torch does; the message says how far off they are, and where."""


def program_of(query: torch.Tensor, reads: Reads) -> tuple:
    """What the compiled kernels depend on: device, dtype, width, samples, entries, and what Triton assumes of sizes."""
    size = len(reads.unseen) // reads.views
    sizes = query.shape[1], reads.pixel.shape[1], reads.entry_row.shape[1]
    return query.device, query.dtype, *sizes, alignment(size), alignment(reads.views)


def alignment(size: int) -> tuple[bool, bool]:
    """By which Triton tells integers apart: each way is a program of its own."""
    return size == 1, size % 16 == 0


@torch.no_grad()
def check(
    attended: torch.Tensor, query: torch.Tensor, pixels: Projected, codes: Projected, reads: Reads, eps: float
) -> bool:
    """Compares (N, C) `attended` of kernels, which got the rest, with torch's at a few queries.

    Returns whether these show anything; they do not where they are all zero or not finite. Raises MismatchError.
    """
    few = Few.of(query, reads)
    expected = attend_piece(*few.maps(pixels, codes), query[few.asked], few.piece, eps)
    return compare("they are", [(attended[few.asked], expected)], query.dtype, _place(query, reads))


class Few(NamedTuple):
    """Some queries of a batch by themselves.

    asked: (n,) int64, which of the N queries. pixel: (m,), code: (k,) int64, which of the N pixels and of the R S codes
    they read. piece: of these alone.
    """

    asked: torch.Tensor
    pixel: torch.Tensor
    code: torch.Tensor
    piece: Piece

    @staticmethod
    def of(query: torch.Tensor, reads: Reads) -> Few:
        """About QUERIES of (N, C) queries, all over the batch."""
        heads, size = query.shape[1] // HEAD, len(reads.unseen)
        panoramas = len(query) // size
        own = torch.linspace(0, size - 1, min(size, max(1, QUERIES // panoramas))).long().to(query.device)
        piece = Piece.of(reads, panoramas, heads, own, CACHED_BYTES, coded=True)
        used, source = F.pad(piece.source, (0, 1)).long().unique(return_inverse=True)  # the first pixel in any case
        number, code = source[:-1].int(), used[used >= piece.pixels] - piece.pixels
        pixel = used[: len(used) - len(code)]
        small = replace(piece, pixels=len(pixel), sources=len(used), source=number, head_source=number * heads)
        return Few(piece.queries, pixel, code, small)

    def maps(self, pixels: Projected, codes: Projected) -> tuple[Projected, Projected]:
        """What they read of (N, C) pixels and (R, S, C) codes: (m, C) and (k, 1, C)."""
        own_codes = (self.codes_in(of)[:, None] for of in codes)
        return Projected(*(of[self.pixel] for of in pixels)), Projected(*own_codes)

    def codes_in(self, codes: torch.Tensor) -> torch.Tensor:
        """(k, C) of (R, S, C)."""
        return codes.flatten(0, 1)[self.code]


class GradientsCheck:
    """The check of gradients: what kernels are to be given, and what must come of it.

    gradient: (N, C), of what is attended; zero but for a few queries. attended: (N, C) fp32, what these attend to, as
    torch has it: from values in half precision would come gradients with errors that are nobody's fault.
    """

    def __init__(self, query: torch.Tensor, pixels: Projected, codes: Projected, reads: Reads, eps: float) -> None:
        self._few, self._place = Few.of(query, reads), _place(query, reads)
        asked = query.detach()[self._few.asked].float().requires_grad_()
        given = torch.arange(asked.numel(), device=query.device).sin().view_as(asked).to(query.dtype)
        # Its own hooks: those of checkpoint() would count what is kept here.
        with torch.enable_grad(), saved_tensors_hooks(torch.Tensor.detach, torch.Tensor.detach):
            maps = [of.detach().requires_grad_() for part in self._few.maps(pixels, codes) for of in part]
            result = attend_piece(Projected(*maps[:3]), Projected(*maps[3:]), asked, self._few.piece, eps)
            self._expected = torch.autograd.grad(result, [*maps[:3], *maps[4:], asked], given.float())
        self.gradient, self.attended = torch.zeros_like(query), torch.zeros_like(query, dtype=torch.float32)
        self.gradient[self._few.asked], self.attended[self._few.asked] = given, result.detach()

    def compare(self, found: Sequence[torch.Tensor | None]) -> bool:
        """What triton_gradients.gradients gave for `gradient`. Returns and raises as `check` does."""
        *pixels, _, key, value, query = found
        few = [of[self._few.pixel] for of in pixels]
        few += [self._few.codes_in(key), self._few.codes_in(value), query[self._few.asked]]
        # Each as one vector: in half precision, single ones may cancel out and be left with what was rounded away.
        pairs = [(of.reshape(1, -1), exact.reshape(1, -1)) for of, exact in zip(few, self._expected, strict=True)]
        return compare("their gradients are", pairs, self.gradient.dtype, self._place)


def compare(what: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype, place: str) -> bool:
    """Compares what kernels gave in `dtype` with what torch does, vector by vector; returns and raises as `check`."""
    off = [_off(found, expected) for found, expected in pairs]
    worst, allowed = max((one for one in off if one is not None), default=0.0), TOLERANCE[dtype]
    if worst > allowed:
        raise MismatchError(f"{what} {worst:.2%} off torch's at {place}, where {allowed:.2%} are allowed")
    return all(one is not None for one in off)


def _place(query: torch.Tensor, reads: Reads) -> str:
    return f"{str(query.dtype).removeprefix('torch.')}, width {query.shape[1]}, {reads.pixel.shape[1]} samples"


def _off(found: torch.Tensor, expected: torch.Tensor) -> float | None:
    """By how much the worst vector differs, as a share of its own length or of the mean length, if that is greater.

    None where what is expected has no finite vector but zeros. Infinity where what is found is not finite.
    """
    finite, least = expected.isfinite().flatten(1).all(1), torch.finfo(found.dtype).tiny
    found, expected = found[finite].float(), expected[finite].float()
    if not expected.any():
        return None
    length = expected.square().flatten(1).mean(1).sqrt()
    away = (found - expected).square().flatten(1).mean(1).sqrt() / length.clamp(min=max(float(length.mean()), least))
    return float(away.nan_to_num(nan=torch.inf).max())
