"""How much torch computes without sharing it out to its threads.

These meet after every operation on more than SERIAL numbers, and spin as they wait. Where another program keeps a core
busy, each meeting lasts until that core is free: milliseconds, for work of microseconds. Work in pieces of SERIAL
numbers wakes no thread, and its pieces stay in the cache.
"""

from __future__ import annotations

SERIAL = 2**15  # numbers on which torch computes in the calling thread alone
