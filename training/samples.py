"""`Sample`: the views of one scene, ready for the UNet; and where samples come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from ..geometry.scene import Scene

# What the UNet is told besides the text tokens, by the name of its argument (SDXL's y): one row per view.
Further = Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Text:
    """What the text encoder makes of prompts. tokens: (N, L, C). further: (N, ...) each."""

    tokens: torch.Tensor
    further: Further = field(default_factory=dict)


def stacked(texts: Sequence[Text]) -> Text:
    """One text of the rows of several; rows of unequal length are repeated, which leaves their attention what it is."""
    length = math.lcm(*(text.tokens.shape[1] for text in texts))
    tokens = torch.cat([text.tokens.repeat(1, length // text.tokens.shape[1], 1) for text in texts])
    names = texts[0].further
    return Text(tokens, {name: torch.cat([text.further[name] for text in texts]) for name in names})


class Codec(Protocol):
    """The base model's autoencoder and text encoder. Latents are scaled as the UNet is fed. All tensors on the CPU."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) in 0..1 to (N, 4, h, w) float32."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, 4, h, w) to (N, H, W, 3) float32 in 0..1."""

    def text(self, prompt: str) -> Text:
        """One row."""


@dataclass(frozen=True, eq=False)
class Sample:
    """V views of one scene, on the CPU.

    name: what people know the scene by. cameras: V. Samples that share this very object share their correspondences.
    latents: (V, 4, h, w) float32. text: V rows.
    inputs: (V, k, h, w) what the UNet is fed beside the latents, None: nothing.
    condition: (V, 5, h, w) latents and mask of known views (see `known_ends`); None: nothing is known.
    """

    name: str
    cameras: Scene
    latents: torch.Tensor
    text: Text
    inputs: torch.Tensor | None = None
    condition: torch.Tensor | None = None


class Source(Protocol):
    """Where samples come from.

    alike: all samples have the same cameras, so that several go through the UNet at once.
    empty: the text of no caption, one row.
    """

    alike: bool
    empty: Text

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training (from 0, without end), cut as the generator says."""

    def about(self) -> dict[str, object]:
        """What identifies the data, by name: a resumed run must have the same."""


def known_ends(latents: torch.Tensor) -> torch.Tensor:
    """(V, 5, h, w) the image condition of (V, 4, h, w) latents of which the first and the last are known."""
    condition = torch.zeros(len(latents), 5, *latents.shape[2:], dtype=latents.dtype)
    for end in (0, -1):
        condition[end, :4], condition[end, 4] = latents[end], 1
    return condition


def without_caption(sample: Sample, empty: Text) -> Sample:
    """The sample with the text of no caption for each of its views."""
    return replace(sample, text=stacked([empty] * len(sample.latents)))
