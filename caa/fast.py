"""Correspondence-aware attention at the speed of the plain UNet: docs/attention.md explains the method.

Keys and values are projected once per pixel and read projected (projection.py); samples that see nothing share one key;
what follows from cameras and weights alone is computed once per run (tables.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from . import compiled
from .projection import Projection, project
from .softmax import HEAD, SCALE, Softmax, accumulation_dtype, split_heads
from .tables import Tables, pieces

BAGS = ("cpu", "cuda")  # devices that are known to have embedding_bag


def attend(
    layer: nn.Module, norm: nn.Module, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """What attention.attend computes, up to rounding: (N, C) attended values of (N, C) queries, N = B V h w, over
    (B V, h, w, C) features."""
    pixels = project(layer, norm, features.flatten(0, 2))
    codes = tables.projected(layer, norm, bands, features)
    attended = None
    if codes is not None:
        attended = compiled.attend(query, pixels, codes, tables.reads(features), norm.eps)
    if attended is None:
        attended = _attend_in_pieces(layer, norm, features, query, pixels, codes, tables, bands)
    # Every value holds W_v b, which is the whole value of samples that see nothing; the weights sum to one.
    return attended + layer.to_v(norm(features.new_zeros(1, features.shape[-1])))


def _attend_in_pieces(layer, norm, features, query, pixels, projected, tables, bands) -> torch.Tensor:
    """(N, C) attended values less W_v b, with the layers of torch, and no more at once than the memory allows."""
    maps, reads, codes = _Maps.of(pixels), tables.reads(features), tables.codes(bands, features)
    size, batch = features.shape[1] * features.shape[2], len(features) // tables.correspondences.views
    softmax = Softmax(split_heads(query), reads.unseen.repeat(batch))
    budget = tables.memory.piece_bytes // maps.sample_bytes
    for group in tables.groups(batch, features.device):
        table = reads.rows[group.table]
        for pairs, rows in pieces(len(group.query_views), table, codes.shape[1], budget):
            code = projected[rows] if projected else project(layer, norm, codes[rows].to(features.device))
            here = group.queries(pairs, reads.query[rows], size)
            pixel = (group.key_views[pairs] * size).int()[:, None, None, None] + reads.pixel[rows]
            weight = reads.weight[rows].to(features.dtype).expand(pixel.shape)
            logits, scale = maps.logits(pixel, weight, query[here], code, norm.eps)
            weights, fade = softmax.weigh(
                here, logits.masked_fill(~reads.valid[rows][..., None], -torch.inf).flatten(0, 1)
            )
            weights = weights.unflatten(0, scale.shape[:2]) * scale[..., None]
            softmax.add(here, fade, maps.values_of(pixel, weight, weights, code))
    return softmax.result().to(features.dtype)


@dataclass(frozen=True, eq=False)
class _Maps:
    """Projected pixels, laid out to be read. read: (N, 2 C), centred and key. value: (N heads, 32).

    heads: (heads,) their numbers. sum_heads: (C, heads), 1 where a channel belongs to a head.
    """

    read: torch.Tensor
    value: torch.Tensor
    heads: torch.Tensor
    sum_heads: torch.Tensor

    @staticmethod
    def of(pixels: Projection) -> _Maps:
        heads = torch.arange(pixels.value.shape[1] // HEAD, device=pixels.value.device)
        sum_heads = F.one_hot(heads.repeat_interleave(HEAD)).to(pixels.value.dtype)
        read = torch.cat((pixels.centred, pixels.key), dim=-1)
        value = pixels.value.to(accumulation_dtype(read.dtype))  # weights of values may be tiny: not in half precision
        return _Maps(read, value.view(-1, HEAD), heads.int(), sum_heads)

    @property
    def sample_bytes(self) -> int:
        """What one sample takes of the memory of a piece, while it is read."""
        taps = 1 if self.read.device.type in BAGS else 4
        return 3 * taps * len(self.sum_heads) * self.read.element_size()

    def logits(self, pixel, weight, query, code: Projection, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(P, n, S, heads) logits of n rows read by P views each, and what they and their values are scaled by.

        pixel, weight: (P, n, S, 4). query: (P n, C). code: (n, S, C). The second result is (P, n, S).
        """
        centred, key = _weighted_sums(self.read, pixel, weight.to(self.read.dtype)).chunk(2, dim=-1)
        wide = accumulation_dtype(self.read.dtype)
        spread = (
            torch.linalg.vector_norm(centred.add_(code.centred), dim=-1, dtype=wide).square() / code.centred.shape[-1]
        )
        scale = (spread + eps).rsqrt()
        products = key.add_(code.key) * query.view(*pixel.shape[:2], 1, -1).to(wide)
        return (products @ self.sum_heads.to(wide)) * (SCALE * scale)[..., None], scale

    def values_of(self, pixel, weight, weights, code: Projection) -> torch.Tensor:
        """(P n, heads, 32) sums of the values by weights (P, n, S, heads), each head by its own."""
        heads = self.heads[:, None, None]
        parts = (weights.transpose(2, 3)[..., None] * weight[:, :, None]).flatten(-2)
        read = _weighted_sums(self.value, (pixel[:, :, None] * len(heads) + heads).flatten(-2), parts)
        return (read + torch.einsum("pnsh, nshc -> pnhc", weights, split_heads(code.value).to(weights))).flatten(0, 1)


def _weighted_sums(maps: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., D) sums of the T rows of (N, D) maps that (..., T) indices name, by their weights."""
    if maps.device.type not in BAGS:
        return (maps[index.long()] * weight[..., None]).sum(-2)
    flat = index.reshape(-1, index.shape[-1]), weight.reshape(-1, index.shape[-1])
    return F.embedding_bag(flat[0], maps, per_sample_weights=flat[1], mode="sum").view(*index.shape[:-1], -1)
