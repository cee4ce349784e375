"""Correspondences as depth maps give them, without a scene."""

from __future__ import annotations

import torch

from mvdiffusion_pack.geometry.correspondence import Correspondences, Pair, SampleTable


def depth_like(views: int, size: int, seed: int) -> Correspondences:
    """One sample a query and a table a pair; queries read from one to all other views."""
    stream = torch.manual_seed(seed)
    pairs, tables = [], []
    for query_view in range(views):
        for key_view in {(query_view + step) % views for step in range(1, 2 + query_view % (views - 1))}:
            coords = torch.rand((size * size, 1, 2), generator=stream, dtype=torch.float64) * (size + 1) - 1
            valid = torch.rand((size * size, 1), generator=stream) > 0.4
            code = torch.rand((size * size, 1, 2), generator=stream, dtype=torch.float64) * valid[..., None]
            pairs.append(Pair(query_view, key_view, len(tables)))
            tables.append(SampleTable(torch.arange(size * size), coords, valid, code))
    return Correspondences(views, size, size, tuple(pairs), tuple(tables))
