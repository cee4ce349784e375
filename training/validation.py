"""Panoramas sampled while a run goes on: do the views agree already?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..geometry.agreement import Agreement, agreement
from ..geometry.input_error import InputError
from ..geometry.scene import Scene
from .objective import Noised, Objective, Rows
from .samples import Codec, Sample, Source, Text, without_caption
from .streams import stream

LEVELS = 8  # noise levels, evenly spread, at which a sample's validation loss is taken


@dataclass(frozen=True, eq=False)
class Validated:
    """How a run does after a step.

    loss: on samples that nothing is learnt from, at noise and levels that are always the same.
    psnr: Overlap PSNR in dB of the sampled views of all scenes; None where no views share a pixel.
    scenes: the cameras and the sampled views, (V, H, W, 3) float32 in 0..1 on the CPU, of each.
    """

    step: int
    loss: float
    psnr: float | None
    scenes: tuple[tuple[Scene, torch.Tensor], ...]


@dataclass(frozen=True)
class Sampling:
    """How validation panoramas are sampled: by DDIM. seed: of the noise."""

    steps: int = 20
    guidance: float = 5.0
    seed: int = 0


class Validation:
    """Samples that a run does not learn from, and what becomes of them.

    empty: the text of no caption. poll: called in between, raises to stop.
    """

    def __init__(
        self,
        objective: Objective,
        codec: Codec,
        samples: Sequence[Sample],
        empty: Text,
        sampling: Sampling,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._objective, self._codec, self._samples = objective, codec, list(samples)
        self._empty, self._sampling, self._poll = empty, sampling, poll

    def __call__(self, step: int) -> Validated:
        """How the run does now."""
        scenes = tuple(
            (sample.cameras, self._codec.decode(self.sampled(number).cpu()))
            for number, sample in enumerate(self._samples)
        )
        return Validated(step, self.loss(), _psnr(scenes), scenes)

    @torch.no_grad()
    def loss(self) -> float:
        """The mean loss of the samples."""
        levels, losses = self._objective.schedule.levels, []
        for number, sample in enumerate(self._samples):
            for part in range(LEVELS):
                noise = _noise(sample, stream(self._sampling.seed, "validation", number, part))
                level = (2 * part + 1) * levels // (2 * LEVELS)
                losses.append(self._objective([Noised(sample, level, noise)]).item())
                self._poll()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def sampled(self, number: int) -> torch.Tensor:
        """(V, 4, h, w) latents sampled in the place of a sample's, on the UNet's device."""
        sample, objective, sampling = self._samples[number], self._objective, self._sampling
        given = Rows.of([without_caption(sample, self._empty), sample], objective.device)
        clean, noise = None, _noise(sample, stream(sampling.seed, "sampled", number)).to(objective.device)
        for step in range(sampling.steps):
            level = objective.schedule.levels - 1 - objective.schedule.levels * step // sampling.steps
            levels = torch.full((len(noise),), level)
            fed = noise if clean is None else objective.schedule.noised(clean, noise, levels)
            both = objective.predict(fed.repeat(2, 1, 1, 1), levels.repeat(2), given)
            without, captioned = both.chunk(2)
            predicted = without + sampling.guidance * (captioned - without)
            clean, noise = objective.schedule.denoised(fed, predicted, levels)
            self._poll()
        return clean


def held_out(source: Source, count: int, seed: int) -> list[Sample]:
    """The first `count` samples of a source that is not learnt from: of depth those that are generated."""
    step = 1 if source.alike else 2
    return [source.sample(step * number, stream(seed, "held out", number)) for number in range(count)]


def _psnr(scenes: Sequence[tuple[Scene, torch.Tensor]]) -> float | None:
    pairs = []
    for cameras, pictures in scenes:
        try:
            pairs += agreement(pictures, cameras).pairs
        except InputError:  # a view alone, or views that share no pixel
            continue
    return Agreement(tuple(pairs)).psnr if pairs else None


def _noise(sample: Sample, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(sample.latents.shape, generator=generator)
