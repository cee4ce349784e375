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
from .projected import Codes, Projection, project
from .softmax import HEAD, SCALE, Softmax, accumulation_dtype, split_heads
from .tables import Tables, split

BAGS = ("cpu", "cuda")  # devices that are known to have embedding_bag


def attend(
    layer: nn.Module, norm: nn.Module, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """What attention.attend computes, up to rounding: (N, C) attended values of (N, C) queries, N = B V h w, over
    (B V, h, w, C) features."""
    reads, bias = tables.reads(features), tables.bias(layer, norm, features)
    if not len(reads.valid):  # nothing sees anything
        return bias.value.expand(query.shape)
    pixels = project(layer, norm, bias, features.flatten(0, 2))
    codes = tables.projected(layer, norm, bands, features)
    attended = None if codes is None else compiled.attend(query, pixels, codes, reads, norm.eps)
    if attended is None:
        attended = _attend_in_pieces(layer, norm, features, query, pixels, codes, tables, bands)
    return attended + bias.value  # every value holds it, and the weights sum to one


def _attend_in_pieces(
    layer: nn.Module,
    norm: nn.Module,
    features: torch.Tensor,
    query: torch.Tensor,
    pixels: Projection,
    projected: Codes | None,
    tables: Tables,
    bands: torch.Tensor,
) -> torch.Tensor:
    """(N, C) attended values less W_v b, with the layers of torch, and no more at once than the memory allows."""
    maps, reads, bias = _Maps.of(pixels), tables.reads(features), tables.bias(layer, norm, features)
    codes, size = tables.codes(bands, features), features.shape[1] * features.shape[2]
    batch = len(features) // tables.correspondences.views
    softmax = Softmax(split_heads(query), reads.unseen.repeat(batch))
    for part in tables.batches(batch, features):
        at_once = tables.memory.piece_bytes // (maps.sample_bytes * codes.shape[1] * len(part.query))
        for rows in split(part.rows, at_once):
            code = projected[rows] if projected else Codes.of(layer, norm, bias, codes[rows].to(features.device))
            own = slice(rows.start - part.rows.start, rows.stop - part.rows.start)
            here = part.query[:, own].flatten()
            pixel = part.key_view[:, own, None, None] * size + reads.pixel[rows]
            logits, scale = maps.logits(pixel, reads.weight[rows], query[here], code, norm.eps)
            logits.masked_fill_(~reads.valid[rows][..., None], -torch.inf)
            weights, fade = softmax.weigh(here, logits.flatten(0, 1))
            weights = weights.unflatten(0, scale.shape[:2]) * scale[..., None]
            softmax.add(here, fade, maps.values_of(pixel, reads.weight[rows], weights, code))
    return softmax.result().to(features.dtype)


@dataclass(frozen=True, eq=False)
class _Maps:
    """Projected pixels, laid out to be read. read: (N, 2 C). value: (N heads, 32). heads: (heads, 1), their numbers."""

    read: torch.Tensor
    value: torch.Tensor
    heads: torch.Tensor

    @staticmethod
    def of(pixels: Projection) -> _Maps:
        wide = accumulation_dtype(pixels.value.dtype)  # weights of values may be tiny: no half precision
        heads = torch.arange(pixels.value.shape[1] // HEAD, dtype=torch.int32, device=pixels.value.device)
        return _Maps(pixels.read, pixels.value.to(wide).view(-1, HEAD), heads[:, None])

    @property
    def sample_bytes(self) -> int:
        """About what one sample takes while it is read: both maps' values, and their products in fp32."""
        read = 2 * self.read.element_size() * (1 if self.read.device.type in BAGS else 8)
        return (read + self.value.element_size()) * HEAD * len(self.heads)

    def logits(self, pixel, weight, query, code: Codes, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(P, n, S, heads) logits of n rows read by P views each, and what they and their values are scaled by.

        pixel: (P, n, S, 4). weight: (n, S, 4). query: (P n, C). code: (n, S, C). The second result is (P, n, S).
        """
        read = _weighted_sums(self.read, pixel, weight.to(self.read.dtype).expand(pixel.shape))
        centred, key = read.chunk(2, dim=-1)
        wide = accumulation_dtype(read.dtype)
        norm = torch.linalg.vector_norm(centred.add_(code.centred), dim=-1, dtype=wide)
        scale = (norm.square() / centred.shape[-1] + eps).rsqrt()
        products = split_heads(key.add_(code.key) * query.unflatten(0, pixel.shape[:2])[:, :, None].to(wide))
        return products.sum(-1) * (SCALE * scale)[..., None], scale

    def values_of(self, pixel, weight, weights, code: Codes) -> torch.Tensor:
        """(P n, heads, 32) sums of the values by weights (P, n, S, heads), each head by its own."""
        weights = weights.transpose(2, 3).contiguous()
        parts = (weights[..., None] * weight[:, None]).flatten(-2)
        read = _weighted_sums(
            self.value, (pixel[:, :, None] * len(self.heads) + self.heads[..., None]).flatten(-2), parts
        )
        rows, samples = code.value.shape[:2]
        index = torch.arange(rows * samples, dtype=torch.int32, device=pixel.device).view(rows, 1, samples)
        index = (index * len(self.heads) + self.heads).expand(weights.shape)
        return (read + _weighted_sums(code.value.to(weights.dtype).view(-1, HEAD), index, weights)).flatten(0, 1)


def _weighted_sums(maps: torch.Tensor, index: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., D) sums of the T rows of (N, D) maps that (..., T) indices name, by their weights."""
    if maps.device.type not in BAGS:
        return (maps[index.long()] * weight[..., None]).sum(-2)
    bags, weights = index.reshape(-1, index.shape[-1]), weight.reshape(-1, index.shape[-1])
    return F.embedding_bag(bags, maps, per_sample_weights=weights, mode="sum").view(*index.shape[:-1], -1)
