"""Correspondence-aware attention, written plainly: the reference for every faster path.

Each query pixel attends to the bilinear samples that `Correspondences` names in other views. Works view by view, pair
by pair and in pieces of bounded size; softmax statistics are fp32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from ..geometry.correspondence import Correspondences, Pair
from .codes import code_of_zero
from .tables import Tables

HEAD = 32
PIECE_BYTES = 64 * 2**20  # of one (batch, queries, samples, channels) tensor; about six of them live at once


def read_features(features: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, n, S, C) bilinear samples of (B, C, h, w) features at an (n, S, 2) normalised grid; zero outside."""
    grid = grid.expand(len(features), *grid.shape)
    samples = F.grid_sample(features.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return samples.permute(0, 2, 3, 1)


class Attention(nn.Module):
    """The published attention's four projections; `forward` is the attention over `Correspondences`."""

    def __init__(self, width: int, operations, dtype: torch.dtype | None, device: torch.device | None) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.to_q = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_k = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_v = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_out = operations.Linear(width, width, dtype=dtype, device=device)

    def forward(
        self,
        x: torch.Tensor,
        norm: nn.Module,
        correspondences: Correspondences,
        bands: torch.Tensor,
        tables: Tables,
    ) -> torch.Tensor:
        """(B, V, C, h, w) features to the (B, V, h w, C) that the attention adds to them.

        `norm` is the block's LayerNorm: queries and keys share it. `bands` are the block's frequencies (N,).
        """
        views = []
        for view in range(correspondences.views):
            tokens = x[:, view].flatten(2).mT + code_of_zero(bands).to(x)
            query = self.to_q(norm(tokens))
            pieces = [
                self._attend(x, query, range(start, stop), correspondences, view, norm, bands, tables)
                for start, stop in _pieces(x, correspondences)
            ]
            views.append(self.to_out(torch.cat(pieces, dim=1)))
        return torch.stack(views, dim=1)

    def _attend(self, x, query, rows: range, correspondences, view, norm, bands, tables) -> torch.Tensor:
        """The attention of one view's queries `rows`: a softmax that takes in one pair after another."""
        query = query[:, rows.start : rows.stop].unflatten(-1, (self.heads, HEAD))
        highest = query.new_full(query.shape[:-1], -torch.inf, dtype=_statistics(x))
        total = torch.zeros_like(highest)
        summed = torch.zeros_like(query, dtype=highest.dtype)
        for pair in correspondences.pairs_of(view):
            key, value = self._keys_and_values(x, rows, correspondences, pair, norm, bands, tables)
            logits = (query[:, :, None] * key).sum(-1, dtype=highest.dtype) * HEAD**-0.5
            higher = torch.maximum(highest, logits.amax(2))
            fade = (highest - higher).exp()
            weights = (logits - higher[:, :, None]).exp()
            total = total * fade + weights.sum(2)
            summed = summed * fade[..., None] + (weights[..., None] * value).sum(2)
            highest = higher
        return (summed / total[..., None]).to(x.dtype).flatten(-2)

    def _keys_and_values(self, x, rows, correspondences, pair: Pair, norm, bands, tables):
        """Keys and values (B, n, S, heads, 32) of the samples that `rows` of the pair's query view read."""
        table = tables.get(correspondences, pair.table, bands, x)
        samples = read_features(x[:, pair.key_view], table.grid[rows.start : rows.stop])
        keys = norm((samples + table.code[rows.start : rows.stop]).to(x.dtype))
        return tuple(project(keys).unflatten(-1, (self.heads, HEAD)) for project in (self.to_k, self.to_v))


def _statistics(x: torch.Tensor) -> torch.dtype:
    """fp32 for the softmax; float64 where the features are float64 themselves."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _pieces(x: torch.Tensor, correspondences: Correspondences) -> Iterator[tuple[int, int]]:
    """Ranges of queries whose samples stay within PIECE_BYTES."""
    batch, _, channels, height, width = x.shape
    samples = max((table.coords.shape[1] for table in correspondences.tables), default=1)
    step = max(1, PIECE_BYTES // (4 * batch * samples * channels))
    for start in range(0, height * width, step):
        yield start, min(start + step, height * width)
