"""Work shared out to threads in pieces so small that torch does not share them out again.

torch's own threads meet after every operation on more than SERIAL numbers, and spin as they wait. Where another program
keeps a core busy, each meeting lasts until that core is free: milliseconds, for work of microseconds. Threads here meet
once, when all pieces are done, and sleep as they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

SERIAL = 2**15  # numbers on which torch computes in the calling thread alone


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` returns of each item, in their order, on as many threads as torch has.

    Its operations should be on SERIAL numbers at most.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, items)
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def as_here(item: Item) -> Result:  # torch's modes are a thread's own
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(item)

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(as_here, items)
