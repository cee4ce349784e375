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

    centred: x', less its mean. key, value: W_k (g x') and W_v (g x').
    """

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    def __getitem__(self, rows: slice) -> Projection:
        return Projection(self.centred[rows], self.key[rows], self.value[rows])


def joined(parts: list[Projection]) -> Projection:
    """One after the other."""
    tensors = ((part.centred, part.key, part.value) for part in parts)
    return Projection(*(torch.cat(each) for each in zip(*tensors, strict=True)))


def project(layer: nn.Module, norm: nn.Module, x: torch.Tensor) -> Projection:
    """The projection of (..., C) vectors by a layer with to_k and to_v, behind a LayerNorm; in the dtype of x.

    Only calls the layers as they are, so that LoRAs, paging and quantised weights work: W (g x') is
    spread(x) (W norm(x) - W norm(0)).
    """
    wide = x.to(accumulation_dtype(x.dtype))
    centred = wide - wide.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    normed, bias = norm(x), norm(x.new_zeros(1, x.shape[-1]))
    key, value = (spread * (linear(normed) - linear(bias)) for linear in (layer.to_k, layer.to_v))
    return Projection(centred.to(x.dtype), key.to(x.dtype), value.to(x.dtype))
