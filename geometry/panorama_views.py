"""`PanoramaViews`: the views of a panorama, taken from one point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from .cameras import Cameras
from .correspondence import Correspondences, apply_homography, homography, panorama_correspondences
from .input_error import InputError
from .neighbours import neighbours, views_apart


@dataclass(frozen=True, eq=False)
class PanoramaViews(Cameras):
    """V cameras in one point: their translation is zero. A `Scene`.

    rings: how many views each ring holds, in view order; their sum is V. Empty for views that only cut and join
        pictures (the faces of a cube): they have no neighbours, and cannot be sampled.
    """

    rings: tuple[int, ...] = ()

    kind: ClassVar[str] = "panorama"
    view_noun: ClassVar[str] = "view"
    scene_noun: ClassVar[str] = "panorama"
    closed: ClassVar[bool] = True
    own_channels: ClassVar[int] = 0
    keyframes: ClassVar[None] = None
    depth: ClassVar[None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rings and sum(self.rings) != self.views:
            raise InputError(f"the rings {self.rings} hold {sum(self.rings)} views, but there are {self.views} cameras")

    @property
    def sampled(self) -> bool:
        """Whether the views have neighbours."""
        return bool(self.rings)

    def name(self, view: int) -> str:
        """'view 3'"""
        return f"{self.view_noun} {view}"

    def neighbours(self, progress: Callable[[int, int], None] | None = None) -> list[list[int]]:
        """For each view those beside it in its ring, and those of other rings that overlap it."""
        return self._neighbours

    @cached_property
    def _neighbours(self) -> list[list[int]]:
        return neighbours(self)

    def apart(self) -> list[int]:
        """The views that no chain of overlapping neighbours joins with view 0."""
        return views_apart(self)

    def correspondences(self, height: int, width: int) -> Correspondences:
        """By the homographies between the views."""
        return panorama_correspondences(self, height, width)

    def own_inputs(self, height: int, width: int) -> None:
        """None: what a panorama's UNet is fed beside the latents comes from the host."""
        return None

    def points_in(self, other: int, view: int, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The (..., 2) points of another view that show a view's (..., 2) pixels, and (...) which it faces."""
        points, depth = apply_homography(homography(self, other, view), pixels)
        return points, depth > 0

    def subset(self, views: Sequence[int]) -> PanoramaViews:
        """Some of the views, without rings: a part of a circle is no panorama, it only cuts and joins pictures."""
        chosen = list(views)
        return PanoramaViews(self.intrinsics[chosen], self.cam_to_world[chosen], self.width, self.height)
