"""`PosedViews`: the cameras of a depth sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    _ids: tuple[int, ...] = field(default=(), kw_only=True, repr=False)
    _known: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict, kw_only=True, repr=False)

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
        if not self._ids:
            object.__setattr__(self, "_ids", tuple(range(self.views)))
        if len(self.names) != self.views or any(not 0 <= view < self.views for view in self.keyframes):
            raise ValueError(f"{len(self.names)} names and key frames {self.keyframes} for {self.views} cameras.")

    @property
    def overlaps(self) -> torch.Tensor:
        """(V, V) float64 `depth_overlaps` of all pairs, computed when first asked for and then kept.

        Views and their parts share what they know: also parts that are made anew, as for the windows of each run.
        """
        if self._ids not in self._known:
            self._known[self._ids] = self._part_of_known()
        return self._known[self._ids]

    def subset(self, views: Sequence[int]) -> PosedViews:
        """The cameras of some views, in that order, without key frames."""
        chosen = list(views)
        return PosedViews(
            self.intrinsics[chosen],
            self.cam_to_world[chosen],
            self.width,
            self.height,
            depth=self.depth[chosen],
            min_overlap=self.min_overlap,
            names=tuple(self.names[view] for view in chosen),
            _ids=tuple(self._ids[view] for view in chosen),
            _known=self._known,
        )

    def _part_of_known(self) -> torch.Tensor:
        for ids, overlaps in self._known.items():
            if set(self._ids) <= set(ids):
                places = [ids.index(one) for one in self._ids]
                return overlaps[places][:, places]
        return depth_overlaps(self, self.depth)
