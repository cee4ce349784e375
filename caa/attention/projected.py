"""The parts of a key and of a value that are linear in what is read: projected once per pixel instead of per sample.

With the LayerNorm's gain g and bias b, a key input z has the key W_k (g z' / spread(z) + b), with z' = z less its mean
and spread(z) = sqrt(mean(z'^2) + eps). Reading is linear and the mean of a sum is the sum of the means, so the bilinear
sample of W_k (g x') over the pixels x around a point, plus W_k (g c') of the position code c, is W_k (g z') of the key
input z there. Only its spread needs z itself. docs/attention.md has it in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .softmax import accumulation_dtype


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors x, (..., C), as the fast attention needs them.

    read: (..., 2 C), x' and behind it W_k (g x'), which are read together. value: (..., C), W_v (g x').
    """

    read: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, eq=False)
class Bias:
    """What a sample that sees nothing has, and every other one too: key, W_k b, and value, W_v b, both (1, C)."""

    key: torch.Tensor
    value: torch.Tensor

    @staticmethod
    def of(layer: nn.Module, norm: nn.Module, like: torch.Tensor) -> Bias:
        """Those of a layer with to_k and to_v behind a LayerNorm, in the dtype and on the device of (..., C) `like`."""
        normed = norm(like.new_zeros(1, like.shape[-1]))
        return Bias(layer.to_k(normed), layer.to_v(normed))


def project(layer: nn.Module, norm: nn.Module, bias: Bias, x: torch.Tensor) -> Projection:
    """The projection of (..., C) vectors by a layer with to_k and to_v, behind a LayerNorm; in the dtype of x.

    Only calls the layers as they are, so that LoRAs, paging and quantised weights work: W (g x') is
    spread(x) (W norm(x) - W b).
    """
    variance, mean = torch.var_mean(x.to(accumulation_dtype(x.dtype)), dim=-1, correction=0, keepdim=True)
    spread = (variance + norm.eps).sqrt()
    normed, read = norm(x), x.new_empty(*x.shape[:-1], 2 * x.shape[-1])
    centred, key = read.chunk(2, dim=-1)
    centred.copy_(x - mean)
    key.copy_((layer.to_k(normed) - bias.key) * spread)
    return Projection(read, ((layer.to_v(normed) - bias.value) * spread).to(x.dtype))


@dataclass(frozen=True, eq=False)
class Codes:
    """Position codes c, (n, S, C): centred, c' less its mean; key, W_k (g c'); value, W_v (g c')."""

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @staticmethod
    def of(layer: nn.Module, norm: nn.Module, bias: Bias, centred: torch.Tensor, at_once: int = 2**62) -> Codes:
        """Projects (n, S, C) codes less their means, `at_once` rows at a time."""
        parts = [project(layer, norm, bias, part) for part in centred.split(at_once)]
        keys = torch.cat([part.read.chunk(2, dim=-1)[1] for part in parts])
        return Codes(centred, keys, torch.cat([part.value for part in parts]))

    def __getitem__(self, rows: slice) -> Codes:
        return Codes(self.centred[rows], self.key[rows], self.value[rows])
