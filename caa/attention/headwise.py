"""The fast attention over one piece, and its gradients, head by head: docs/attention.md has the formulas.

With z, key and value of a sample s as they are read of the sources, and SCALE = 1 / sqrt(32):

    scale(s) = 1 / sqrt(mean of z^2 + eps)             logit(s) = SCALE scale(s) query key(s), head by head
    attended = sum of p(s) scale(s) value(s),           p = softmax over the valid samples and `unseen` logits of 0

All of it is fp32, or float64 where the features are. The gradients need p once more and, of what is large, only what
one head reads: statistics have one number per sample and head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from . import unprojected
from .bags import Piece
from .projected import Projected
from .softmax import HEAD, SCALE, accumulation_dtype, split_heads
from .unprojected import Unprojected


class Statistics(NamedTuple):
    """What the gradients need beside maps and queries.

    logits: (heads, I, S), -inf where invalid. level: (heads, Q), the logarithm of the sum of their exponentials, keys
    of logit 0 included. scale: (I, S).
    """

    logits: torch.Tensor
    level: torch.Tensor
    scale: torch.Tensor

    def shares(self, piece: Piece) -> torch.Tensor:
        """(heads, I, S) the softmax."""
        return (self.logits - _of_entries(self.level, piece)).exp_()


def attend_piece(
    pixels: Projected, codes: Projected | Unprojected, query: torch.Tensor, piece: Piece, eps: float
) -> torch.Tensor:
    """(Q, C) attended values, less W_v b, of (Q, C) queries over (M, C) pixels and (R, S, C) codes; differentiable.

    Codes are projected where they are sources of the piece, else unprojected.
    """
    wide = query.to(accumulation_dtype(query.dtype))
    return _Attention.apply(*pixels, *codes, wide, piece, eps).to(query.dtype)


class _Sampled(NamedTuple):
    """What samples are read from: (sources, C), and where codes are none of them, those (R, S, C) and, of keys and
    values, the (C, C) matrix that they would be projected by."""

    sources: torch.Tensor
    codes: torch.Tensor | None
    matrix: torch.Tensor | None = None

    def products(self, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
        """(heads, I, S) products of samples with what (Q, C) queries have, head by head."""
        found = _products(self.sources, asked, piece)
        if self.codes is not None and self.matrix is not None:
            found += unprojected.products(self.codes, self.matrix, asked, piece)
        return found

    def sums(self, share: torch.Tensor, like: torch.Tensor, piece: Piece) -> torch.Tensor:
        """(Q, C) as `like`: each query's samples, summed by `share` (heads, I, S)."""
        found = _by_head(lambda head: piece.by_query(self.sources, head, share[head]), like)
        if self.codes is not None and self.matrix is not None:
            found += unprojected.sums(self.codes, self.matrix, share, piece, like)
        return found


class _Attention(torch.autograd.Function):
    """`attend_piece`. Kept for the gradients are sources, queries, the result and statistics.

    All are in fp32 at least: half precision would be no faster to read, and too coarse for the small weights of values.
    """

    @staticmethod
    def forward(ctx, *arguments):
        *maps, query, piece, eps = arguments
        kept, codes = [], None if piece.coded else maps[3]

        def sampled(number: int) -> _Sampled:
            pixels, own = maps[number], maps[number + 3]
            sources = _joined(pixels, own, query.dtype) if piece.coded else pixels.to(query.dtype)
            if any(ctx.needs_input_grad):  # else one at a time is there
                kept.append(sources)
            return _Sampled(sources, codes, own)

        scale = _scales(sampled(0), piece, eps)
        statistics = _statistics(sampled(1).products(query, piece).mul_(scale * SCALE), piece, scale)
        shares = statistics.shares(piece).mul_(scale)
        attended = sampled(2).sums(shares, query, piece)
        ctx.piece, ctx.dtype, ctx.codes = piece, maps[0].dtype, maps[3].shape
        ctx.save_for_backward(*kept, *(() if piece.coded else maps[3:]), query, *statistics, attended)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        *read, query, logits, level, scale, attended = ctx.saved_tensors
        piece, pixels, statistics = ctx.piece, ctx.piece.pixels, Statistics(logits, level, scale)
        codes, of_keys, of_values = (None, None, None) if piece.coded else read[3:]
        centred, keys, values = (
            _Sampled(read[0], codes),
            _Sampled(read[1], codes, of_keys),
            _Sampled(read[2], codes, of_values),
        )
        of = _gradients(centred, keys, values, query, piece, statistics, attended, gradient.contiguous())
        key, value = of.key.to(ctx.dtype), of.value.to(ctx.dtype)
        of_codes = [key[pixels:].view(ctx.codes), value[pixels:].view(ctx.codes)] if piece.coded else of.matrices
        return of.centred.to(ctx.dtype), key[:pixels], value[:pixels], None, *of_codes, of.query, None, None


def _joined(pixels: torch.Tensor, codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(sources, C): (M, C) pixels and behind them (R, S, C) codes."""
    codes = codes.flatten(0, 1)
    joined = pixels.new_empty(len(pixels) + len(codes), pixels.shape[1], dtype=dtype)
    joined[: len(pixels)], joined[len(pixels) :] = pixels, codes
    return joined


class _Gradients(NamedTuple):
    """centred: (M, C), of pixels alone. key, value: (sources, C). query: (Q, C). matrices: of keys and values, (C, C)
    each, where codes are unprojected."""

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    query: torch.Tensor
    matrices: list[torch.Tensor]


def _gradients(
    centred: _Sampled,
    keys: _Sampled,
    values: _Sampled,
    query: torch.Tensor,
    piece: Piece,
    statistics: Statistics,
    attended: torch.Tensor,
    gradient: torch.Tensor,
) -> _Gradients:
    """Those of what was read and of (Q, C) queries, for the (Q, C) gradient of what was attended."""
    heads, scale = query.shape[1] // HEAD, statistics.scale
    shares, along = statistics.shares(piece), values.products(gradient, piece).mul_(scale)
    mean = (gradient * attended).unflatten(1, (heads, HEAD)).sum(-1).T
    of_logits = (along - _of_entries(mean, piece)).mul_(shares)
    # The scale is a factor of the logits and of the values, and falls with z: d scale = -scale^3 z dz / C.
    of_scale = (of_logits * statistics.logits.masked_fill(~piece.valid, 0)).addcmul_(shares, along).sum(0)
    of_z = piece.pixel_weights((of_scale * scale.square()).mul_(-1 / query.shape[1]))
    of_logits.mul_(scale * SCALE)
    shares.mul_(scale)
    matrices, codes = [], keys.codes
    if codes is not None:
        ways = (keys.matrix, of_logits, query), (values.matrix, shares, gradient)
        matrices = [unprojected.of_matrix(codes, share, asked, piece).to(matrix) for matrix, share, asked in ways]
    return _Gradients(
        _by_head(lambda head: piece.from_samples(_of_head(centred, piece, head), of_z), query),
        _by_head(lambda head: piece.from_queries(query, head, of_logits[head]), query),
        _by_head(lambda head: piece.from_queries(gradient, head, shares[head]), query),
        keys.sums(of_logits, query, piece),
        matrices,
    )


def _of_head(centred: _Sampled, piece: Piece, head: int) -> torch.Tensor:
    """(I S, 32) one head's channels of what samples are of centred vectors."""
    samples = piece.samples_of_head(centred.sources, head)
    if centred.codes is None:
        return samples
    codes = centred.codes[..., head * HEAD : (head + 1) * HEAD]
    return samples.add_(unprojected.codes_of(codes, piece.row, samples).flatten(0, 1))


def _scales(centred: _Sampled, piece: Piece, eps: float) -> torch.Tensor:
    """(I, S) 1 / spread of what samples are of centred vectors."""
    parts = []
    for part in piece.parts(centred.sources):
        samples = piece.samples(centred.sources, part)
        if centred.codes is not None:
            samples.add_(unprojected.codes_of(centred.codes, piece.row[part], samples))
        parts.append(torch.linalg.vector_norm(samples, dim=-1))
    return torch.cat(parts).square_().div_(centred.sources.shape[1]).add_(eps).rsqrt_()


def _statistics(logits: torch.Tensor, piece: Piece, scale: torch.Tensor) -> Statistics:
    """Those of (heads, I, S) logits, of invalid samples, too."""
    logits.masked_fill_(~piece.valid, -torch.inf)
    highest = _by_query(logits.amax(-1), piece, -torch.inf).amax(-1)
    highest = torch.where(piece.unseen > 0, highest.clamp(min=0), highest)
    total = _by_query((logits - _of_entries(highest, piece)).exp_().sum(-1), piece, 0).sum(-1)
    # Where nothing is unseen `highest` may be far below 0: 0 times infinity would be NaN.
    total += piece.unseen * (-highest.clamp(min=0)).exp()
    return Statistics(logits, highest + total.log(), scale)


def _products(maps: torch.Tensor, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(heads, I, S) products of what samples are of (sources, C) maps with what (Q, C) queries have, head by head."""
    parts = []
    for part in piece.parts(maps):
        here = asked.index_select(0, piece.query[part])
        parts.append(split_heads(piece.samples(maps, part).mul_(here[:, None])).sum(-1))
    return torch.cat(parts).movedim(-1, 0).contiguous()


def _by_head(of_head: Callable[[int], torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """(n, C) of the (n, 32) of each head of (..., C) `like`."""
    return torch.stack([of_head(head) for head in range(like.shape[1] // HEAD)], dim=1).flatten(1)


def _of_entries(values: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(heads, I, 1): each entry's of (heads, Q) values of queries."""
    return values.index_select(1, piece.query)[..., None]


def _by_query(values: torch.Tensor, piece: Piece, none: float) -> torch.Tensor:
    """(heads, Q, E): those of each query of (heads, I) values, filled up with `none`."""
    return F.pad(values, (0, 1), value=none)[:, piece.entries]
