"""How much memory attention may use: the host says it once per run."""

from __future__ import annotations

PIECE_BYTES = 64 * 2**20
CACHED_BYTES = 4 * 2**20  # a piece that stays in the caches of a CPU: there it is several times as fast
RESIDENT_BYTES = 512 * 2**20


class Memory:
    """A run's allowance. piece_bytes: of the samples held at once. resident_bytes: of the codes kept on the device."""

    def __init__(self, piece_bytes: int = PIECE_BYTES, resident_bytes: int = RESIDENT_BYTES) -> None:
        self.piece_bytes = piece_bytes
        self.resident_bytes = resident_bytes

    def keep(self, size: int) -> bool:
        """Whether `size` more bytes may stay for the run; if so, they count from now on."""
        if size > self.resident_bytes:
            return False
        self.resident_bytes -= size
        return True
