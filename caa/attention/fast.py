"""Correspondence-aware attention at the speed of the plain UNet: docs/attention.md explains the method.

Keys and values are projected once per pixel and read projected (projected.py), head by head (headwise.py); samples that
see nothing share one key; what follows from cameras alone is computed once (tables.py).
"""

# pyright: reportArgumentType=false
from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .bags import Piece, in_order
from .compiled import attend_compiled
from .headwise import attend_piece
from .projected import Projected, Weights
from .tables import Tables


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
    pixels, projected = layers.project(features.flatten(0, 2)), tables.projected(layers, bands, features)
    if projected is not None:
        attended = _attend_together(pixels, projected, features, query, tables, norm.eps)
    else:
        parts, pieces = [], tables.pieces(features, together=False)
        codes = tables.codes(bands, features)  # once: where memory is short they are made here
        for piece in pieces:
            own = layers.project_codes(piece.codes(codes), tables.memory)
            parts.append(attend_piece(pixels, own, piece.asked(query), piece, norm.eps))
        attended = in_order(pieces, parts)
    return attended + layers.value  # every value holds it, and the weights sum to one


def _attend_learning(
    layer: Any, norm: Any, features: torch.Tensor, query: torch.Tensor, tables: Tables, bands: torch.Tensor
) -> torch.Tensor:
    """With the weights as they are now. Where codes are too many to be projected at once, they are once more for the
    gradients of each view, instead of being kept for them."""
    weights, codes = Weights.of(layer, norm, query.dtype), tables.codes(bands, features)
    pixels = weights.project(features.flatten(0, 2))

    def of_piece(pixels: Projected, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
        return attend_piece(pixels, weights.project_codes(piece.codes(codes)), asked, piece, norm.eps)

    if tables.memory.may_project(2 * codes.nbytes):
        projected = weights.project_codes(codes.to(features.device))
        attended = _attend_together(pixels, projected, features, query, tables, norm.eps)
    else:
        pieces = tables.pieces(features, together=False)
        parts = [checkpoint(of_piece, pixels, piece.asked(query), piece, use_reentrant=False) for piece in pieces]
        attended = in_order(pieces, parts)
    return attended + weights.value


def _attend_together(
    pixels: Projected, codes: Projected, features: torch.Tensor, query: torch.Tensor, tables: Tables, eps: float
) -> torch.Tensor:
    """All queries at once, over codes that are projected: by compiled kernels where they may be used."""
    attended = attend_compiled(query, pixels, codes, tables.reads(features), eps)
    if attended is None:
        (piece,) = tables.pieces(features, together=True)
        attended = attend_piece(pixels, codes, query, piece, eps)
    return attended
