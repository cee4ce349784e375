"""The processes that train together, as torchrun starts them; one process where it does not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..geometry.input_error import InputError


@dataclass(frozen=True)
class World:
    """`size` processes, of which this is number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that loads, validates, saves and speaks for all."""
        return self.rank == 0

    def wrap(self, module: nn.Module, some_unused: bool) -> nn.Module:
        """The module with gradients averaged over all processes, and the main process's weights in all of them.

        some_unused: some passes use only a part of the weights.
        """
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        ids = None if device.type == "cpu" else [device]
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=some_unused)

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in all of them."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def spread(self, tensor: torch.Tensor) -> None:
        """Gives a tensor the values that it has in the main process, in all of them."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def gathered(self, thing: object) -> list:
        """What each process gave, in all of them."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size
        dist.all_gather_object(things, thing)
        return things

    def told(self, thing: object) -> object:
        """What the main process gave, in all of them."""
        if self.size == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things, src=0)
        return things[0]

    def share(self, batch: int, accumulation: int) -> range:
        """Which of a step's samples this process takes. Raises InputError where it does not come out even."""
        if batch % (self.size * accumulation):
            passes = f" in {accumulation} passes each" if accumulation > 1 else ""
            raise InputError(
                f"batch is {batch} and must be a multiple of {self.size * accumulation}, so that {self.size} processes "
                f"share it evenly{passes}"
            )
        each = batch // self.size
        return range(self.rank * each, (self.rank + 1) * each)


@contextlib.contextmanager
def world(on_cards: bool = True) -> Iterator[World]:
    """The processes of torchrun, joined: NCCL between cards, gloo between CPUs; each takes the card of its number.

    on_cards: False: on CPUs also where there are cards.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    on_cards = on_cards and torch.cuda.is_available()
    if on_cards:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_cards else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # the connections of one that leaves first break under those that still talk
    finally:
        dist.destroy_process_group()
