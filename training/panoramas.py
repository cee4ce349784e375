"""Samples cut out of panoramas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..caa.weights.kinds import Kind
from ..geometry.input_error import InputError
from ..geometry.panorama.equirect import equirect_to_views
from ..geometry.panorama_views import PanoramaViews
from .encoding import Encoder
from .samples import Sample, Text
from .streams import shuffled, stream, whole
from .turning import captions_of, turn_to_next, turned

ANY = 0  # yaws: a new one for each sample
FEW = 4  # how many are kept of each panorama where encoding is dear; times V in a ring, whose views change places


@dataclass(frozen=True, eq=False)
class Panorama:
    """An equirectangular picture. picture: gives it as (H, 2 H, 3) in 0..1. captions: 1, or one per view."""

    name: str
    picture: Callable[[], torch.Tensor]
    captions: tuple[str, ...]


class Panoramas:
    """Samples of panoramas, each seen once in a round, from a random start yaw of whole degrees.

    yaws: ANY: views are cut and encoded anew for each sample. n: only n start yaws of each panorama are cut, and their
        latents kept; in a ring each serves as V yaws, since its views change places.
    """

    alike = True

    def __init__(
        self,
        panoramas: Sequence[Panorama],
        cameras: PanoramaViews,
        encoder: Encoder,
        kind: Kind,
        seed: int,
        yaws: int = ANY,
    ) -> None:
        if not panoramas:
            raise InputError("there are no panoramas to learn from.")
        self._panoramas, self._cameras, self._encoder = list(panoramas), cameras, encoder
        self._kind, self._seed, self._yaws = kind, seed, yaws
        self._step = turn_to_next(cameras)

    @property
    def empty(self) -> Text:
        """The text of no caption."""
        return self._encoder.empty

    def about(self) -> dict[str, object]:
        """The panoramas by their names and captions."""
        known = [(panorama.name, panorama.captions) for panorama in self._panoramas]
        data = hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()
        return {"panoramas": len(known), "their names and captions": data, "yaws kept of each": self._yaws}

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training."""
        round_, place = divmod(number, len(self._panoramas))
        which = shuffled(self._seed, round_, len(self._panoramas))[place]
        panorama = self._panoramas[which]
        yaw, latents = self._cut(which, generator)
        text = self._encoder.captions(captions_of(panorama.captions, self._cameras, yaw))
        size = self._cameras.height, self._cameras.width
        return Sample(
            f"{panorama.name} from yaw {yaw}",
            self._cameras,
            latents,
            text,
            self._encoder.inputs(self._kind, latents, size),
        )

    def views(self, which: int, yaw_deg: int) -> torch.Tensor:
        """(V, H, W, 3) pictures of a panorama from a start yaw."""
        picture = self._panoramas[which].picture()
        return equirect_to_views(picture[None], turned(self._cameras, yaw_deg))[0]

    def _cut(self, which: int, generator: torch.Generator) -> tuple[int, torch.Tensor]:
        """A start yaw, and the latents that are seen from there."""
        if self._yaws == ANY:
            yaw = whole(generator, 360)
            return yaw, self._encoder.latents(self.views(which, yaw))
        kept = whole(generator, self._yaws)
        yaw = whole(stream(self._seed, "yaw", which, kept), self._step or 360)
        latents = self._encoder.kept_latents(f"{which} {yaw}", lambda: self.views(which, yaw))
        if self._step is None:
            return yaw, latents
        places = whole(generator, self._cameras.views)
        return yaw + places * self._step, latents.roll(-places, 0)
