"""The exponential moving average of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class Averaged:
    """The average of a module's weights: each step keeps `share` of it, and less in the first steps.

    tensors: by name, float32, where the weights are.
    """

    def __init__(self, module: nn.Module, share: float) -> None:
        self._module, self._share = module, share
        self.tensors = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after step number `step`, counted from 1."""
        share = min(self._share, (1 + step) / (10 + step))
        for name, weight in self._module.named_parameters():
            self.tensors[name].lerp_(weight.detach(), 1 - share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """For the time of a with statement the module has the average for its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._module.named_parameters():
            mean = self.tensors[name].clone()
            self.tensors[name].copy_(weight)
            weight.copy_(mean)
