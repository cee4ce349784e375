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
from .projected import Projected, Weights
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
    layers = tables.layers(layer, norm, features)
    pixels = Projected(*in_pieces(layers.project, features.flatten(0, 2)))
    projected = tables.projected(layers, bands, features)
    if projected is None:
        codes = Unprojected(tables.codes(bands, features), *tables.matrices(layers, features))
        attended = _attend_by_view(pixels, codes, features, query, tables, norm.eps)
    else:
        attended = _attend_together(pixels, projected, features, query, tables, norm.eps)
    return attended + layers.value  # every value holds it, and the weights sum to one


def _attend_learning(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """With the weights as they are now."""
    weights, codes = Weights.of(layer, norm, query.dtype), tables.codes(bands, features)
    pixels = weights.project(features.flatten(0, 2))
    if tables.may_project(codes):
        projected = weights.project_codes(codes.to(features.device))
        attended = _attend_together(pixels, projected, features, query, tables, norm.eps)
    else:
        unprojected = Unprojected(codes, *weights.matrices())
        attended = _attend_by_view(pixels, unprojected, features, query, tables, norm.eps)
    return attended + weights.value


def _attend_together(
    pixels: Projected, codes: Projected, features: torch.Tensor, query: torch.Tensor, tables: Tables, eps: float
) -> torch.Tensor:
    """All queries at once, over codes that are projected: by compiled kernels where they may be used."""
    attended = attend_compiled(query, pixels, codes, tables.reads(features), eps) if tables.way == "auto" else None
    return attend_piece(pixels, codes, query, tables.whole(features), eps) if attended is None else attended


def _attend_by_view(
    pixels: Projected, codes: Unprojected, features: torch.Tensor, query: torch.Tensor, tables: Tables, eps: float
) -> torch.Tensor:
    """The queries of one view after the other, which bounds what is there of their samples."""
    pieces = tables.by_view(features)
    return in_order(pieces, [attend_piece(pixels, codes, piece.asked(query), piece, eps) for piece in pieces])
