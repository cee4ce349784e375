"""The demo model's text encoder as it is trained: the host's computation over a table of the words in use.

The host reads the second last of its layers (as SD 2 does), so the last one is not trained and not kept: whoever loads
the weights fills it with zeros. Tokens outside of the table have one row, which training makes mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import torch
import torch.nn.functional as F
from torch import nn

from .fused import attend

LENGTH = 77
START, END, PADDING = 49406, 49407, 0
UNKNOWN = 0  # the table's first row
REPLACED, INSERTED = 0.03, 0.03  # shares of tokens in training


class Words:
    """Which row of the token table a token of the host's tokenizer has.

    tokens: the tokens of the rows from 1 on, ascending.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self.tokens = sorted({START, END, PADDING, *tokens})
        self._rows = {token: row for row, token in enumerate(self.tokens, 1)}

    def __len__(self) -> int:
        return 1 + len(self.tokens)

    def rows(self, tokens: Iterable[int]) -> list[int]:
        return [self._rows.get(token, UNKNOWN) for token in tokens]


class TextEncoder(nn.Module):
    """The host's CLIP text model up to the layer that is read, its parameters under the host's names."""

    def __init__(self, words: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embeddings = nn.ModuleDict(
            {"token_embedding": nn.Embedding(words, width), "position_embedding": nn.Embedding(LENGTH, width)}
        )
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_Layer(width) for _ in range(layers))})
        self.final_layer_norm = nn.LayerNorm(width)
        nn.init.normal_(self.embeddings["position_embedding"].weight, std=0.1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, 77, width) that the UNet attends to, of (N, 77) int64 rows of the token table."""
        x = self.embeddings["token_embedding"](rows) + self.embeddings["position_embedding"].weight
        for layer in self.encoder["layers"]:
            x = layer(x, self.heads)
        return self.final_layer_norm(x)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        y = self.layer_norm1(x)
        query, key, value = (self.self_attn[name](y) for name in ("q_proj", "k_proj", "v_proj"))
        x = x + self.self_attn["out_proj"](attend(query, key, value, heads, causal=True))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x))))


def with_strangers(rows: torch.Tensor, end: int, random: torch.Generator) -> torch.Tensor:
    """(N, 77) rows in which some words are replaced by the unknown one, and some unknown ones come in between.

    end: the row of the end token. Start, end and padding stay what they are.
    """
    rows = rows.clone()
    places = torch.arange(LENGTH)
    ends = (rows == end).int().argmax(1, keepdim=True)
    inside = (places > 0) & (places < ends)
    rows[inside & (torch.rand(rows.shape, generator=random) < REPLACED)] = UNKNOWN
    for row, last in zip(rows, ends[:, 0].tolist(), strict=True):
        if last < LENGTH - 1 and torch.rand((), generator=random).item() < INSERTED * last:
            at = 1 + int(torch.rand((), generator=random).item() * last)
            row[at + 1 : last + 2] = row[at : last + 1].clone()
            row[at] = UNKNOWN
    return rows


def shortened(caption: str, random: Random) -> str:
    """A caption that leaves out some of what one sees, in another order: people ask for less than a view shows."""
    things, surfaces = _parts(caption)
    kept = random.sample(things, random.randint(min(1, len(things)), len(things)))
    surfaces = [surface for surface in surfaces if random.random() < 0.6]
    listed = " and ".join(filter(None, [", ".join(kept[:-1]), kept[-1] if kept else ""]))
    return ", ".join(["a room" + (f" with {listed}" if listed else ""), *surfaces])


def _parts(caption: str) -> tuple[list[str], list[str]]:
    """Things and surfaces: 'a room with a red sofa and two green chairs, blue walls' has two and one."""
    head = "a room with "
    if not caption.startswith(head):
        return [], caption.split(", ")[1:]
    parts = caption.removeprefix(head).replace(" and ", ", ").split(", ")
    counts = {"a", "an", "two", "three", "four", "several"}
    things = [part for part in parts if part.split(" ")[0] in counts]
    return things, [part for part in parts if part not in things]
