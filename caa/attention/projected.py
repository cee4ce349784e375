"""The parts of a key and of a value that are linear in what is read: projected once per pixel instead of per sample.

With the LayerNorm's gain g and bias b, a key input z has the key W_k (g z' / spread(z) + b), with z' = z less its mean
and spread(z) = sqrt(mean(z'^2) + eps). Reading is linear and the mean of a sum is the sum of the means, so the bilinear
sample of W_k (g x') over the pixels x around a point, plus W_k (g c') of the position code c, is W_k (g z') of the key
input z there. Only its spread needs z itself. docs/attention.md has it in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .memory import Memory
from .softmax import accumulation_dtype


class Projected(NamedTuple):
    """Vectors x, (..., C), pixels or position codes, as the fast attention reads them.

    centred: x', less its mean over C. key: W_k (g x'). value: W_v (g x').
    """

    centred: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True, eq=False)
class Layers:
    """Projects by a layer's to_k and to_v behind a LayerNorm, calling them as they are.

    So LoRAs, paging and quantised weights work: W (g x') is spread(x) (W norm(x) - W b).
    key, value: (1, C), W_k b and W_v b, what a sample that sees nothing has and every other one has, too.
    mark: (2, C) key and value of a vector of no meaning: other weights have others.
    """

    layer: Any
    norm: Any
    key: torch.Tensor
    value: torch.Tensor
    mark: torch.Tensor

    @staticmethod
    def of(layer: Any, norm: Any, like: torch.Tensor) -> Layers:
        """For vectors of the dtype and on the device of (..., C) `like`."""
        vectors = like.new_zeros(2, like.shape[-1])
        vectors[1] = torch.arange(like.shape[-1]).sin()
        normed = norm(vectors)
        (key, of_mark), (value, also) = layer.to_k(normed).split(1), layer.to_v(normed).split(1)
        return Layers(layer, norm, key, value, torch.cat((of_mark, also)))

    def project(self, x: torch.Tensor) -> Projected:
        """(..., C) vectors, in their dtype."""
        wide = x.to(accumulation_dtype(x.dtype))
        centred = wide - wide.mean(-1, keepdim=True)
        spread, normed = (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt(), self.norm(x)
        key = (self.layer.to_k(normed) - self.key) * spread
        value = (self.layer.to_v(normed) - self.value) * spread
        return Projected(centred.to(x.dtype), key.to(x.dtype), value.to(x.dtype))

    def weights(self, like: torch.Tensor) -> Weights:
        """What centred vectors would be multiplied by, for (..., C) `like`: what unit vectors become."""
        of_units = self.project(torch.eye(like.shape[-1], dtype=like.dtype, device=like.device))
        return Weights(of_units.key.mT, of_units.value.mT, self.value)

    def project_codes(self, codes: torch.Tensor, memory: Memory) -> Projected:
        """(n, S, C) codes less their means, as many at once as `memory` allows; their `centred` is `codes`."""
        if not len(codes):
            return Projected(codes, codes, codes)
        parts = [self.project(part) for part in codes.split(max(1, memory.piece_bytes // (4 * codes[0].numel())))]
        return Projected(codes, torch.cat([part.key for part in parts]), torch.cat([part.value for part in parts]))


class Weights(NamedTuple):
    """Projects by the weights themselves, with the LayerNorm's gain in them: half the memory, and gradients are cheap.

    to_key, to_value: (C, C). value: (1, C), W_v b.
    """

    to_key: torch.Tensor
    to_value: torch.Tensor
    value: torch.Tensor

    @staticmethod
    def of(layer: Any, norm: Any, dtype: torch.dtype) -> Weights:
        """Those of a layer with to_k and to_v behind a LayerNorm, for vectors of `dtype`."""
        to_key, to_value = ((projection.weight * norm.weight).to(dtype) for projection in (layer.to_k, layer.to_v))
        return Weights(to_key, to_value, F.linear(norm.bias[None], layer.to_v.weight).to(dtype))

    def project(self, x: torch.Tensor) -> Projected:
        """(..., C) vectors."""
        centred = (x - x.mean(-1, keepdim=True, dtype=accumulation_dtype(x.dtype))).to(self.to_key.dtype)
        return self.project_centred(centred)

    def matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What centred vectors are multiplied by, (C, C) each."""
        return self.to_key.mT, self.to_value.mT

    def project_centred(self, x: torch.Tensor) -> Projected:
        """(..., C) vectors, pixels or codes, less their means."""
        x = x.to(self.to_key.dtype)
        return Projected(x, F.linear(x, self.to_key), F.linear(x, self.to_value))
