"""The image condition of the depth weights: what they know of key frames when they make the frames between."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .weights.kinds import Widths

CONDITION_CHANNELS = 5  # latent (4) and mask (1)


class ConditionBranch(nn.Module):
    """GroupNorm - SiLU - 3x3 conv - GroupNorm - SiLU - 1x1 conv; the first convolution strides to the level's size."""

    def __init__(self, first: int, width: int, stride: int, operations, dtype, device) -> None:
        super().__init__()
        place = {"dtype": dtype, "device": device}
        self.norm1 = operations.GroupNorm(32, first, eps=1e-6, **place)
        self.conv1 = operations.Conv2d(first, width, 3, stride=stride, padding=1, **place)
        self.norm2 = operations.GroupNorm(32, width, eps=1e-6, **place)
        self.conv2 = operations.Conv2d(width, width, 1, **place)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, first width, h, w) to (N, width, h / stride, w / stride)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(hidden)))


def add_condition(caa: nn.Module, widths: Widths, operations, dtype, device) -> None:
    """Gives `caa` the branches, under their published names; each is as wide as the tensor that it is added to."""
    first, levels = widths.encoder[0], len(widths.encoder)
    down = [(width, 2**level) for level, width in enumerate((first, *widths.encoder[:-1]))]
    up = [(width, 2 ** (levels - 1 - level)) for level, width in enumerate((widths.mid, *widths.decoder[:-1]))]
    caa.condition_conv_in = operations.Conv2d(CONDITION_CHANNELS, first, 3, padding=1, dtype=dtype, device=device)
    for name, branches in (("condition_downblocks", down), ("condition_upblocks", up)):
        made = [ConditionBranch(first, width, stride, operations, dtype, device) for width, stride in branches]
        setattr(caa, name, nn.ModuleList(made))


def condition_features(caa: Any, condition: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each branch adds, by its name ('condition_downblocks.0'): (V, width, h / stride, w / stride).

    condition: (V, 5, h, w), latents and mask of known views, zeros in the others. All branches are fed by one layer.
    """
    hidden = caa.condition_conv_in(condition)
    sides = ("condition_downblocks", "condition_upblocks")
    return {f"{side}.{i}": branch(hidden) for side in sides for i, branch in enumerate(getattr(caa, side))}
