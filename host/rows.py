"""Conditionings of a depth sequence, cut to the frames that are denoised together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..geometry.scene import Scene
from .conditionings import TEXTS
from .inputs import mask_rows


class FrameRows:
    """Which of its rows a conditioning has for which of V frames.

    It may hold 1 row for all frames, V, or one for each of K key frames: then a frame takes that of the nearest one.
    """

    def __init__(self, node: str, cameras: Scene) -> None:
        keyframes = cameras.keyframes or ()
        self._node, self._frames, self._keyframes = node, cameras.views, len(keyframes)
        distances = torch.arange(cameras.views)[:, None] - torch.tensor(keyframes)
        self._nearest = distances.abs().argmin(1).tolist()

    def of(self, name: str, conditioning: list, frames: Sequence[int]) -> list:
        """The host's CONDITIONING for these frames: prompts, masks, and the hints of ControlNets.

        Raises ValueError for any other number of rows, which `name`, 'positive' or 'negative', tells the place of.
        """
        return [self._entry(f"the {name} conditioning", text, options, frames) for text, options in conditioning]

    def _entry(self, place: str, text: torch.Tensor, options: dict, frames: Sequence[int]) -> list:
        options = dict(options)
        for key, what in TEXTS.items():
            if options.get(key) is not None:
                options[key] = self._rows(place, what, options[key], frames)
        if options.get("mask") is not None:
            options["mask"] = self._rows(place, "masks", mask_rows(options["mask"])[:, 0], frames)
        if options.get("control") is not None:
            options["control"] = self._control(place, options["control"], frames)
        return [self._rows(place, "prompts", text, frames), options]

    def _control(self, place: str, control: Any, frames: Sequence[int]):
        """A copy of the host's ControlNet, and of those before it, with the hints of these frames."""
        copy = control.copy()
        copy.cond_hint_original = self._rows(place, "ControlNet hints", control.cond_hint_original, frames)
        copy.extra_concat_orig = [
            self._rows(place, "ControlNet masks", part, frames) for part in control.extra_concat_orig
        ]
        if control.previous_controlnet is not None:
            copy.set_previous_controlnet(self._control(place, control.previous_controlnet, frames))
        return copy

    def _rows(self, place: str, what: str, rows: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        count = len(rows)
        if count == 1:
            return rows
        if count == self._frames:
            return rows[list(frames)]
        if count == self._keyframes:
            return rows[[self._nearest[frame] for frame in frames]]
        raise ValueError(
            f"{self._node}: {place} holds {count} {what}, and it takes 1, {self._keyframes} (one per key frame) or "
            f"{self._frames} (one per frame). Use those of the same Depth Cameras."
        )
