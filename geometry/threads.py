"""How much torch computes without sharing it out to its threads.

These meet after every operation on more than SERIAL numbers, and spin as they wait. Where another program keeps a core
busy, each meeting lasts until that core is free: milliseconds, for work of microseconds. Work in pieces of SERIAL
numbers wakes no thread, and its pieces stay in the cache.
"""

from __future__ import annotations

import time

import torch

SERIAL = 2**15  # numbers on which torch computes in the calling thread alone
MEETINGS = 7  # that are timed
WAITING = 3e-4  # seconds of a meeting, from which on threads wait: free ones take some 2e-5


def threads_wait() -> bool:
    """Whether torch's threads would wait for each other now, for want of free cores: at most of MEETINGS."""
    if torch.get_num_threads() == 1:
        return False
    numbers, slow = torch.zeros(2 * SERIAL, device="cpu"), 0
    for _ in range(MEETINGS):
        start = time.perf_counter()
        numbers.add_(1)
        slow += time.perf_counter() - start > WAITING
    return slow > MEETINGS // 2
