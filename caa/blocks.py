"""The published blocks as modules, with the published names of their parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..geometry.correspondence import Correspondences
from .attention import Attention
from .tables import Tables


class GatedProjection(nn.Module):
    """(..., C) to value * gelu(gate), 4 C wide, with the exact GELU."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.proj = operations.Linear(width, 8 * width, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """The feed-forward layer; its second entry is the dropout of the training code."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        last = operations.Linear(4 * width, width, dtype=dtype, device=device)
        self.net = nn.Sequential(GatedProjection(width, operations, dtype, device), nn.Identity(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Transformer(nn.Module):
    """One CAA layer: attention over other views, then the feed-forward layer, both residual."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.attn1 = Attention(width, operations, dtype, device)
        self.ff = FeedForward(width, operations, dtype, device)
        self.norm1 = operations.LayerNorm(width, dtype=dtype, device=device)
        self.norm2 = operations.LayerNorm(width, dtype=dtype, device=device)

    def forward(
        self, x: torch.Tensor, correspondences: Correspondences, bands: torch.Tensor, tables: Tables
    ) -> torch.Tensor:
        tokens = x.flatten(3).mT + self.attn1(x, self.norm1, correspondences, bands, tables)
        tokens = tokens + self.ff(self.norm2(tokens))
        return tokens.mT.unflatten(-1, x.shape[-2:])


class PanoramaBlock(nn.Module):
    """The block of panorama and outpainting weights (section 4.1 of the paper)."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.transformer = Transformer(width, operations, dtype, device)

    def forward(
        self, x: torch.Tensor, correspondences: Correspondences, bands: torch.Tensor, tables: Tables
    ) -> torch.Tensor:
        """(B, V, C, h, w) features of V views to the same, made consistent. `bands`: (N,) frequencies."""
        return self.transformer(x, correspondences, bands, tables)
