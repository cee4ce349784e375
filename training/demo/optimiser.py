"""Muon and AdamW on fp32 copies of weights that are computed with in bf16, and their running mean.

Muon (Jordan et al., 2024) makes the momentum of a matrix or kernel orthogonal: all of its directions learn alike. The
autoencoder needs a third of the steps that AdamW takes, and the updates cost it a sixth of a step.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch

LEAST = 0.02  # of the learning rate, at the end
NARROWEST = 16  # rows and columns from which on a weight is a matrix for Muon; AdamW has all others
MOMENTUM = 0.95
LIKE_ADAMW = 0.2  # root mean square of updates, so that both have one learning rate
ITERATION = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: five rounds bring singular values to 0.7..1.2
ROUNDS = 5


class Optimiser:
    """Weights of one training: fp32 masters, their moments, and their mean over the last steps.

    A bf16 weight alone would ignore updates below a 256th of itself.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        rate: float,
        mean_decay: float,
        tables: Collection[torch.nn.Parameter] = (),
        weight_decay: float = 0.0,
        most: float = 1.0,
    ) -> None:
        """mean_decay: of the running mean a step, less at first. most: the norm that gradients are clipped to.

        tables: parameters whose rows are looked up; they are no matrices.
        """
        self.parameters = list(parameters)
        self.masters = [torch.nn.Parameter(p.detach().float().clone()) for p in self.parameters]
        self.mean = [p.detach().clone() for p in self.masters]
        self.rate, self.mean_decay, self.weight_decay, self.most, self.steps = rate, mean_decay, weight_decay, most, 0
        looked_up = {id(table) for table in tables}
        matrix = [_is_matrix(p) and id(p) not in looked_up for p in self.parameters]
        self._matrices = [master for master, yes in zip(self.masters, matrix, strict=True) if yes]
        self._momentum = [torch.zeros_like(master) for master in self._matrices]
        others = [master for master, yes in zip(self.masters, matrix, strict=True) if not yes]
        fused = self.masters[0].device.type in ("cpu", "cuda")
        self._adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=fused)

    def step(self, factor: float) -> float:
        """One update with `factor` times the learning rate; the norm of the gradient before clipping.

        Raises FloatingPointError, with nothing changed, for gradients that are not finite.
        """
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            # What a step did not use (another kind's convolution) has no gradient, and AdamW leaves it alone.
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.most).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of step {self.steps} is not finite")
        for group in self._adam.param_groups:
            group["lr"] = self.rate * factor
        self._adam.step()
        self._turn(self.rate * factor)
        self.steps += 1
        with torch.no_grad():
            self._set(self.masters)
            decay = min(self.mean_decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.mean, [master.detach() for master in self.masters], 1 - decay)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Meanwhile the modules have the running mean of the weights."""
        with torch.no_grad():
            self._set(self.mean)
            try:
                yield
            finally:
                self._set(self.masters)

    def state_dict(self) -> dict:
        masters = [master.detach() for master in self.masters]
        moments = {"momentum": self._momentum, "adam": self._adam.state_dict()}
        return {"masters": masters, "mean": self.mean, "steps": self.steps, **moments}

    def load_state_dict(self, state: dict) -> None:
        with torch.no_grad():
            for name, own in (("masters", self.masters), ("mean", self.mean), ("momentum", self._momentum)):
                for mine, theirs in zip(own, state[name], strict=True):
                    mine.copy_(theirs)
            self._set(self.masters)
        self._adam.load_state_dict(state["adam"])
        self.steps = state["steps"]

    @torch.no_grad()
    def _turn(self, rate: float) -> None:
        """Muon's update of all matrices that have a gradient; those of one shape are made orthogonal together."""
        alike: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for matrix, momentum in zip(self._matrices, self._momentum, strict=True):
            if matrix.grad is not None:
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = matrix.grad.lerp(momentum, MOMENTUM).flatten(1)
                alike.setdefault(ahead.shape, []).append((matrix, ahead))
        for shape, of in alike.items():
            turned = orthogonal(torch.stack([ahead for _, ahead in of]).to(self.parameters[0].dtype))
            for (matrix, _), update in zip(of, turned, strict=True):
                matrix.mul_(1 - rate * self.weight_decay)
                matrix.add_(update.view_as(matrix), alpha=-rate * LIKE_ADAMW * max(shape) ** 0.5)

    def _set(self, weights: Sequence[torch.Tensor]) -> None:
        torch._foreach_copy_(self.parameters, [weight.detach() for weight in weights])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(B, m, n) about the nearest matrices whose singular values are all one, by Newton and Schulz's iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = ITERATION
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _is_matrix(parameter: torch.Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= NARROWEST


def load_mean(parameters: Sequence[torch.nn.Parameter], state: dict) -> None:
    """Gives parameters the running mean in the state of an optimiser that trained them."""
    with torch.no_grad():
        for parameter, mean in zip(parameters, state["mean"], strict=True):
            parameter.copy_(mean)


def cosine(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step: rising over `warm_up` steps, then falling to LEAST at the end."""
    share = min(1.0, step / max(steps, 1))
    return min(1.0, (step + 1) / max(warm_up, 1)) * (LEAST + (1 - LEAST) * (0.5 + 0.5 * math.cos(math.pi * share)))
