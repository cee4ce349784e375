"""Random numbers by counting: each sample of each step has a stream of its own.

What is drawn for a sample depends on the seed and on its number alone: not on the process that draws it, nor on what
was drawn before. A resumed run goes on bit for bit, also with another number of processes, and the state of all random
numbers is the seed and the step.
"""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *place: int | str) -> torch.Generator:
    """The stream of a place, such as ("sample", 17), on the CPU: numbers are the same on every device."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def whole(generator: torch.Generator, below: int) -> int:
    """A whole number, 0 to `below` - 1."""
    return int(torch.randint(below, (), generator=generator))


def shuffled(seed: int, round_: int, size: int) -> list[int]:
    """The order in which one round goes through `size` things."""
    return torch.randperm(size, generator=stream(seed, "order", round_)).tolist()
