"""`PosedViews`: the cameras of a depth sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from .cameras import Cameras
from .depth import MIN_OVERLAP, depth_overlaps


@dataclass(frozen=True, eq=False)
class PosedViews(Cameras):
    """V cameras in different places, and how far away what they see is. Immutable, as all `Cameras` are.

    depth: (V, H, W) float32 on the CPU, z in finite metres at the cameras' full size, 0 = no reading.
    min_overlap: views that overlap by more than this attend to each other.
    keyframes: which views are key frames, ascending; empty for the key frames' own cameras.
    names: what people call each view, the frame's number in its folder.
    """

    depth: torch.Tensor = field(kw_only=True)
    min_overlap: float = field(default=MIN_OVERLAP, kw_only=True)
    keyframes: tuple[int, ...] = field(default=(), kw_only=True)
    names: tuple[str, ...] = field(default=(), kw_only=True)
    _subsets: dict[tuple[int, ...], PosedViews] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (self.views, self.height, self.width)
        if self.depth.shape != shape or self.depth.dtype != torch.float32:
            raise ValueError(
                f"The depth of these cameras is float32 {shape} (views, height, width), not {self.depth.dtype} "
                f"{tuple(self.depth.shape)}."
            )
        if not torch.isfinite(self.depth).all() or (self.depth < 0).any():
            raise ValueError("Depth is in finite metres, not negative, and 0 where there is no reading.")
        if not self.names:
            object.__setattr__(self, "names", tuple(str(view) for view in range(self.views)))
        if len(self.names) != self.views or any(not 0 <= view < self.views for view in self.keyframes):
            raise ValueError(f"{len(self.names)} names and key frames {self.keyframes} for {self.views} cameras.")

    @cached_property
    def overlaps(self) -> torch.Tensor:
        """(V, V) float64 `depth_overlaps` of all pairs, computed when first asked for and then kept."""
        return depth_overlaps(self, self.depth)

    def subset(self, views: Sequence[int]) -> PosedViews:
        """The cameras of some views, in that order, without key frames. The same object for the same views."""
        views = tuple(views)
        if views not in self._subsets:
            chosen = list(views)
            cameras = PosedViews(
                self.intrinsics[chosen],
                self.cam_to_world[chosen],
                self.width,
                self.height,
                depth=self.depth[chosen],
                min_overlap=self.min_overlap,
                names=tuple(self.names[view] for view in views),
            )
            if "overlaps" in self.__dict__:
                cameras.__dict__["overlaps"] = self.overlaps[chosen][:, chosen]
            self._subsets[views] = cameras
        return self._subsets[views]
