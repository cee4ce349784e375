"""The published blocks as modules, with the published names of their parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention.fast import attend_fast
from .attention.memory import in_pieces
from .attention.passes import gated, summed, tokens_of
from .attention.plain import attend_plainly
from .attention.tables import Tables
from .condition import add_condition
from .weights.kinds import Kind, Widths


class Attention(nn.Module):
    """The published attention's four projections; `forward` is the attention over `Correspondences`."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.to_q = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_k = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_v = operations.Linear(width, width, bias=False, dtype=dtype, device=device)
        self.to_out = operations.Linear(width, width, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor, norm: nn.Module, tables: Tables, bands: torch.Tensor) -> torch.Tensor:
        """(B, V, h, w, C) features to the same, which the attention adds to them.

        `norm` is the block's LayerNorm: queries and keys share it. `bands` are the block's frequencies (N,).
        """
        query = self.to_q(norm(x + tables.query_code(bands, x)))
        attend = attend_plainly if tables.way == "plain" else attend_fast
        return self.to_out(attend(self, norm, x.flatten(0, 1), query.flatten(0, 3), tables, bands)).view_as(x)


class GatedProjection(nn.Module):
    """(N, C) to value * gelu(gate), 4 C wide, with the exact GELU."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.proj = operations.Linear(width, 8 * width, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor, way: str) -> torch.Tensor:
        return gated(self.proj(x), way)


class FeedForward(nn.Module):
    """The feed-forward layer; its second entry is the dropout of the training code."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        last = operations.Linear(4 * width, width, dtype=dtype, device=device)
        self.net = nn.Sequential(GatedProjection(width, operations, dtype, device), nn.Identity(), last)

    def forward(self, x: torch.Tensor, way: str) -> torch.Tensor:
        """(N, C) to the same; `way` as in `Tables`."""
        gate, _, last = self.net
        return last(gate(x, way))


class Transformer(nn.Module):
    """One CAA layer: attention over other views, then the feed-forward layer, both residual."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.attn1 = Attention(width, operations, dtype, device)
        self.ff = FeedForward(width, operations, dtype, device)
        self.norm1 = operations.LayerNorm(width, dtype=dtype, device=device)
        self.norm2 = operations.LayerNorm(width, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor, tables: Tables, bands: torch.Tensor) -> torch.Tensor:
        tokens, way = tokens_of(x, tables.way), tables.way
        attended = self.attn1(tokens, self.norm1, tables, bands)
        (fed,) = in_pieces(lambda part: [self.ff(self.norm2(part), way)], (tokens + attended).flatten(0, 3))
        return summed(x, tokens, attended, fed.view_as(tokens), way)


class PanoramaBlock(nn.Module):
    """The block of panorama and outpainting weights (section 4.1 of the paper)."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.transformer = Transformer(width, operations, dtype, device)

    def forward(self, x: torch.Tensor, tables: Tables, bands: torch.Tensor) -> torch.Tensor:
        """(B, V, C, h, w) features of V views to the same, made consistent. `bands`: (N,) frequencies."""
        return self.transformer(x, tables, bands)


class DepthBlock(nn.Module):
    """The block of depth weights: the attention block, then a residual block of two convolutions."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        self.attn1 = PanoramaBlock(width, operations, dtype, device)
        self.resnet = ResidualBlock(width, operations, dtype, device)

    def forward(self, x: torch.Tensor, tables: Tables, bands: torch.Tensor) -> torch.Tensor:
        """(B, V, C, h, w) features of V views to the same, made consistent. `bands`: (N,) frequencies."""
        y = self.attn1(x, tables, bands)
        return self.resnet(y.flatten(0, 1)).unflatten(0, x.shape[:2])


class ResidualBlock(nn.Module):
    """y + conv2(relu(bn2(conv1(relu(bn1(y)))))); its norms are GroupNorms, whatever their published names say."""

    def __init__(self, width: int, operations, dtype, device) -> None:
        super().__init__()
        place = {"dtype": dtype, "device": device}
        self.conv1 = operations.Conv2d(width, width, 3, padding=1, bias=False, **place)
        self.bn1 = operations.GroupNorm(32, width, eps=1e-5, **place)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1, bias=False, **place)
        self.bn2 = operations.GroupNorm(32, width, eps=1e-5, **place)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) to the same."""
        hidden = self.conv1(F.relu(self.bn1(y), inplace=True))
        return y + self.conv2(F.relu(self.bn2(hidden), inplace=True))


class CAA(nn.Module):
    """All blocks of one file, for one UNet, with the names that `CAAWeights.tensors` have.

    The frequencies of the position codes are plain attributes, not buffers: in half precision they would be infinite.
    """

    def __init__(
        self, kind: Kind, widths: Widths, frequencies: dict[str, torch.Tensor], operations, dtype=None, device=None
    ) -> None:
        super().__init__()
        self.kind, self.widths, self.frequencies = kind, widths, frequencies
        block = DepthBlock if kind.residual else PanoramaBlock
        make = [operations, dtype, device]
        self.encoder = nn.ModuleList(block(width, *make) for width in widths.encoder)
        self.mid = block(widths.mid, *make)
        self.decoder = nn.ModuleList(block(width, *make) for width in widths.decoder)
        if kind.condition:
            add_condition(self, widths, *make)

    def at_site(self, name: str) -> tuple[nn.Module, torch.Tensor] | None:
        """The block at a site of the UNet and its frequencies (N,); None where these weights have none."""
        block_name = "mid" if name == f"mid_{self.kind.middle}" else name
        if block_name not in self.frequencies:
            return None
        return self.get_submodule(block_name), self.frequencies[block_name]
