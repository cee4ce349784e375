"""Correspondence-aware attention, written plainly: the reference for every faster path.

Each query pixel attends to the bilinear samples that `Correspondences` names in other views. Works view by view, pair
by pair and in pieces of bounded size; softmax statistics are fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..geometry.correspondence import Pair
from .codes import code_of_zero
from .tables import Tables

HEAD = 32
PIECE_BYTES = 64 * 2**20  # of one (batch, queries, samples, channels) tensor; about six of them live at once


@dataclass
class Softmax:
    """A softmax over keys that arrive bit by bit: highest logit, sum of weights, weighted sum of values so far.

    highest, total: (B, n, heads). summed: (B, n, heads, 32).
    """

    highest: torch.Tensor
    total: torch.Tensor
    summed: torch.Tensor

    @classmethod
    def like(cls, query: torch.Tensor) -> Softmax:
        """Nothing seen yet, for (B, n, heads, 32) queries; in fp32, or float64 where the queries are."""
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        zeros = torch.zeros(query.shape, dtype=dtype, device=query.device)
        return cls(torch.full_like(zeros[..., 0], -torch.inf), zeros[..., 0], zeros)

    def take_in(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Softmax:
        """With S more keys and values, (B, n, S, heads, 32), of each query."""
        logits = (query[:, :, None] * key).sum(-1, dtype=self.total.dtype) * HEAD**-0.5
        highest = torch.maximum(self.highest, logits.amax(2))
        fade = (self.highest - highest).exp()
        weights = (logits - highest[:, :, None]).exp()
        summed = self.summed * fade[..., None] + (weights[..., None] * value).sum(2)
        return Softmax(highest, self.total * fade + weights.sum(2), summed)

    def of(self, index: torch.Tensor) -> Softmax:
        """Of the queries `index` alone."""
        return Softmax(*(state[:, index] for state in (self.highest, self.total, self.summed)))

    def replaced(self, index: torch.Tensor, part: Softmax) -> Softmax:
        """With the state of `part` for the queries `index`."""
        states = zip((self.highest, self.total, self.summed), (part.highest, part.total, part.summed), strict=True)
        return Softmax(*(state.index_copy(1, index, new) for state, new in states))


def read_features(features: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, n, S, C) bilinear samples of (B, C, h, w) features at an (n, S, 2) normalised grid, in the grid's dtype."""
    grid = grid.expand(len(features), *grid.shape)
    samples = F.grid_sample(features.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(samples, "b c n s -> b n s c")


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
        views = []
        for view in range(tables.correspondences.views):
            tokens = rearrange(x[:, view], "b c h w -> b (h w) c") + code_of_zero(bands).to(x)
            query = _split_heads(self.to_q(norm(tokens)))
            attended = [self._attend(x, query, rows, view, norm, tables, bands) for rows in _pieces(x, tables)]
            views.append(self.to_out(torch.cat(attended, dim=1)))
        return torch.stack(views, dim=1)

    def _attend(
        self, x: torch.Tensor, query: torch.Tensor, rows: slice, view: int, norm: nn.Module, tables: Tables, bands
    ) -> torch.Tensor:
        """(B, rows, C): what the queries `rows` of one view read in all others."""
        query = query[:, rows]
        softmax = Softmax.like(query)
        for pair in tables.correspondences.pairs_of(view):
            here, index = tables.rows(pair, rows)
            key, value = self._keys_and_values(x, here, pair, norm, tables, bands)
            if index is None:
                softmax = softmax.take_in(query, key, value)
            else:
                index = index.to(x.device)
                softmax = softmax.replaced(index, softmax.of(index).take_in(query[:, index], key, value))
        attended = softmax.summed / softmax.total[..., None]
        return rearrange(attended.to(x.dtype), "b n heads c -> b n (heads c)")

    def _keys_and_values(
        self, x: torch.Tensor, here: slice, pair: Pair, norm: nn.Module, tables: Tables, bands: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, n, S, heads, 32) of the pair's samples `here`."""
        table = tables.get(pair.table, bands, x)
        samples = read_features(x[:, pair.key_view], table.grid[here])
        keys = norm((samples + table.code[here]).to(x.dtype))
        return _split_heads(self.to_k(keys)), _split_heads(self.to_v(keys))


def _split_heads(x: torch.Tensor) -> torch.Tensor:
    return rearrange(x, "... (heads c) -> ... heads c", c=HEAD)


def _pieces(x: torch.Tensor, tables: Tables) -> Iterator[slice]:
    """Runs of queries whose samples stay within PIECE_BYTES."""
    batch, _, channels, height, width = x.shape
    samples = max((table.coords.shape[1] for table in tables.correspondences.tables), default=1)
    step = max(1, PIECE_BYTES // (4 * batch * samples * channels))
    for start in range(0, height * width, step):
        yield slice(start, min(start + step, height * width))
