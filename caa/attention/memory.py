"""How much memory attention may use: the host says it once per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch

MB = 2**20
PIECE_BYTES = 64 * MB
CACHED_BYTES = 4 * MB  # a piece that stays in the caches of a CPU
CACHED_TOKENS = 1024  # that layers take at once on a CPU
CACHED_WIDTH = 640  # up to which what lies between the layers, 8 C wide, then stays in the caches
CODE_BYTES = 1024 * MB
PROJECTED_BYTES = 512 * MB
WAITING_BYTES = 4096 * MB


@dataclass
class Memory:
    """A run's allowance.

    piece_bytes: of the samples held at once. code_bytes, projected_bytes: of the position codes, and of what the layers
    project of them, that may still be kept on the device. projecting_bytes: what may be projected of codes at once.
    waiting_bytes: of the codes that may still wait in the CPU's memory; beyond that they are made anew at each use.
    """

    piece_bytes: int = PIECE_BYTES
    code_bytes: int = CODE_BYTES
    projected_bytes: int = PROJECTED_BYTES
    projecting_bytes: int = PROJECTED_BYTES
    waiting_bytes: int = WAITING_BYTES

    @staticmethod
    def within(free: int, on_cpu: bool, free_on_cpu: int) -> Memory:
        """What is adequate where so many bytes are free on the device, and on the CPU: small parts, where few are."""
        piece = min(CACHED_BYTES if on_cpu else PIECE_BYTES, max(free // 64, MB))
        projected, waiting = min(PROJECTED_BYTES, free // 8), min(WAITING_BYTES, free_on_cpu // 4)
        return Memory(piece, min(CODE_BYTES, free // 4), projected, projected if on_cpu else free // 8, waiting)

    def keep_code(self, size: int) -> bool:
        """Whether a code of `size` bytes may stay on the device for the run; if so, it counts from now on."""
        kept = size <= self.code_bytes
        self.code_bytes -= kept * size
        return kept

    def may_project(self, size: int) -> bool:
        """Whether `size` bytes that are projected of codes may be there at once."""
        return size <= self.projecting_bytes

    def keep_projected(self, size: int) -> bool:
        """The same as `keep_code` for what is projected of codes."""
        kept = size <= self.projected_bytes
        self.projected_bytes -= kept * size
        return kept

    def keep_waiting(self, size: int) -> bool:
        """The same for codes that wait in the CPU's memory."""
        kept = size <= self.waiting_bytes
        self.waiting_bytes -= kept * size
        return kept


def split(rows: slice, at_once: int) -> Iterator[slice]:
    """Parts of a range, `at_once` long, or of one element."""
    for start in range(rows.start, rows.stop, max(1, at_once)):
        yield slice(start, min(start + max(1, at_once), rows.stop))


def in_pieces(layers: Callable[[torch.Tensor], Sequence[torch.Tensor]], tokens: torch.Tensor) -> Sequence[torch.Tensor]:
    """What layers make of (N, C) tokens: on a CPU, where no gradients are asked for, of a part at a time, else of all.

    What lies between the layers, up to 8 C wide, then stays in the processor's caches; of wide layers it would not.
    """
    count, width = tokens.shape
    whole = count <= CACHED_TOKENS or width > CACHED_WIDTH or tokens.device.type != "cpu"
    if whole or torch.is_grad_enabled():
        return layers(tokens)
    made: list[torch.Tensor] = []
    for part in split(slice(0, count), CACHED_TOKENS):
        pieces = layers(tokens[part])
        made = made or [piece.new_empty(count, *piece.shape[1:]) for piece in pieces]
        for all_of_it, piece in zip(made, pieces, strict=True):
            all_of_it[part] = piece
    return made


def nbytes(item: Any) -> int:
    """Of all tensors in what is kept."""
    return sum(tensor.nbytes for tensor in _tensors(item))


def on_cpu(item: Any) -> bool:
    """Whether all tensors in what is kept are there."""
    return all(tensor.device.type == "cpu" for tensor in _tensors(item))


def _tensors(item: Any) -> Iterator[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        yield item
    elif is_dataclass(item):
        for value in vars(item).values():
            yield from _tensors(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _tensors(value)
