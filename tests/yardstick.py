"""How long code takes, in units of a fixed piece of work timed in turns with it: machines differ and are shared."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F


def yardsticks(*calls: Callable[[], object], repeats: int = 5) -> list[float]:
    """What each call takes of one thread's processor time, in readings of a 4096 x 2048 picture from a 512 x 512 one.

    The least of some turns counts.
    """
    picture, grid = torch.rand(1, 3, 512, 512), 2 * torch.rand(1, 2048, 4096, 2) - 1

    def yardstick() -> None:
        F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    threads, all_calls = torch.get_num_threads(), (yardstick, *calls)
    torch.set_num_threads(1)
    try:
        turns = [[_seconds(call) for call in all_calls] for _ in range(repeats)]
    finally:
        torch.set_num_threads(threads)
    unit, *rest = map(min, zip(*turns, strict=True))
    return [seconds / unit for seconds in rest]


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
