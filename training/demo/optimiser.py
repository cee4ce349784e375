"""AdamW on fp32 copies of weights that are computed with in bf16, and their running mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

LEAST = 0.02  # of the learning rate, at the end


class Optimiser:
    """Weights of one training: fp32 masters, their moments, and their mean over the last steps.

    A bf16 weight alone would ignore updates below a 256th of itself.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        rate: float,
        mean_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        most: float = 1.0,
    ) -> None:
        """mean_decay: of the running mean a step, less at first. most: the norm that gradients are clipped to."""
        self.parameters = list(parameters)
        self.masters = [torch.nn.Parameter(p.detach().float().clone()) for p in self.parameters]
        self.mean = [p.detach().clone() for p in self.masters]
        self.rate, self.mean_decay, self.most, self.steps = rate, mean_decay, most, 0
        fused = self.masters[0].device.type in ("cpu", "cuda")
        self._adam = torch.optim.AdamW(self.masters, lr=rate, betas=betas, weight_decay=weight_decay, fused=fused)

    def step(self, factor: float) -> float:
        """One update with `factor` times the learning rate; the norm of the gradient before clipping.

        Raises FloatingPointError, with nothing changed, for gradients that are not finite.
        """
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.most).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of step {self.steps} is not finite")
        for group in self._adam.param_groups:
            group["lr"] = self.rate * factor
        self._adam.step()
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
        return {"masters": masters, "mean": self.mean, "adam": self._adam.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        with torch.no_grad():
            for own, loaded in ((self.masters, state["masters"]), (self.mean, state["mean"])):
                for mine, theirs in zip(own, loaded, strict=True):
                    mine.copy_(theirs)
            self._set(self.masters)
        self._adam.load_state_dict(state["adam"])
        self.steps = state["steps"]

    def _set(self, weights: Sequence[torch.Tensor]) -> None:
        torch._foreach_copy_(self.parameters, [weight.detach() for weight in weights])


def load_mean(parameters: Sequence[torch.nn.Parameter], state: dict) -> None:
    """Gives parameters the running mean in the state of an optimiser that trained them."""
    with torch.no_grad():
        for parameter, mean in zip(parameters, state["mean"], strict=True):
            parameter.copy_(mean)


def cosine(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step: rising over `warm_up` steps, then falling to LEAST at the end."""
    share = min(1.0, step / max(steps, 1))
    return min(1.0, (step + 1) / max(warm_up, 1)) * (LEAST + (1 - LEAST) * (0.5 + 0.5 * math.cos(math.pi * share)))
