"""What attention needs of the cameras, on the device: made once per run, then only read."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..geometry.correspondence import Correspondences, Pair, SampleTable
from .codes import position_code

RESIDENT_BYTES = 512 * 2**20
OUTSIDE = -3.0  # normalised coordinate whose bilinear taps all lie outside of any map
PIECE = 2**16  # samples whose codes are held in float64 at once


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """One `SampleTable` ready for use.

    query: (n,) which queries the rows belong to.
    grid: (n, S, 2) normalised sample positions for `grid_sample(align_corners=False)`; invalid ones lie outside, and so
        read zero. fp32 at least: fp16 could not name a pixel of a large map.
    code: (n, S, C) position codes in the features' dtype, zero where invalid.
    """

    query: torch.Tensor
    grid: torch.Tensor
    code: torch.Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """P pairs that share a table and whose query views are distinct. query_views, key_views: (P,) int64."""

    table: int
    query_views: torch.Tensor
    key_views: torch.Tensor


class Tables:
    """The tables of one run at one feature size. They follow from cameras and frequencies alone.

    Geometry and codes are computed in float64 on the CPU, then cast. Codes stay on the device up to RESIDENT_BYTES;
    later ones wait in the CPU's memory and are brought at each use.
    """

    def __init__(self, correspondences: Correspondences) -> None:
        self.correspondences = correspondences
        self._groups: dict[torch.device, list[Group]] = {}
        self._grids: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}
        self._codes: dict[tuple, torch.Tensor] = {}
        self._resident = 0

    def get(self, table: int, bands: torch.Tensor, like: torch.Tensor) -> DeviceTable:
        """Table number `table` for features of the dtype and device of `like`; `bands` are (N,) frequencies."""
        samples = self.correspondences.tables[table]
        key = (table, like.dtype, like.device)
        if key not in self._grids:
            grid = self._grid(samples, like.dtype)
            self._grids[key] = samples.query.to(like.device), grid.to(like.device)
        code_key = (*key, tuple(bands.tolist()))
        if code_key not in self._codes:
            self._codes[code_key] = self._place(_code(samples, bands, like.dtype), like.device)
        return DeviceTable(*self._grids[key], self._codes[code_key].to(like.device))

    def groups(self, device: torch.device) -> list[Group]:
        """All pairs, grouped, with their views as indices on the device."""
        if device not in self._groups:
            self._groups[device] = _groups(self.correspondences.pairs, device)
        return self._groups[device]

    def _grid(self, table: SampleTable, dtype: torch.dtype) -> torch.Tensor:
        size = torch.tensor([self.correspondences.width, self.correspondences.height], dtype=torch.float64)
        normalised = torch.where(table.valid[..., None], (2 * table.coords + 1) / size - 1, OUTSIDE)
        return normalised.to(torch.float64 if dtype == torch.float64 else torch.float32)

    def _place(self, code: torch.Tensor, device: torch.device) -> torch.Tensor:
        size = code.numel() * code.element_size()
        if self._resident + size > RESIDENT_BYTES:
            return code
        self._resident += size
        return code.to(device)


def _groups(pairs: tuple[Pair, ...], device: torch.device) -> list[Group]:
    """The pairs by table; a query view that uses one table twice (two views) has its second pair in another group."""
    members: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        turn = 0
        while any(other.query_view == pair.query_view for other in members.get((pair.table, turn), ())):
            turn += 1
        members.setdefault((pair.table, turn), []).append(pair)
    return [
        Group(
            table,
            torch.tensor([pair.query_view for pair in group], device=device),
            torch.tensor([pair.key_view for pair in group], device=device),
        )
        for (table, _), group in members.items()
    ]


def _code(table: SampleTable, bands: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, S, C) position codes, made piece by piece so that float64 never holds more than PIECE samples."""
    rows = max(1, PIECE // table.code.shape[1])
    pieces = zip(table.code.split(rows), table.valid.split(rows), strict=True)
    return torch.cat([(position_code(code, bands) * valid[..., None]).to(dtype) for code, valid in pieces])
