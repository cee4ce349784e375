"""The parts of a key and of a value that are linear in what is read: projected once per pixel instead of per sample.

With the LayerNorm's gain g and bias b, a key input z has the key W_k (g z' / spread(z) + b), with z' = z less its mean
and spread(z) = sqrt(mean(z'^2) + eps). Reading is linear and the mean of a sum is the sum of the means, so the bilinear
sample of W_k (g x') over the pixels x around a point, plus W_k (g c') of the position code c, is W_k (g z') of the key
input z there. Only its spread needs z itself. docs/attention.md has it in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from .memory import Memory, nbytes, on_cpu
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

    So LoRAs, paging and quantised weights work: W (g x') is spread(x) (W norm(x) - W b). What they make of unit vectors
    are `weights`, of which the same holds.
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


class LayerWeights:
    """The `Weights` of layers, once for all that project by them: windows have cameras of their own, and one UNet.

    They are there as plain tensors, even where the host pages the layers.
    """

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Any, dict[tuple, tuple[torch.Tensor, Weights]]] = WeakKeyDictionary()

    @torch.no_grad()
    def of(self, layers: Layers, like: torch.Tensor) -> Weights:
        """In the dtype and on the device of (..., C) `like`; made again where the layers have become others."""
        items, key = self._made.setdefault(layers.layer, {}), (like.dtype, like.device)
        mark, weights = items.get(key, (None, None))
        if mark is None or weights is None or not torch.equal(mark, layers.mark):
            weights = Weights(*normal(layers.weights(like)))
            items[key] = layers.mark, weights
        return weights

    def rest(self, left: int) -> int:
        """Ends a run: gives back what is on a card, or what would take more than `left` bytes; returns what stays."""
        taken = 0
        for items in self._made.values():
            for key, (_, weights) in list(items.items()):
                if on_cpu(weights) and taken + nbytes(weights) <= left:
                    taken += nbytes(weights)
                else:
                    del items[key]
        return taken


def by_products(device: torch.device) -> bool:
    """Whether keys and values are products with `Weights` there: a card minds each pass over memory, and a
    processor what it takes to make these weights."""
    return device.type != "cpu"


def normal(tensors: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The same that gradients may flow by, though inference mode made them."""
    with torch.inference_mode(False), torch.no_grad():
        return tuple(tensor.clone() if tensor.is_inference() else tensor for tensor in tensors)
