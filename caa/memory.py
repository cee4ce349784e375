"""How much memory attention may use: the host says it once per run."""

from __future__ import annotations

from dataclasses import dataclass

MB = 2**20
PIECE_BYTES = 64 * MB
CACHED_BYTES = 4 * MB  # a piece that stays in the caches of a CPU
CODE_BYTES = 1024 * MB
PROJECTED_BYTES = 512 * MB


@dataclass
class Memory:
    """A run's allowance.

    piece_bytes: of the samples held at once. code_bytes, projected_bytes: of the position codes, and of what the layers
    project of them, that may still be kept on the device.
    """

    piece_bytes: int = PIECE_BYTES
    code_bytes: int = CODE_BYTES
    projected_bytes: int = PROJECTED_BYTES

    @staticmethod
    def within(free: int, on_cpu: bool) -> Memory:
        """What is adequate where so many bytes are free: small parts of them, where they are few."""
        piece = min(CACHED_BYTES if on_cpu else PIECE_BYTES, max(free // 64, MB))
        return Memory(piece, min(CODE_BYTES, free // 4), min(PROJECTED_BYTES, free // 8))

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
