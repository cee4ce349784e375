"""Bilinear reads as weighted sums of four pixels: the geometry that the fast attention consumes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from ...geometry.correspondence import Correspondences, Pair, SampleTable

TAPS = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])  # (x, y) steps to the four pixels around a point


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to be worked together, since their queries are distinct, for P pairs of views each.

    rows: the n of them. query: (P, n) int64, numbers of the queries among all V h w; key_view: (P, n) int32.
    """

    rows: slice
    query: torch.Tensor
    key_view: torch.Tensor


@dataclass(frozen=True, eq=False)
class Reads:
    """The tables of `Correspondences`, one after the other, without the queries that see nothing.

    views: V. batches: all rows, for all pairs of views that share them.
    pixel: (R, S, 4) int32, the pixels of the key view that each sample is read from.
    weight: (R, S, 4), their weights; zero outside of the view, and for samples that are invalid.
    valid: (R, S) bool.
    unseen: (V h w,) how many keys of each query are invalid. All of them have one and the same key and value.
    entry_row, entry_view: (V h w, E) int32, the rows that each query reads and the key views that it reads there; -1
        where it has fewer than E, a power of two. What the compiled kernels walk through.
    """

    views: int
    batches: tuple[Batch, ...]
    pixel: torch.Tensor
    weight: torch.Tensor
    valid: torch.Tensor
    unseen: torch.Tensor
    entry_row: torch.Tensor
    entry_view: torch.Tensor

    @staticmethod
    def of(correspondences: Correspondences, dtype: torch.dtype, device: torch.device) -> Reads:
        """Computed in float64 on the CPU; weights come in `dtype`, everything on `device`."""
        kept, size = _kept(correspondences), (correspondences.height, correspondences.width)
        taps, valid = zip(*((_taps(table, *size), table.valid) for table in kept.values()), strict=True)
        pixel, weight = (torch.cat(part) for part in zip(*taps, strict=True))
        tensors = [pixel, weight.to(dtype), torch.cat(valid), _unseen(correspondences).to(dtype)]
        batches = _batches(correspondences, kept)
        tensors += _entries(correspondences, batches)
        on_device = [Batch(batch.rows, batch.query.to(device), batch.key_view.to(device)) for batch in batches]
        return Reads(correspondences.views, tuple(on_device), *(tensor.to(device) for tensor in tensors))


def kept_codes(correspondences: Correspondences) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """code (R, S, 2), cosines (R, S) or None, and valid (R, S) of the rows of `Reads`, on the CPU."""
    kept = _kept(correspondences).values()
    cosines = [table.cosines for table in kept if table.cosines is not None]
    code, valid = zip(*((table.code, table.valid) for table in kept), strict=True)
    return torch.cat(code), torch.cat(cosines) if cosines else None, torch.cat(valid)


def _groups(pairs: tuple[Pair, ...]) -> list[list[list[Pair]]]:
    """The pairs, in groups of distinct query views. A group has one list for each of its tables: either one table that
    pairs share, or tables of one pair each."""
    shared = Counter(pair.table for pair in pairs)
    turns, groups = Counter(), {}
    for pair in pairs:
        of = pair.table if shared[pair.table] > 1 else None
        turn = turns[of, pair.query_view]
        turns[of, pair.query_view] += 1
        tables = groups.setdefault((of, turn), {})
        tables.setdefault(pair.table, []).append(pair)
    return [list(tables.values()) for tables in groups.values()]


def _kept(correspondences: Correspondences) -> dict[int, SampleTable]:
    """By number, in the order of their rows: the tables, without queries that see nothing."""
    numbers = dict.fromkeys(pairs[0].table for group in _groups(correspondences.pairs) for pairs in group)
    kept = {}
    for number in numbers:
        table = correspondences.tables[number]
        parts = (table.query, table.coords, table.valid, table.code, table.cosines)
        seen = table.valid.any(1)
        kept[number] = SampleTable(*(None if part is None else part[seen] for part in parts))
    return kept


def _batches(correspondences: Correspondences, kept: dict[int, SampleTable]) -> list[Batch]:
    size = correspondences.height * correspondences.width
    ends = [0, *accumulate(len(table.query) for table in kept.values())]
    rows = dict(zip(kept, pairwise(ends), strict=True))
    batches = []
    for group in _groups(correspondences.pairs):
        query, key_view = [], []
        for pairs in group:
            pixels = kept[pairs[0].table].query
            query.append(torch.tensor([[pair.query_view] for pair in pairs]) * size + pixels)
            key_views = torch.tensor([[pair.key_view] for pair in pairs], dtype=torch.int32)
            key_view.append(key_views.expand(-1, len(pixels)))
        first, last = rows[group[0][0].table][0], rows[group[-1][0].table][1]
        batches.append(Batch(slice(first, last), torch.cat(query, dim=1), torch.cat(key_view, dim=1)))
    return batches


def _taps(table: SampleTable, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, S, 4) int32 pixels around the samples of a table, and their bilinear weights, float64."""
    coords = table.coords[:, :, None]
    low = coords.floor()
    x, y = (low + TAPS).unbind(-1)
    near = torch.where(TAPS.bool(), coords - low, 1 - (coords - low)).prod(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & table.valid[..., None]
    return torch.where(inside, y * width + x, 0).int(), torch.where(inside, near, 0)


def _unseen(correspondences: Correspondences) -> torch.Tensor:
    unseen = torch.zeros(correspondences.views, correspondences.height * correspondences.width, dtype=torch.float64)
    for pair in correspondences.pairs:
        table = correspondences.tables[pair.table]
        unseen[pair.query_view, table.query] += (~table.valid).sum(1)
    return unseen.flatten()


def _entries(correspondences: Correspondences, batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """entry_row and entry_view of `Reads`."""
    queries = correspondences.views * correspondences.height * correspondences.width
    taken, places = torch.zeros(queries, dtype=torch.int64), []
    for batch in batches:
        places.append(taken[batch.query])
        taken[batch.query] += 1
    most = 1 << (max(1, int(taken.max())) - 1).bit_length()  # few kernels serve all scenes
    entry_row, entry_view = torch.full((2, queries, most), -1, dtype=torch.int32)
    for batch, place in zip(batches, places, strict=True):
        entry_row[batch.query, place] = torch.arange(batch.rows.start, batch.rows.stop, dtype=torch.int32)
        entry_view[batch.query, place] = batch.key_view
    return entry_row, entry_view
