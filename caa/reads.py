"""Bilinear reads as weighted sums of four pixels: the geometry that the fast attention consumes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from ..geometry.correspondence import Correspondences, SampleTable

TAPS = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])  # (x, y) steps to the four pixels around a point


@dataclass(frozen=True, eq=False)
class Reads:
    """The tables of `Correspondences`, one after the other, without the queries that see nothing.

    views: V. rows: of each table, its part of the R rows.
    query: (R,) int64, the query pixel of each row.
    pixel: (R, S, 4) int32, the pixels of the key view that each sample is read from.
    weight: (R, S, 4), their weights; zero outside of the view, and for samples that are invalid.
    valid: (R, S) bool.
    unseen: (V h w,) how many keys of each query are invalid. All of them have one and the same key and value.
    entry_row, entry_view: (V h w, E) int32, the rows that each query reads and the key views that it reads there; -1
        where it has fewer than E, a power of two. What the compiled kernels walk through.
    """

    views: int
    rows: tuple[slice, ...]
    query: torch.Tensor
    pixel: torch.Tensor
    weight: torch.Tensor
    valid: torch.Tensor
    unseen: torch.Tensor
    entry_row: torch.Tensor
    entry_view: torch.Tensor

    @staticmethod
    def of(correspondences: Correspondences, dtype: torch.dtype, device: torch.device) -> Reads:
        """Computed in float64 on the CPU; weights come in `dtype`, everything on `device`."""
        seen = [table.valid.any(1) for table in correspondences.tables]
        parts = zip(correspondences.tables, seen, strict=True)
        query, taps, valid = zip(
            *(
                (
                    table.query[kept],
                    _taps(table, kept, correspondences.height, correspondences.width),
                    table.valid[kept],
                )
                for table, kept in parts
            ),
            strict=True,
        )
        ends = torch.tensor([0, *(len(part) for part in query)]).cumsum(0).tolist()
        rows = tuple(slice(first, last) for first, last in pairwise(ends))
        pixel, weight = (torch.cat(part) for part in zip(*taps, strict=True))
        tensors = [torch.cat(query), pixel, weight.to(dtype), torch.cat(valid)]
        tensors += [_unseen(correspondences).to(dtype), *_entries(correspondences, query, rows)]
        return Reads(correspondences.views, rows, *(tensor.to(device) for tensor in tensors))


def kept_codes(correspondences: Correspondences) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """code (R, S, 2), cosines (R, S) or None, and valid (R, S) of the rows of `Reads`, on the CPU."""
    seen = [(table, table.valid.any(1)) for table in correspondences.tables]
    cosines = [table.cosines[kept] for table, kept in seen if table.cosines is not None]
    code, valid = zip(*((table.code[kept], table.valid[kept]) for table, kept in seen), strict=True)
    return torch.cat(code), torch.cat(cosines) if cosines else None, torch.cat(valid)


def _taps(table: SampleTable, kept: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, S, 4) int32 pixels around the samples of the kept rows, and their bilinear weights, float64."""
    coords, valid = table.coords[kept][:, :, None], table.valid[kept][..., None]
    low = coords.floor()
    x, y = (low + TAPS).unbind(-1)
    near = torch.where(TAPS.bool(), coords - low, 1 - (coords - low)).prod(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & valid
    return torch.where(inside, y * width + x, 0).int(), torch.where(inside, near, 0)


def _unseen(correspondences: Correspondences) -> torch.Tensor:
    unseen = torch.zeros(correspondences.views, correspondences.height * correspondences.width, dtype=torch.float64)
    for pair in correspondences.pairs:
        table = correspondences.tables[pair.table]
        unseen[pair.query_view, table.query] += (~table.valid).sum(1)
    return unseen.flatten()


def _entries(
    correspondences: Correspondences, queries: tuple[torch.Tensor, ...], rows: tuple[slice, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = correspondences.height * correspondences.width
    place, taken = [], torch.zeros(correspondences.views, pixels, dtype=torch.int64)
    for pair in correspondences.pairs:
        place.append(taken[pair.query_view, queries[pair.table]])
        taken[pair.query_view, queries[pair.table]] += 1
    most = 1 << (max(1, int(taken.max())) - 1).bit_length()  # few kernels serve all scenes
    entries = torch.full((2, correspondences.views, pixels, most), -1, dtype=torch.int32)
    for pair, slot in zip(correspondences.pairs, place, strict=True):
        here = pair.query_view, queries[pair.table], slot
        entries[0][here] = torch.arange(rows[pair.table].start, rows[pair.table].stop, dtype=torch.int32)
        entries[1][here] = pair.key_view
    return entries[0].flatten(0, 1), entries[1].flatten(0, 1)
