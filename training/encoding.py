"""Pictures and captions as the UNet gets them, each encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..caa.weights.kinds import OUTPAINTING, Kind
from .cache import Cache
from .samples import Codec, Text, stacked

GREY = 0.5  # of what is not given, in pictures: 0 in -1..1
GIVEN = 0  # the given view, when outpainting: of a ring cut at a random yaw any is as good as the others


class Encoder:
    """A `Codec` with a `Cache` before it.

    prefix: set before each caption. The published panorama weights were trained with 'This is one view of a scene. '.
    """

    def __init__(self, codec: Codec, cache: Cache, prefix: str = "") -> None:
        self._codec, self._cache, self._prefix = codec, cache, prefix

    @property
    def empty(self) -> Text:
        """The text of no caption, one row."""
        return self._kept_text("")

    def captions(self, captions: Sequence[str]) -> Text:
        """A row for each of them."""
        return stacked([self._kept_text(self._prefix + caption) for caption in captions])

    def passing_captions(self, captions: Sequence[str]) -> Text:
        """The same of captions that hardly come again: they are not kept."""
        return stacked([self._codec.text(self._prefix + caption) for caption in captions])

    def latents(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 4, h, w) of (N, H, W, 3) pictures that are seen once."""
        return self._codec.encode(pictures)

    def kept_latents(self, key: str, pictures: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The same of pictures that are seen again under this key: they are not made again either."""
        return self._cache.get(f"latents {key}", lambda: {"latents": self._codec.encode(pictures())})["latents"]

    def inputs(self, kind: Kind, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
        """What the UNet of panorama or outpainting weights is fed beside (V, 4, h, w) latents of (height, width) views.

        When outpainting (V, 5, h, w): mask, 0 in the given view and 1 in the others; latents of the given view, and of
        grey pictures in the place of the others.
        """
        if kind != OUTPAINTING:
            return None
        grey = self.kept_latents(f"grey {size}", lambda: torch.full((1, *size, 3), GREY))
        mask, given = torch.ones_like(latents[:, :1]), grey.repeat(len(latents), 1, 1, 1)
        mask[GIVEN], given[GIVEN] = 0, latents[GIVEN]
        return torch.cat((mask, given), dim=1)

    def _kept_text(self, prompt: str) -> Text:
        def make() -> dict[str, torch.Tensor]:
            text = self._codec.text(prompt)
            return {"tokens": text.tokens, **text.further}

        kept = dict(self._cache.get(f"text {prompt}", make))
        return Text(kept.pop("tokens"), kept)
