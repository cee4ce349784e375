"""The fast attention over one piece, and its gradients, head by head: docs/attention.md has the formulas.

With z, key and value of a sample s as they are read (`Maps`), and SCALE = 1 / sqrt(32):

    scale(s) = 1 / sqrt(mean of z^2 + eps)             logit(s) = SCALE scale(s) query key(s), head by head
    attended = sum of p(s) scale(s) value(s),           p = softmax over the valid samples and `unseen` logits of 0

All of it is fp32, or float64 where the features are. The gradients need p once more and, of what is large, only what
one head reads: statistics have one number per sample and head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .bags import Piece
from .projected import Projected
from .softmax import HEAD, SCALE, split_heads


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


def attend_piece(pixels: Projected, codes: Projected, query: torch.Tensor, piece: Piece, eps: float) -> torch.Tensor:
    """(Q, C) attended values, less W_v b, of (Q, C) queries over (M, C) pixels and (R', S, C) codes; differentiable."""
    return _Attention.apply(*pixels, *codes, query, piece, eps)


class _Attention(torch.autograd.Function):
    """`attend_piece`. Kept for the gradients are its arguments, its result and statistics."""

    @staticmethod
    def forward(ctx, *arguments):
        *maps, query, piece, eps = arguments
        maps = Projected(*maps[:3]).joined(Projected(*maps[3:]))
        statistics = _statistics(maps, query, piece, eps)
        shares = statistics.shares(piece).mul_(statistics.scale)
        heads = [piece.by_query(maps.value, head, share) for head, share in enumerate(shares)]
        attended = torch.stack(heads, dim=1).flatten(1)
        ctx.piece = piece
        ctx.save_for_backward(*arguments[:7], attended, *statistics)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        *maps, query, attended, logits, level, scale = (tensor.detach() for tensor in ctx.saved_tensors)
        pixels, codes = Projected(*maps[:3]), Projected(*maps[3:])
        statistics = Statistics(logits, level, scale)
        of = _gradients(pixels.joined(codes), query, ctx.piece, statistics, attended, gradient.contiguous())
        key, value = (
            part.to(pixels.key.dtype).split((len(pixels.key), len(part) - len(pixels.key))) for part in of[1:3]
        )
        of_codes = (part.view_as(codes.key) for part in (key[1], value[1]))
        return of.centred.to(pixels.centred.dtype), key[0], value[0], None, *of_codes, of.query, None, None


class _Gradients(NamedTuple):
    """centred: (M, C), of pixels alone. key, value: (sources, C). query: (Q, C)."""

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    query: torch.Tensor


def _gradients(
    maps: Projected,
    query: torch.Tensor,
    piece: Piece,
    statistics: Statistics,
    attended: torch.Tensor,
    gradient: torch.Tensor,
) -> _Gradients:
    """Those of (sources, C) maps and (Q, C) queries, for the (Q, C) gradient of what was attended."""
    heads, scale = query.shape[1] // HEAD, statistics.scale
    shares, along = statistics.shares(piece), _products(maps.value, gradient, piece).mul_(scale)
    mean = (gradient * attended).unflatten(1, (heads, HEAD)).sum(-1).T
    of_logits = (along - _of_entries(mean, piece)).mul_(shares)
    # The scale is a factor of the logits and of the values, and falls with z: d scale = -scale^3 z dz / C.
    of_scale = (of_logits * statistics.logits.masked_fill(~piece.valid, 0)).addcmul_(shares, along).sum(0)
    of_z = piece.pixel_weights((of_scale * scale.square()).mul_(-1 / query.shape[1]))
    of_logits.mul_(scale * SCALE)
    shares.mul_(scale)
    counts = piece.pixels, len(maps.key), len(maps.value), len(query)
    result = _Gradients(*(query.new_empty(count, heads, HEAD) for count in counts))
    for head in range(heads):
        result.centred[:, head] = piece.from_samples(piece.samples_of_head(maps.centred, head), of_z)
        result.key[:, head] = piece.from_queries(query, head, of_logits[head])
        result.value[:, head] = piece.from_queries(gradient, head, shares[head])
        result.query[:, head] = piece.by_query(maps.key, head, of_logits[head])
    return _Gradients(*(part.flatten(1) for part in result))


def _statistics(maps: Projected, query: torch.Tensor, piece: Piece, eps: float) -> Statistics:
    scale = torch.cat([_scales(piece.samples(maps.centred, part), eps) for part in piece.parts(maps.centred)])
    logits = _products(maps.key, query, piece).mul_(scale * SCALE).masked_fill_(~piece.valid, -torch.inf)
    highest = _by_query(logits.amax(-1), piece, -torch.inf).amax(-1)
    highest = torch.where(piece.unseen > 0, highest.clamp(min=0), highest)
    total = _by_query((logits - _of_entries(highest, piece)).exp_().sum(-1), piece, 0).sum(-1)
    # Where nothing is unseen `highest` may be far below 0: 0 times infinity would be NaN.
    total += piece.unseen * (-highest.clamp(min=0)).exp()
    return Statistics(logits, highest + total.log(), scale)


def _scales(samples: torch.Tensor, eps: float) -> torch.Tensor:
    """(n, S) of (n, S, C) samples."""
    return torch.linalg.vector_norm(samples, dim=-1).square_().div_(samples.shape[-1]).add_(eps).rsqrt_()


def _products(maps: torch.Tensor, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(heads, I, S) products of what samples are of (sources, C) maps with what (Q, C) queries have, head by head."""
    parts = []
    for part in piece.parts(maps):
        here = asked.index_select(0, piece.query[part])
        parts.append(split_heads(piece.samples(maps, part).mul_(here[:, None])).sum(-1))
    return torch.cat(parts).movedim(-1, 0).contiguous()


def _of_entries(values: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(heads, I, 1): each entry's of (heads, Q) values of queries."""
    return values.index_select(1, piece.query)[..., None]


def _by_query(values: torch.Tensor, piece: Piece, none: float) -> torch.Tensor:
    """(heads, Q, E): those of each query of (heads, I) values, filled up with `none`."""
    return F.pad(values, (0, 1), value=none)[:, piece.entries]
