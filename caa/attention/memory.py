"""How much memory attention may use: the host says it once per run."""

from __future__ import annotations

from dataclasses import dataclass

MB = 2**20
PIECE_BYTES = 64 * MB
CACHED_BYTES = 4 * MB  # a piece that stays in the caches of a CPU
CODE_BYTES = 1024 * MB
PROJECTED_BYTES = 512 * MB
WAITING_BYTES = 4096 * MB


@dataclass
class Memory:
    """A run's allowance.

    piece_bytes: of the samples held at once. code_bytes, projected_bytes: of the position codes, and of what the layers
    project of them, that may still be kept on the device. waiting_bytes: of the codes that may still wait in the CPU's
    memory; beyond that they are made anew at each use.
    """

    piece_bytes: int = PIECE_BYTES
    code_bytes: int = CODE_BYTES
    projected_bytes: int = PROJECTED_BYTES
    waiting_bytes: int = WAITING_BYTES

    @staticmethod
    def within(free: int, on_cpu: bool, free_on_cpu: int) -> Memory:
        """What is adequate where so many bytes are free on the device, and on the CPU: small parts, where few are."""
        piece = min(CACHED_BYTES if on_cpu else PIECE_BYTES, max(free // 64, MB))
        waiting = min(WAITING_BYTES, free_on_cpu // 4)
        return Memory(piece, min(CODE_BYTES, free // 4), min(PROJECTED_BYTES, free // 8), waiting)

    def keep_code(self, size: int) -> bool:
        """Whether a code of `size` bytes may stay on the device for the run; if so, it counts from now on."""
        kept = size <= self.code_bytes
        self.code_bytes -= kept * size
        return kept

    def keep_projected(self, size: int) -> bool:
        """The same for what is projected of codes."""
        kept = size <= self.projected_bytes
        self.projected_bytes -= kept * size
        return kept

    def keep_waiting(self, size: int) -> bool:
        """The same for codes that wait in the CPU's memory."""
        kept = size <= self.waiting_bytes
        self.waiting_bytes -= kept * size
        return kept
