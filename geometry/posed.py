"""`PosedViews`: the views of a depth sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from .cameras import Cameras
from .correspondence import Correspondences
from .depth import (
    MIN_OVERLAP,
    DepthOverlaps,
    carried,
    carry,
    depth_at,
    depth_correspondences,
    depth_neighbours,
    depth_projection,
    inverse_depth,
    lift,
)
from .input_error import InputError

AGREE_M = 0.5  # metres by which two depth maps may differ where they show the same


@dataclass(frozen=True, eq=False)
class PosedViews(Cameras):
    """V cameras in different places, and how far away what they see is. A `Scene`; immutable, as all `Cameras` are.

    depth: (V, H, W) float32 on the CPU, z in finite metres at the cameras' full size, 0 = no reading.
    min_overlap: views that overlap by more than this attend to each other.
    keyframes: which views are key frames, ascending; empty for the key frames' own cameras.
    names: what people call each view, the frame's number in its folder.
    """

    depth: torch.Tensor = field(kw_only=True)
    min_overlap: float = field(default=MIN_OVERLAP, kw_only=True)
    keyframes: tuple[int, ...] = field(default=(), kw_only=True)
    names: tuple[str, ...] = field(default=(), kw_only=True)
    # The overlaps of the whole sequence that these views are a part of, and their places in it.
    _among: DepthOverlaps = field(init=False, repr=False)
    _ids: tuple[int, ...] = field(init=False, repr=False)
    _parts: dict[tuple[int, ...], PosedViews] = field(init=False, repr=False, default_factory=dict)

    kind: ClassVar[str] = "sequence"
    view_noun: ClassVar[str] = "frame"
    scene_noun: ClassVar[str] = "sequence"
    closed: ClassVar[bool] = False
    own_channels: ClassVar[int] = 1
    sampled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (self.views, self.height, self.width)
        if self.depth.shape != shape or self.depth.dtype != torch.float32:
            raise InputError(
                f"the depth of these cameras is float32 {shape} (views, height, width), not {self.depth.dtype} "
                f"{tuple(self.depth.shape)}"
            )
        if not torch.isfinite(self.depth).all() or (self.depth < 0).any():
            raise InputError("depth is in finite metres, not negative, and 0 where there is no reading")
        if not self.names:
            object.__setattr__(self, "names", tuple(str(view) for view in range(self.views)))
        # Of a plain copy of the cameras: two that hold each other would outlive their last use.
        plain = Cameras(self.intrinsics, self.cam_to_world, self.width, self.height)
        self._is_part(DepthOverlaps(plain, self.depth), range(self.views))
        if len(self.names) != self.views or any(not 0 <= view < self.views for view in self.keyframes):
            raise InputError(f"{len(self.names)} names and key frames {self.keyframes} for {self.views} cameras")

    @property
    def overlaps(self) -> torch.Tensor:
        """(V, V) float64 `depth_overlap` of all pairs. Each pair is computed once per sequence, for all its parts."""
        return self.compared()

    def compared(self, progress: Callable[[int, int], None] | None = None) -> torch.Tensor:
        """The `overlaps`; `progress` follows how those that are not known yet are computed, see `DepthOverlaps.of`."""
        return self._among.of(self._ids, progress)

    def name(self, view: int) -> str:
        """'frame 120'"""
        return f"{self.view_noun} {self.names[view]}"

    def neighbours(self, progress: Callable[[int, int], None] | None = None) -> list[list[int]]:
        """For each view all others that overlap it by more than `min_overlap`, else those beside it in order."""
        return depth_neighbours(self.compared(progress), self.min_overlap)

    def apart(self) -> list[int]:
        """None: as published, a view that overlaps no other attends to those beside it."""
        return []

    def correspondences(self, height: int, width: int) -> Correspondences:
        """By depth and poses."""
        return depth_correspondences(self, self.depth, height, width, self.neighbours())

    def own_inputs(self, height: int, width: int) -> torch.Tensor:
        """(V, 1, height, width) inverse depth."""
        return inverse_depth(self.depth, height, width)[:, None]

    def points_in(self, other: int, view: int, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The (..., 2) points of another view at which a view's (..., 2) pixels stand, and (...) which it really shows.

        Both depth maps are read at the nearest pixel. What is compared with the other's depth is the point's z in the
        other's frame; the published model's position code takes its z in the first view's.
        """
        lifted = lift(pixels, depth_at(pixels.movedim(-1, 0), self.depth[view], self))
        matrix = depth_projection(self, other, view)
        points = carry(matrix, lifted)
        theirs = depth_at(points, self.depth[other], self)
        agrees = (carried(matrix, lifted)[2] - theirs).abs() <= AGREE_M
        return points.movedim(0, -1), agrees & (theirs > 0)

    def subset(self, views: Sequence[int]) -> PosedViews:
        """The cameras of some views, in that order, without key frames; each time the same, with what is kept of it."""
        chosen = tuple(views)
        if chosen not in self._parts:
            self._parts[chosen] = self._part(list(chosen))
        return self._parts[chosen]

    def _part(self, chosen: list[int]) -> PosedViews:
        in_a_row = chosen == list(range(chosen[0], chosen[-1] + 1))
        part = PosedViews(
            self.intrinsics[chosen],
            self.cam_to_world[chosen],
            self.width,
            self.height,
            depth=self.depth[chosen[0] : chosen[-1] + 1] if in_a_row else self.depth[chosen],  # a window shares memory
            min_overlap=self.min_overlap,
            names=tuple(self.names[view] for view in chosen),
        )
        part._is_part(self._among, [self._ids[view] for view in chosen])
        return part

    def _is_part(self, overlaps: DepthOverlaps, ids: Sequence[int]) -> None:
        object.__setattr__(self, "_among", overlaps)
        object.__setattr__(self, "_ids", tuple(ids))
