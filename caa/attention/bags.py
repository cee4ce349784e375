"""Who reads what, as weighted sums of rows: from sources to samples and queries, and back for gradients.

The rows that are read, *sources*, are the pixels of a batch and, where they are projected, position codes behind them.
A sample is a sum of its terms: four pixels, and its code. All sums are `embedding_bag`, of one head at a time: 32
channels of all rows are few enough for a processor's caches, and nothing of the size of samples times channels is ever
there.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .memory import split
from .reads import Reads, ends_of
from .softmax import HEAD

BAGS = ("cpu", "cuda")  # devices that are known to have embedding_bag


def weighted_sums(
    maps: torch.Tensor, row: torch.Tensor, weight: torch.Tensor, ends: torch.Tensor, at_once: int
) -> torch.Tensor:
    """(n, D) sums of the rows of (N, D) maps that `row` (T,) names, by `weight` (T,).

    ends: (n + 1,), where each sum begins in them. at_once: how many bytes of rows may be copied at once.
    """
    maps = maps.detach()  # embedding_bag does more for maps whose gradients autograd might ask of it
    if maps.device.type in BAGS:
        return F.embedding_bag(row, maps, ends, per_sample_weights=weight, mode="sum", include_last_offset=True)
    sums = maps.new_zeros(len(ends) - 1, maps.shape[1])
    owner = torch.arange(len(sums), device=maps.device).repeat_interleave(ends.diff())
    copies = 2 * maps[:1].nbytes  # of each row: as it is read, and by its weight
    for part in split(slice(0, len(row)), at_once // copies):
        sums.index_add_(0, owner[part], maps[row[part].long()] * weight[part, None])
    return sums


class Back(NamedTuple):
    """The way back, from samples to what they read: T terms, sorted by source.

    reader: (T,) int32, the samples that read it. asker: (T,) int32, their queries, times the number of heads. weight:
    (T,). source_ends: (sources + 1,) int32, where each source begins in them. pixel_terms: where the codes begin.
    """

    reader: torch.Tensor
    asker: torch.Tensor
    weight: torch.Tensor
    source_ends: torch.Tensor
    pixel_terms: int


@dataclass(frozen=True, eq=False)
class Piece:
    """What Q queries of a batch read: I entries (a query, a key view, a row of `Reads`) of S samples, by query.

    coded: whether codes are sources, S for each row of `Reads`; if not, unprojected.py sees to them.
    pixels: M, how many of the sources are pixels. sources: how many there are in all.
    queries: (Q,) int64, which queries of the batch; None: all, in order.
    query: (I,) int32, the place in `queries` of each entry's, ascending. row: (I,) int64, its row of `Reads`.
    entries: (Q, E) int64, the entries of each query; I where it has fewer than E.
    valid: (I, S) bool. unseen: (Q,), see `Reads`.
    source: (T I S,) int32, the sources of samples, T of each. head_source: the same, times the number of heads.
        weight: (T I S,), by which they count.
    sample_ends: (I S + 1,), query_ends: (Q + 1,) int32, where the samples and the queries begin in them.
    heads: how many. at_once: how many bytes of samples, or of rows that are read, may be there at once.
    """

    coded: bool
    pixels: int
    sources: int
    queries: torch.Tensor | None
    query: torch.Tensor
    row: torch.Tensor
    entries: torch.Tensor
    valid: torch.Tensor
    unseen: torch.Tensor
    source: torch.Tensor
    head_source: torch.Tensor
    weight: torch.Tensor
    sample_ends: torch.Tensor
    query_ends: torch.Tensor
    heads: int
    at_once: int

    @staticmethod
    def of(reads: Reads, panoramas: int, heads: int, own: torch.Tensor | None, at_once: int, coded: bool) -> Piece:
        """What some queries read, in a batch of that many panoramas.

        own: (n,) int64, which queries of each panorama; None: all. coded: codes are sources.
        """
        device, samples = reads.pixel.device, reads.pixel.shape[1]
        of_panorama, whole = len(reads.unseen), own is None
        own = torch.arange(of_panorama, device=device) if own is None else own
        entry_row = reads.entry_row[own]
        used = entry_row >= 0
        row, key_view, query = entry_row[used].long(), reads.entry_view[own][used].long(), used.nonzero()[:, 0]
        panorama = torch.arange(panoramas, device=device)[:, None]
        queries = own + panorama * of_panorama
        query = (query + panorama * len(own)).flatten()
        key_view = (key_view + panorama * reads.views).flatten()
        row = row.repeat(panoramas)
        pixels, valid = panoramas * of_panorama, reads.valid[row]
        source = key_view[:, None, None] * (of_panorama // reads.views) + reads.pixel[row]
        weight = reads.weight[row]
        if coded:
            code = pixels + row[:, None] * samples + torch.arange(samples, device=device)
            source, weight = torch.cat((source, code[..., None]), -1), torch.cat((weight, valid[..., None]), -1)
        terms, first = source.shape[-1], ends_of(query, queries.numel())
        return Piece(
            coded,
            pixels,
            pixels + samples * len(reads.valid) * coded,
            None if whole else queries.flatten(),
            query.int(),
            row,
            _by_query(query, first),
            valid,
            reads.unseen[own].repeat(panoramas),
            source.flatten().int(),
            (source.flatten() * heads).int(),
            weight.flatten(),
            torch.arange(0, source.numel() + 1, terms, dtype=torch.int32, device=device),
            (first * samples * terms).int(),
            heads,
            at_once,
        )

    @property
    def terms(self) -> int:
        """How many sources a sample has, T."""
        return 5 if self.coded else 4

    @cached_property
    def back(self) -> Back:
        """Made when gradients are first asked for: sampling never does."""
        samples = self.valid.shape[1]
        terms = self.weight.nonzero()[:, 0]
        terms = terms[self.source[terms].argsort(stable=True)]
        reader = terms // self.terms
        ends = ends_of(self.source[terms].long(), self.sources).int()
        asker = (self.query.long()[reader // samples] * self.heads).int()
        return Back(reader.int(), asker, self.weight[terms], ends, int(ends[self.pixels]))

    @cached_property
    def places(self) -> torch.Tensor:
        """(I,) int64, the place of each entry among the Q E that queries may have."""
        return (self.entries.flatten() < len(self.row)).nonzero()[:, 0]

    @property
    def whole(self) -> bool:
        """Whether these are all queries of the batch."""
        return self.queries is None

    def asked(self, queries: torch.Tensor) -> torch.Tensor:
        """(Q, C): those of this piece of (N, C) queries of the batch."""
        return queries if self.whole else queries.index_select(0, self.queries)

    def parts(self, maps: torch.Tensor) -> list[slice]:
        """The entries in parts, of as many as may be read of (sources, C) maps at once."""
        at_once = self.at_once // (self.valid.shape[1] * maps[0].nbytes)
        return list(split(slice(0, len(self.query)), at_once)) or [slice(0, 0)]

    def samples(self, maps: torch.Tensor, entries: slice) -> torch.Tensor:
        """(n, S, C) what the samples of n entries are of (sources, C) maps."""
        samples, terms = self.valid.shape[1], self.terms
        terms = slice(entries.start * samples * terms, entries.stop * samples * terms)
        ends = self.sample_ends[: (entries.stop - entries.start) * samples + 1]
        sums = weighted_sums(maps, self.source[terms], self.weight[terms], ends, self.at_once)
        return sums.view(-1, samples, maps.shape[1])

    def samples_of_head(self, maps: torch.Tensor, head: int) -> torch.Tensor:
        """(I S, 32) what all samples are of one head of (sources, C) maps."""
        return weighted_sums(_head(maps, head), self.head_source, self.weight, self.sample_ends, self.at_once)

    def by_query(self, maps: torch.Tensor, head: int, share: torch.Tensor) -> torch.Tensor:
        """(Q, 32) each query's samples of (sources, C) maps, summed by `share` (I, S)."""
        weight = (share[..., None] * self.weight.view(*share.shape, self.terms)).flatten()
        return weighted_sums(_head(maps, head), self.head_source, weight, self.query_ends, self.at_once)

    def from_queries(self, asked: torch.Tensor, head: int, share: torch.Tensor) -> torch.Tensor:
        """(sources, 32): what (Q, C) queries give back to the sources of their samples, by `share` (I, S)."""
        weight = self.back.weight * share.flatten().index_select(0, self.back.reader)
        return weighted_sums(_head(asked, head), self.back.asker, weight, self.back.source_ends, self.at_once)

    def from_samples(self, samples: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(M, 32): what samples (I S, 32) give back to the pixels that they read, by weights of `pixel_weights`."""
        ends = self.back.source_ends[: self.pixels + 1]
        return weighted_sums(samples, self.back.reader[: self.back.pixel_terms], weight, ends, self.at_once)

    def pixel_weights(self, share: torch.Tensor) -> torch.Tensor:
        """(pixel_terms,) for `from_samples`, of samples that count by `share` (I, S): the same for all heads."""
        terms = slice(0, self.back.pixel_terms)
        return self.back.weight[terms] * share.flatten().index_select(0, self.back.reader[terms])


def in_order(pieces: list[Piece], parts: list[torch.Tensor]) -> torch.Tensor:
    """(N, C) of the batch's queries, from the (Q, C) of each of its pieces."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts)[torch.cat([piece.queries for piece in pieces]).argsort()]


def _head(maps: torch.Tensor, head: int) -> torch.Tensor:
    """One head's channels of (N, C) maps: every C / 32th row, from the first on, of what is returned."""
    return maps.view(-1, HEAD)[head:]


def _by_query(query: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """`entries` of a `Piece`, of (I,) ascending queries, which begin at `first`."""
    most = max(1, int(first.diff().max()))
    entries = torch.full((len(first) - 1, most), len(query), device=query.device)
    number = torch.arange(len(query), device=query.device)
    entries[query, number - first[query]] = number
    return entries
