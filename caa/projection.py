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
class Codes:
    """Position codes c, (n, S, C): centred, c' less its mean; key, W_k (g c'); value, W_v (g c')."""

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @staticmethod
    def of(centred: torch.Tensor, projections: list[Projection]) -> Codes:
        """Codes (n, S, C) less their means, with the projections of all parts of them."""
        keys = [projection.read.chunk(2, dim=-1)[1] for projection in projections]
        return Codes(centred, torch.cat(keys), torch.cat([projection.value for projection in projections]))

    def __getitem__(self, rows: slice) -> Codes:
        return Codes(self.centred[rows], self.key[rows], self.value[rows])


def project(layer: nn.Module, norm: nn.Module, x: torch.Tensor) -> Projection:
    """The projection of (..., C) vectors by a layer with to_k and to_v, behind a LayerNorm; in the dtype of x.

    Only calls the layers as they are, so that LoRAs, paging and quantised weights work: W (g x') is
    spread(x) (W norm(x) - W norm(0)).
    """
    variance, mean = torch.var_mean(x.to(accumulation_dtype(x.dtype)), dim=-1, correction=0, keepdim=True)
    spread = (variance + norm.eps).sqrt()
    normed, bias = norm(x), norm(x.new_zeros(1, x.shape[-1]))
    read = x.new_empty(*x.shape[:-1], 2 * x.shape[-1])
    centred, key = read.chunk(2, dim=-1)
    torch.sub(x, mean, out=centred)
    torch.mul(layer.to_k(normed).sub_(layer.to_k(bias)), spread, out=key)
    return Projection(read, layer.to_v(normed).sub_(layer.to_v(bias)).mul_(spread))
