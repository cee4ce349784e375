"""A softmax over keys that arrive piece by piece, and the heads that it is taken in."""

from __future__ import annotations

import torch
from einops import rearrange

HEAD = 32
SCALE = HEAD**-0.5


def split_heads(x: torch.Tensor) -> torch.Tensor:
    """(..., C) to (..., heads, 32)."""
    return rearrange(x, "... (heads c) -> ... heads c", c=HEAD)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of statistics and sums: fp32, or float64 where the features are."""
    return torch.promote_types(dtype, torch.float32)


class Softmax:
    """Highest logit, sum of weights and weighted sum of values of N queries, over the keys seen so far.

    highest, total: (N, heads). summed: (N, heads, 32). In fp32, or float64 where the features are.
    """

    def __init__(self, query: torch.Tensor, zeros: torch.Tensor | None = None) -> None:
        """For (N, heads, 32) queries, which have seen `zeros` (N,) keys of logit 0 and value 0; by default none."""
        dtype = accumulation_dtype(query.dtype)
        self.total = torch.zeros(query.shape[:-1], dtype=dtype, device=query.device)
        if zeros is not None:
            self.total += zeros[:, None]
        self.highest = torch.full_like(self.total, -torch.inf).masked_fill(self.total > 0, 0)
        self.summed = torch.zeros(query.shape, dtype=dtype, device=query.device)

    def weigh(self, queries: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights (m, S, heads) of S more keys of the distinct `queries` (m,), and how far what was seen before
        fades against them (m, heads): both are for `add`. Logits of -inf are keys that do not count."""
        before = self.highest[queries]
        highest = torch.maximum(before, logits.amax(1))
        fade = (before - highest).exp()
        weights = (logits - highest[:, None]).exp()
        self.highest[queries] = highest
        self.total[queries] = self.total[queries] * fade + weights.sum(1)
        return weights, fade

    def add(self, queries: torch.Tensor, fade: torch.Tensor, values: torch.Tensor) -> None:
        """The values (m, heads, 32) of more keys, summed by their weights."""
        self.summed[queries] = torch.addcmul(values, self.summed[queries], fade[..., None])

    def result(self) -> torch.Tensor:
        """(N, C) attended values."""
        return (self.summed / self.total[..., None]).flatten(1)
