"""`Scene`: what sampling, attention and measures ask of views that show one scene together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from .correspondence import Correspondences


class Scene(Protocol):
    """V views that are denoised together. `PanoramaViews` and `PosedViews` are such; one more kind is one more file.

    views, width, height: how many there are, and their size in pixels.
    rotation, in_one_point: as of `Cameras`, which all scenes are.
    kind: what weights are made for ("panorama", "sequence").
    view_noun, scene_noun: what people call a view and all of them ("view" and "panorama", "frame" and "sequence").
    rings: how many views each ring holds, for views that go round; else empty.
    closed: the views close a circle, so that no window can hold a part of them.
    sampled: whether they can be sampled at all; some only cut and join pictures.
    own_channels: how many channels `own_inputs` has.
    keyframes: which views are known first, and the others made between them; None where there is no such thing.
    depth: (V, H, W) float32 metres along z, 0 = no reading; None where views need none.
    """

    width: int
    height: int
    kind: str
    view_noun: str
    scene_noun: str
    closed: bool
    rings: tuple[int, ...]
    own_channels: int

    @property
    def rotation(self) -> torch.Tensor: ...

    @property
    def in_one_point(self) -> bool: ...

    @property
    def sampled(self) -> bool: ...

    @property
    def views(self) -> int: ...

    @property
    def keyframes(self) -> tuple[int, ...] | None: ...

    @property
    def depth(self) -> torch.Tensor | None: ...

    def name(self, view: int) -> str:
        """What people know a view by: "view 3", "frame 120"."""
        ...

    def neighbours(self, progress: Callable[[int, int], None] | None = None) -> list[list[int]]:
        """For each view those that it attends to. Nothing at all for views that cannot be sampled together.

        progress: where this takes long, and for the first time only, is told how much of how much is done. It may
            raise, to stop.
        """
        ...

    def apart(self) -> list[int]:
        """The views that no chain of neighbours joins with view 0: they would be sampled without knowing it."""
        ...

    def correspondences(self, height: int, width: int) -> Correspondences:
        """Which points of the views show the same, at features `height` x `width` under their images."""
        ...

    def own_inputs(self, height: int, width: int) -> torch.Tensor | None:
        """(V, C, height, width) float32 that the UNet is fed beside the latents; None where nothing is."""
        ...

    def points_in(self, other: int, view: int, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where another view shows a view's (..., 2) pixels: (..., 2) points, and (...) whether it does."""
        ...

    def subset(self, views: Sequence[int]) -> Scene:
        """Some of the views, in that order, as a window that is denoised by itself."""
        ...
