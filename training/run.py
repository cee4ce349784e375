"""What the places in the UNet get to know while blocks learn: the views, their blocks, and what follows from both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from einops import rearrange
from torch.utils.checkpoint import checkpoint

from ..caa.attention.tables import Tables
from ..caa.blocks import CAA
from ..caa.condition import condition_features
from ..geometry.scene import Scene

KEPT = 8  # scenes whose geometry is kept: panoramas share one, sequences have one each


class Geometry:
    """Correspondences and tables of cameras by feature size: made once, since they cost more than a step.

    Tables follow from cameras alone (those of sampling runs also from weights), and stay true while weights change.
    """

    def __init__(self, cameras: Scene) -> None:
        self.cameras = cameras
        self._tables: dict[tuple[int, int], Tables] = {}

    def tables(self, height: int, width: int) -> Tables:
        """The tables at one feature size."""
        size = height, width
        if size not in self._tables:
            self._tables[size] = Tables(self.cameras.correspondences(height, width))
        return self._tables[size]


class Geometries:
    """The geometry of the cameras that were seen last."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[int, Geometry] = OrderedDict()

    def of(self, cameras: Scene) -> Geometry:
        """Cameras are known by identity: they are immutable."""
        if id(cameras) not in self._known:
            self._known[id(cameras)] = Geometry(cameras)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        self._known.move_to_end(id(cameras))
        return self._known[id(cameras)]


class Run:
    """One pass of P panoramas of V views through the UNet: what its places call.

    condition: (P V, 5, h, w) latents and mask of known views; None: nothing is known, no branch runs.
    checkpointing: whether blocks are computed again for the gradients. poll: called at each place, raises to stop.
    """

    def __init__(
        self,
        caa: CAA,
        geometry: Geometry,
        condition: torch.Tensor | None = None,
        checkpointing: bool = False,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._caa, self._geometry, self._condition = caa, geometry, condition
        self._checkpointing, self._poll = checkpointing, poll
        self._features: dict[str, torch.Tensor] | None = None

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """What stands at place `name`: (P V, C, h, w) features in and out, views within panoramas.

        The blocks' float32 weights compute in the dtype of the features.
        """
        self._poll()
        with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32 and x.dtype != torch.float64):
            if name.startswith("condition_"):
                return x if self._condition is None else x + self._branch(name, x).to(x.dtype)
            return self._block(name, x)

    def _block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        found = self._caa.at_site(name)
        tables = self._geometry.tables(*x.shape[-2:])
        if found is None or not tables.correspondences.pairs:
            return x
        block, bands = found
        panoramas = rearrange(x, "(p v) c h w -> p v c h w", v=self._geometry.cameras.views)
        if self._checkpointing and torch.is_grad_enabled():
            return checkpoint(block, panoramas, tables, bands, use_reentrant=False).flatten(0, 1).to(x.dtype)
        return block(panoramas, tables, bands).flatten(0, 1).to(x.dtype)

    def _branch(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self._features is None:
            self._features = condition_features(self._caa, self._condition.to(x))
        return self._features[name]
