"""What training minimises: the squared error of the UNet's own prediction, all views of a scene at one noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from ..caa.blocks import CAA
from ..geometry.scene import Scene
from .run import Geometries, Run
from .samples import Further, Sample, Source, Text, stacked, without_caption
from .schedule import Schedule
from .settings import Settings
from .streams import stream, whole


class Denoiser(Protocol):
    """The base model's UNet, with the places for a run's blocks. It computes on `device`."""

    device: torch.device

    def __call__(
        self, x: torch.Tensor, levels: torch.Tensor, tokens: torch.Tensor, further: Further, run: Run | None
    ) -> torch.Tensor:
        """What the UNet predicts of (N, k, h, w) inputs at levels (N,), with N rows of text: (N, 4, h, w) float32."""


@dataclass(frozen=True, eq=False)
class Noised:
    """A sample, the level (a number of the schedule) that its views share, and their noise (V, 4, h, w)."""

    sample: Sample
    level: int
    noise: torch.Tensor


def noised(sample: Sample, levels: int, empty: Text, dropout: float, generator: torch.Generator) -> Noised:
    """Draws a level out of `levels`, noise, and whether the sample is trained without its captions."""
    level, noise = whole(generator, levels), torch.randn(sample.latents.shape, generator=generator)
    dropped = torch.rand((), generator=generator).item() < dropout
    return Noised(without_caption(sample, empty) if dropped else sample, level, noise)


@dataclass(frozen=True, eq=False)
class Rows:
    """P samples of the same cameras as the P V rows that the UNet is given, on its device."""

    cameras: Scene
    text: Text
    inputs: torch.Tensor | None
    condition: torch.Tensor | None

    @staticmethod
    def of(samples: Sequence[Sample], device: torch.device) -> Rows:
        text = stacked([sample.text for sample in samples])
        text = Text(text.tokens.to(device), {name: rows.to(device) for name, rows in text.further.items()})
        inputs, condition = (
            None if getattr(samples[0], part) is None else rows([getattr(sample, part) for sample in samples], device)
            for part in ("inputs", "condition")
        )
        return Rows(samples[0].cameras, text, inputs, condition)


def rows(views: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """(P V, ...) of P tensors (V, ...)."""
    return torch.cat(list(views)).to(device)


class Objective(nn.Module):
    """The losses of samples. Its only parameters are those of `learner`, whatever learns: blocks, or the UNet itself.

    The UNet behind `denoiser` is no part of it, so that nothing counts, moves or sends weights that are frozen.
    poll: called at each place of a pass, raises to stop.
    """

    def __init__(
        self,
        learner: nn.Module,
        denoiser: Denoiser,
        schedule: Schedule,
        checkpointing: bool = False,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.learner, self.schedule = learner, schedule
        self._denoiser, self._checkpointing, self._poll = denoiser, checkpointing, poll
        self._geometries = Geometries()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._denoiser.device

    def forward(self, batch: Sequence[Noised]) -> torch.Tensor:
        """(P,) losses of P samples of the same cameras, each the mean over its views."""
        latents = rows([at.sample.latents for at in batch], self.device)
        noise = rows([at.noise for at in batch], self.device)
        levels = torch.tensor([at.level for at in batch]).repeat_interleave(len(batch[0].noise))
        fed = self.schedule.noised(latents, noise, levels)
        predicted = self.predict(fed, levels, Rows.of([at.sample for at in batch], self.device))
        errors = (predicted - self.schedule.target(latents, noise, levels)).square()
        return errors.view(len(batch), -1).mean(1)

    def predict(self, fed: torch.Tensor, levels: torch.Tensor, given: Rows) -> torch.Tensor:
        """The prediction for (P V, 4, h, w) noised latents at levels (P V,); float32."""
        x = fed if given.inputs is None else torch.cat((fed, given.inputs), dim=1)
        return self._denoiser(x, levels.to(fed.device), given.text.tokens, given.text.further, self._run(given))

    def _run(self, given: Rows) -> Run | None:
        """What the places of the UNet get to know; None where the UNet itself learns, on views by themselves."""
        if not isinstance(self.learner, CAA):
            return None
        geometry = self._geometries.of(given.cameras)
        return Run(self.learner, geometry, given.condition, self._checkpointing, self._poll)


def drawn(source: Source, number: int, settings: Settings, levels: int) -> Noised:
    """Sample `number` of the whole training with its noise: from the seed and its number alone."""
    generator = stream(settings.seed, "sample", number)
    sample = source.sample(number, generator)
    return noised(sample, levels, source.empty, settings.dropout, generator)
