"""Position codes as they are, and what they add to keys and values, by way of the queries.

Where cameras share few tables, as on a sphere, there are many more codes than queries (S for each row of `Reads`), and
too many to be kept projected. But of a key's code only the product with the query counts, and of a value's only its
share in the sum: q (W_k c) = (q W_k) c, and sum of p W_v c = W_v (sum of p c). So each query is projected, head by
head, instead of its codes: 2 C^2 instead of 36 C^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .bags import Piece
from .memory import split
from .softmax import HEAD

LEAST = 64  # queries at once: with fewer, matrix products are too narrow for a processor


class Unprojected(NamedTuple):
    """centred: (R, S, C) codes of the rows of `Reads`, less their means, on the device or waiting on the CPU.

    key, value: (C, C), what a code would be multiplied by to be projected.
    """

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor


def codes_of(codes: torch.Tensor, rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(..., S, C) codes of (...) rows, of the dtype and on the device of `like`."""
    return codes[rows.to(codes.device)].to(like)


def products(codes: torch.Tensor, matrix: torch.Tensor, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(heads, I, S) products of samples' codes, projected, with what (Q, C) queries have, head by head."""
    by_head, (queries, most) = _by_head(matrix, asked), piece.entries.shape
    found = asked.new_empty(len(by_head), queries, most, piece.valid.shape[1])
    for part, code in _blocks(codes, piece, asked):
        wanted = torch.einsum("qhd,hcd->qhc", asked[part].unflatten(1, (-1, HEAD)), by_head)
        found[:, part] = (wanted @ code.mT).unflatten(2, found.shape[2:]).movedim(1, 0)
    return found.flatten(1, 2).index_select(1, piece.places)


def sums(
    codes: torch.Tensor, matrix: torch.Tensor, share: torch.Tensor, piece: Piece, like: torch.Tensor
) -> torch.Tensor:
    """(Q, C), as (Q, C) `like`: each query's codes, projected and summed by `share` (heads, I, S)."""
    by_head, result = _by_head(matrix, like), torch.zeros_like(like)
    for part, mixed in _mixed(codes, share, piece, like):
        result[part] = torch.einsum("qhc,hcd->qhd", mixed, by_head).flatten(1)
    return result


def of_matrix(codes: torch.Tensor, share: torch.Tensor, asked: torch.Tensor, piece: Piece) -> torch.Tensor:
    """(C, C): what (Q, C) queries give back to the matrix of their codes, by `share` (heads, I, S)."""
    total = asked.new_zeros(len(share), asked.shape[1], HEAD)
    for part, mixed in _mixed(codes, share, piece, asked):
        total += torch.einsum("qhc,qhd->hcd", mixed, asked[part].unflatten(1, (-1, HEAD)))
    return total.movedim(0, 1).flatten(1)


def _mixed(
    codes: torch.Tensor, share: torch.Tensor, piece: Piece, like: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Parts of the queries, and (n, heads, C) their codes summed by `share`."""
    for part, code in _blocks(codes, piece, like):
        own = F.pad(share, (0, 0, 0, 1))[:, piece.entries[part]]
        yield part, own.flatten(2).movedim(0, 1) @ code


def _blocks(codes: torch.Tensor, piece: Piece, like: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Parts of the queries, and (n, E S, C) the codes of their entries: any codes, where they have fewer entries.

    Nothing where there are no codes.
    """
    most, samples, channels = piece.entries.shape[1], piece.valid.shape[1], like.shape[1]
    row, vectors = F.pad(piece.row, (0, 1)), 2 * most * samples + channels // HEAD  # vectors: that a query needs
    at_once = max(LEAST, piece.at_once // (vectors * like[:1].nbytes))
    for part in split(slice(0, len(codes) and len(piece.entries)), at_once):
        yield part, codes_of(codes, row[piece.entries[part]], like).flatten(1, 2)


def _by_head(matrix: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(heads, C, 32)"""
    return matrix.to(like).unflatten(1, (-1, HEAD)).movedim(1, 0).contiguous()
