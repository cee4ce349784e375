"""Correspondence-aware attention, written plainly: the reference for every faster path.

Each query pixel attends to the bilinear samples that `Correspondences` names in other views. All keys of a query are
never held at once: pairs of views, or parts of one, are taken in piece by piece. Softmax statistics are fp32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .codes import code_of_zero
from .tables import Tables

HEAD = 32
PIECE_BYTES = 64 * 2**20  # of one piece's samples in fp32; about six tensors of that size live at once


class Softmax:
    """A softmax over keys that arrive piece by piece: highest logit, sum of weights, weighted sum of values so far.

    highest, total: (B, V, n, heads). summed: (B, V, n, heads, 32). In fp32, or float64 where the queries are.
    """

    def __init__(self, query: torch.Tensor) -> None:
        """Nothing seen yet, for (B, V, n, heads, 32) queries."""
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        self.query = query.to(dtype)  # products with half-precision keys are then exact
        self.dtype = query.dtype
        self.summed = torch.zeros(query.shape, dtype=dtype, device=query.device)
        self.total = torch.zeros(query.shape[:-1], dtype=dtype, device=query.device)
        self.highest = torch.full_like(self.total, -torch.inf)

    def take_in(self, views: torch.Tensor, pixels: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """S more keys and values, (B, P, m, S, heads, 32), of the queries `pixels` (m,) of P distinct `views`."""
        here = slice(None), views[:, None], pixels
        logits = (self.query[here][..., None, :, :] * key).sum(-1) * HEAD**-0.5
        before = self.highest[here]
        highest = torch.maximum(before, logits.amax(-2))
        fade = (before - highest).exp()
        weights = (logits - highest[..., None, :]).exp()
        self.highest[here] = highest
        self.total[here] = self.total[here] * fade + weights.sum(-2)
        self.summed[here] = self.summed[here] * fade[..., None] + (weights[..., None] * value).sum(-3)

    def result(self) -> torch.Tensor:
        """(B, V, n, heads 32) attended values, in the queries' dtype."""
        attended = self.summed / self.total[..., None]
        return rearrange(attended.to(self.dtype), "b v n heads c -> b v n (heads c)")


def read_features(features: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, P, n, S, C) bilinear samples of (B, P, C, h, w) features at an (n, S, 2) normalised grid, in its dtype."""
    maps = features.flatten(0, 1).to(grid.dtype)
    grid = grid.expand(len(maps), *grid.shape)
    samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(samples, "(b p) c n s -> b p n s c", b=len(features)).contiguous()


class Attention(nn.Module):
    """The published attention's four projections; `forward` is the attention over `Correspondences`."""

    def __init__(self, width: int, operations, dtype: torch.dtype | None, device: torch.device | None) -> None:
        super().__init__()
        self.to_q = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_k = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_v = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_out = operations.Linear(width, width, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor, norm: nn.Module, tables: Tables, bands: torch.Tensor) -> torch.Tensor:
        """(B, V, C, h, w) features to the (B, V, h w, C) that the attention adds to them.

        `norm` is the block's LayerNorm: queries and keys share it. `bands` are the block's frequencies (N,).
        """
        tokens = rearrange(x, "b v c h w -> b v (h w) c") + code_of_zero(bands).to(x)
        softmax = Softmax(_split_heads(self.to_q(norm(tokens))))
        budget = max(1, PIECE_BYTES // (4 * x.shape[0] * x.shape[2]))
        for group in tables.groups(x.device):
            table = tables.get(group.table, bands, x)
            for pairs, rows in _pieces(len(group.query_views), *table.grid.shape[:2], budget):
                samples = read_features(x[:, group.key_views[pairs]], table.grid[rows])
                keys = norm((samples + table.code[rows]).to(x.dtype))
                key, value = _split_heads(self.to_k(keys)), _split_heads(self.to_v(keys))
                softmax.take_in(group.query_views[pairs], table.query[rows], key, value)
        return self.to_out(softmax.result())


def _split_heads(x: torch.Tensor) -> torch.Tensor:
    return rearrange(x, "... (heads c) -> ... heads c", c=HEAD)


def _pieces(pairs: int, queries: int, samples: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """(pairs, queries) to be worked at once, so that their samples number at most `budget`, or one query's."""
    rows = min(queries, max(1, budget // samples))
    together = max(1, budget // (samples * queries))
    for first in range(0, pairs, together):
        for start in range(0, queries, rows):
            yield slice(first, first + together), slice(start, start + rows)
