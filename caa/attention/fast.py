"""Correspondence-aware attention at the speed of the plain UNet: docs/attention.md explains the method.

Keys and values are projected once per pixel and read projected (projected.py), head by head (headwise.py); samples that
see nothing share one key; what follows from cameras alone is computed once (tables.py).
"""

# pyright: reportArgumentType=false
from __future__ import annotations

from typing import Any

import torch

from .bags import in_order
from .compiled import attend_compiled
from .headwise import attend_piece
from .memory import in_pieces
from .passes import centred
from .projected import Projected, Weights, by_products
from .tables import Tables
from .unprojected import Unprojected


def attend_fast(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """What plain.attend_plainly computes, up to rounding: (N, C) attended values of (N, C) queries, N = B V h w, over
    (B V, h, w, C) features."""
    attend = _attend_sampling if tables.sampling else _attend_learning
    return attend(layer, norm, features, query, tables, bands)


def _attend_sampling(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """With the layers as they are, and what is kept for a run."""
    layers, tokens = tables.layers(layer, norm, features), features.flatten(0, 2)
    if by_products(features.device):
        pixels = tables.weights(layers, features).project_centred(centred(tokens, tables.way))
    else:
        pixels = Projected(*in_pieces(layers.project, tokens))
    attended = _attend(pixels, tables.projected(layers, bands, features), features, query, tables, norm.eps)
    return attended + layers.value  # every value holds it, and the weights sum to one


def _attend_learning(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """With the weights as they are now."""
    weights, codes = Weights.of(layer, norm, query.dtype), tables.codes(bands, features)
    pixels = weights.project(features.flatten(0, 2))
    may = tables.may_project(codes)
    of_codes = weights.project_centred(codes.to(features.device)) if may else Unprojected(codes, *weights.matrices())
    return _attend(pixels, of_codes, features, query, tables, norm.eps) + weights.value


def _attend(
    pixels: Projected,
    codes: Projected | Unprojected,
    features: torch.Tensor,
    query: torch.Tensor,
    tables: Tables,
    eps: float,
) -> torch.Tensor:
    """Over codes that are projected all queries at once, by compiled kernels where they may be used; over others the
    queries of one view after the other, which bounds what is there of their samples."""
    if isinstance(codes, Unprojected):
        pieces = tables.by_view(features)
        return in_order(pieces, [attend_piece(pixels, codes, piece.asked(query), piece, eps) for piece in pieces])
    attended = attend_compiled(query, pixels, codes, tables.reads(features), eps) if tables.way == "auto" else None
    return attend_piece(pixels, codes, query, tables.whole(features), eps) if attended is None else attended
