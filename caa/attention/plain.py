"""Correspondence-aware attention, written plainly: the reference for the faster way in fast.py.

Each query pixel attends to the bilinear samples that `Correspondences` names in other views. All keys of a query are
never held at once: pairs of views, or parts of one, are taken in piece by piece. Softmax statistics are fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange

from .memory import split
from .softmax import SCALE, Softmax, split_heads
from .tables import Tables


def attend_plainly(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """(N, C) attended values of (N, C) projected queries, N = B V h w, over (B V, h, w, C) features.

    `layer` has the projections to_k and to_v, `norm` is the LayerNorm of keys, `bands` are the frequencies.
    """
    query = split_heads(query)
    softmax = Softmax(query)
    wide = query.to(softmax.summed.dtype)  # products with half-precision keys are then exact
    _, height, width, channels = features.shape
    for pairs in tables.sharing(len(features) // tables.correspondences.views, features.device):
        table = tables.plain(pairs.table, bands, features)
        queries, grid, code = pairs.of(table.query), pairs.of(table.grid), pairs.of(table.code)
        row_bytes = 4 * channels * len(pairs.key_views) * grid.shape[1]  # of one of about six tensors
        for rows in split(slice(0, len(queries)), tables.memory.piece_bytes // row_bytes):
            samples = read_features(features[pairs.key_views], grid[rows])
            keys = norm((samples + code[rows]).to(features.dtype)).flatten(0, 1)
            key, value = split_heads(layer.to_k(keys)), split_heads(layer.to_v(keys))
            here = pairs.queries(queries[rows], height * width)
            weights, fade = softmax.weigh(here, (wide[here][:, None] * key).sum(-1) * SCALE)
            softmax.add(here, fade, (weights[..., None] * value).sum(1))
    return softmax.result().to(features.dtype)


def read_features(features: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(M, n, S, C) bilinear samples of (M, h, w, C) features at an (n, S, 2) normalised grid, in its dtype."""
    grid = grid.expand(len(features), *grid.shape)
    maps = features.movedim(-1, 1).to(grid.dtype)
    samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(samples, "m c n s -> m n s c").contiguous()
