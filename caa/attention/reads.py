"""Bilinear reads as weighted sums of four pixels: the geometry that the fast attention consumes."""

# pyright: reportArgumentType=false
from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import torch

from ...geometry.correspondence import Correspondences, SampleTable

TAPS = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])  # (x, y) steps to the four pixels around a point


class Readers(NamedTuple):
    """The way back, for the gradients of kernels: T times that a sample reads a source, source by source.

    ends: (sources + 1,) int32, where each source begins in them. sample: (T,) int32, which sample of the queries of one
    panorama reads it: (query * E + entry) * S + sample. weight: (T,), its weight.
    """

    ends: torch.Tensor
    sample: torch.Tensor
    weight: torch.Tensor

    @staticmethod
    def of(source: torch.Tensor, sample: torch.Tensor, weight: torch.Tensor, sources: int) -> Readers:
        """Those of non-zero weight, of tensors of one shape."""
        read = weight.flatten().nonzero()[:, 0]
        read = read[source.flatten()[read].argsort(stable=True)]
        ends = ends_of(source.flatten()[read], sources).int()
        return Readers(ends, sample.flatten()[read].int(), weight.flatten()[read])


@dataclass(frozen=True, eq=False)
class Reads:
    """The tables of `Correspondences`, one after the other, without the queries that see nothing.

    views: V. pixel: (R, S, 4) int32, the pixels of the key view that each sample is read from.
    weight: (R, S, 4), their weights; zero outside of the view, and for samples that are invalid.
    valid: (R, S) bool.
    unseen: (V h w,) how many keys of each query are invalid. All of them have one and the same key and value.
    entry_row, entry_view: (V h w, E) int32, the rows that each query reads and the key views that it reads there; -1
        where it has fewer than E, a power of two.
    """

    views: int
    pixel: torch.Tensor
    weight: torch.Tensor
    valid: torch.Tensor
    unseen: torch.Tensor
    entry_row: torch.Tensor
    entry_view: torch.Tensor

    @staticmethod
    def of(correspondences: Correspondences, dtype: torch.dtype) -> Reads:
        """Computed in float64 on the CPU; weights come in `dtype`."""
        seen, size = _seen(correspondences), (correspondences.height, correspondences.width)
        taps, valid = zip(*((_taps(table, *size), table.valid) for table in seen), strict=True)
        pixel, weight = (torch.cat(part) for part in zip(*taps, strict=True))
        tensors = [pixel, weight.to(dtype), torch.cat(valid), _unseen(correspondences).to(dtype)]
        tensors += _entries(correspondences)
        return Reads(correspondences.views, *tensors)

    def to(self, device: torch.device) -> Reads:
        """The same on a device."""
        return Reads(self.views, *(getattr(self, field.name).to(device) for field in fields(self)[1:]))

    @cached_property
    def pixel_readers(self) -> Readers:
        """Who reads the V h w pixels of a panorama."""
        place, row, sample = self._samples()
        view = self.entry_view.flatten()[place].long()
        source = view[:, None, None] * (len(self.unseen) // self.views) + self.pixel[row]
        return Readers.of(source, sample[..., None].expand_as(source), self.weight[row], len(self.unseen))

    @cached_property
    def code_readers(self) -> Readers:
        """Who reads the R S codes: each valid sample its own, as every query does that shares the table."""
        _, row, sample = self._samples()
        samples = self.valid.shape[1]
        source = row[:, None] * samples + torch.arange(samples, device=row.device)
        return Readers.of(source, sample, self.valid[row].to(self.weight.dtype), self.valid.numel())

    def _samples(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of the I entries that there are, their places in `entry_row` (I,), rows (I,) and samples (I, S), int64."""
        place = (self.entry_row.flatten() >= 0).nonzero()[:, 0]
        samples = self.valid.shape[1]
        sample = place[:, None] * samples + torch.arange(samples, device=place.device)
        return place, self.entry_row.flatten()[place].long(), sample


def ends_of(owner: torch.Tensor, count: int) -> torch.Tensor:
    """(count + 1,) where each of `count` owners begins in a list that is sorted by them."""
    ends = owner.new_zeros(count + 1)
    ends[1:] = torch.bincount(owner, minlength=count).cumsum(0)
    return ends


def seen_codes(correspondences: Correspondences) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """code (R, S, 2), cosines (R, S) or None, and valid (R, S) of the rows of `Reads`, on the CPU."""
    seen = _seen(correspondences)
    cosines = [table.cosines for table in seen if table.cosines is not None]
    code, valid = zip(*((table.code, table.valid) for table in seen), strict=True)
    return torch.cat(code), torch.cat(cosines) if cosines else None, torch.cat(valid)


def _seen(correspondences: Correspondences) -> list[SampleTable]:
    """The tables without the queries that see nothing."""
    return [table.part(table.valid.any(1)) for table in correspondences.tables]


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
        table = correspondences.table_of(pair)
        unseen[pair.query_view, table.query] += (~table.valid).sum(1)
    return unseen.flatten()


def _entries(correspondences: Correspondences) -> tuple[torch.Tensor, torch.Tensor]:
    """entry_row and entry_view of `Reads`."""
    size = correspondences.height * correspondences.width
    numbers = _row_numbers(correspondences)
    taken, placed = torch.zeros(correspondences.views * size, dtype=torch.int64), []
    for pair in correspondences.pairs:
        number, queries = numbers[pair.table], correspondences.tables[pair.table].query
        if pair.rows is not None:
            number, queries = number[pair.rows], queries[pair.rows]
        query = pair.query_view * size + queries[number >= 0]
        placed.append((query, taken[query], number[number >= 0], pair.key_view))
        taken[query] += 1
    most = 1 << (max(1, int(taken.max())) - 1).bit_length()  # few kernels serve all scenes
    entry_row, entry_view = torch.full((2, len(taken), most), -1, dtype=torch.int32)
    for query, place, row, key_view in placed:
        entry_row[query, place] = row.int()
        entry_view[query, place] = key_view
    return entry_row, entry_view


def _row_numbers(correspondences: Correspondences) -> list[torch.Tensor]:
    """For each table its rows' numbers among those of `Reads`, -1 where they see nothing."""
    seen = [table.valid.any(1) for table in correspondences.tables]
    number = torch.cat(seen).cumsum(0) - 1
    return list(number.where(torch.cat(seen), -1).split([len(part) for part in seen]))
