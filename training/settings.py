"""`Settings`: everything that decides what a training run computes, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from ..caa.weights.kinds import KINDS, Kind
from ..geometry.input_error import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What a run may be resumed with although it was begun with another value: none of them changes what one step learns.
FREE = ("steps", "accumulation", "checkpointing", "validate_every", "save_every")


@dataclass(frozen=True)
class Settings:
    """How a run learns. The defaults are the published ones where the paper or its code names a number.

    kind: a name in KINDS. steps: optimizer steps in all, resumed ones included.
    batch: panoramas (or sequences) per step, over all processes; accumulation: in how many passes a process takes its
        share of them, so that less is in memory at once.
    learning_rate: after `warm_up` steps, from where it falls to `least_rate` along a cosine.
    max_norm: of all gradients together; 0: not clipped. ema: share of the average that a step keeps; 0: no average.
    dropout: share of the panoramas that are trained without their captions, so that guidance works.
    dtype: what the UNet computes in, a name in DTYPES; the blocks' own weights are float32.
    checkpointing: activations are computed again for the gradients instead of being kept.
    validate_every, save_every: in steps; 0: not before the end. Validated is also before the first step.
    Raises InputError, one sentence, for the first value that cannot be right.
    """

    kind: str = "panorama"
    steps: int = 1000
    batch: int = 1
    learning_rate: float = 2e-4
    seed: int = 0
    dtype: str = "fp32"
    accumulation: int = 1
    warm_up: int = 0
    least_rate: float = 1e-7
    weight_decay: float = 0.01
    max_norm: float = 1.0
    ema: float = 0.0
    dropout: float = 0.1
    checkpointing: bool = True
    validate_every: int = 0
    save_every: int = 500

    def __post_init__(self) -> None:
        for name, options in (("kind", KINDS), ("dtype", DTYPES)):
            if getattr(self, name) not in options:
                raise InputError(f"{name} is '{getattr(self, name)}' and must be one of {', '.join(options)}.")
        for name, least in (("steps", 1), ("batch", 1), ("accumulation", 1), ("warm_up", 0), ("seed", 0)):
            self._check(name, least)
        for name in ("validate_every", "save_every", "weight_decay", "max_norm", "least_rate"):
            self._check(name, 0)
        if not 0 < self.learning_rate <= 1:
            raise InputError(
                f"learning_rate must lie above 0 and be at most 1 (published: 0.0002), not {self.learning_rate}."
            )
        if self.least_rate > self.learning_rate:
            raise InputError(
                f"least_rate, where the learning rate ends, is {self.least_rate} and must not be above learning_rate, "
                f"{self.learning_rate}."
            )
        for name in ("ema", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and less than 1, not {getattr(self, name)}.")
        if self.batch % self.accumulation:
            raise InputError(
                f"batch is {self.batch} and must be a multiple of accumulation, {self.accumulation}: each pass takes "
                "as many panoramas as the others."
            )

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        return DTYPES[self.dtype]

    @property
    def blocks_kind(self) -> Kind:
        """The kind of weights that are trained."""
        return KINDS[self.kind]

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        along = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.least_rate + (self.learning_rate - self.least_rate) * (1 + math.cos(math.pi * along)) / 2

    def fixed(self) -> dict[str, object]:
        """By name all values that a resumed run must have, too."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}

    def _check(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not (math.isfinite(value) and value >= least):
            raise InputError(f"{name} must be at least {least}, not {value}.")


def differences(saved: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """'batch was 2 and is 4' for all that has another value now than when it was saved."""
    names = dict.fromkeys((*saved, *now))
    return [
        f"{name} was {saved.get(name, 'not there')} and is {now.get(name, 'not there')}"
        for name in names
        if saved.get(name) != now.get(name)
    ]
