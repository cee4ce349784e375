"""Samples of posed sequences with depth, for depth weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..geometry.input_error import InputError
from ..geometry.posed import PosedViews
from .encoding import Encoder
from .samples import Sample, Text, known_ends
from .streams import shuffled, whole


@dataclass(frozen=True, eq=False)
class PosedSequence:
    """F frames. pictures: (F, H, W, 3) in 0..1. captions: F of them."""

    name: str
    cameras: PosedViews
    pictures: torch.Tensor
    captions: tuple[str, ...]


class Sequences:
    """Samples of at most `views` frames: key frames in a row to be generated, then frames in a row between known ends.

    Both kinds take turns, as the published weights were trained.
    """

    alike = False

    def __init__(self, sequences: Sequence[PosedSequence], views: int, encoder: Encoder, seed: int) -> None:
        if not sequences:
            raise InputError("there are no sequences to learn from.")
        self._sequences, self._views, self._encoder, self._seed = list(sequences), views, encoder, seed
        # The same frames have the same cameras, whose correspondences are then known.
        self._cameras: dict[tuple[int, tuple[int, ...]], PosedViews] = {}

    @property
    def empty(self) -> Text:
        """The text of no caption."""
        return self._encoder.empty

    def about(self) -> dict[str, object]:
        """The sequences by their names, frames and captions."""
        known = [(sequence.name, sequence.cameras.names, sequence.captions) for sequence in self._sequences]
        data = hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()
        return {"sequences": len(known), "their frames and captions": data, "views": self._views}

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training: even ones are generated, odd ones are made between known ends."""
        round_, place = divmod(number // 2, len(self._sequences))
        which = shuffled(self._seed, round_, len(self._sequences))[place]
        sequence, between = self._sequences[which], number % 2 == 1
        frames = list(range(sequence.cameras.views)) if between else list(sequence.cameras.keyframes)
        first = whole(generator, max(1, len(frames) - self._views + 1))
        chosen = tuple(frames[first : first + self._views])
        latents = self._encoder.kept_latents(f"{which}", lambda: sequence.pictures)[list(chosen)]
        cameras = self._cameras.setdefault((which, chosen), sequence.cameras.subset(chosen))
        return Sample(
            f"{sequence.name}, frames {', '.join(cameras.names)}",
            cameras,
            latents,
            self._encoder.captions([sequence.captions[frame] for frame in chosen]),
            cameras.own_inputs(*latents.shape[2:]),
            known_ends(latents) if between else None,
        )


class SingleViews:
    """One view of each sample of another source, by itself: what the UNet of depth weights is trained on first."""

    alike = True

    def __init__(self, source) -> None:
        self._source = source

    @property
    def empty(self) -> Text:
        """The text of no caption."""
        return self._source.empty

    def about(self) -> dict[str, object]:
        """What the source says."""
        return self._source.about()

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training."""
        sample = self._source.sample(2 * number, generator)
        view = whole(generator, len(sample.latents))
        one = slice(view, view + 1)
        text = Text(sample.text.tokens[one], {name: rows[one] for name, rows in sample.text.further.items()})
        inputs = None if sample.inputs is None else sample.inputs[one]
        return replace(
            sample,
            name=f"view {view} of {sample.name}",
            latents=sample.latents[one],
            text=text,
            inputs=inputs,
            condition=None,
        )
