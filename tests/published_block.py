"""The published block, written directly from its description: what both ways of attending are measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mvdiffusion_pack.caa.attention.codes import code_of_zero, position_code
from mvdiffusion_pack.caa.blocks import DepthBlock, PanoramaBlock
from mvdiffusion_pack.geometry.correspondence import Correspondences


def published_block(
    block: PanoramaBlock | DepthBlock, x: torch.Tensor, corr: Correspondences, bands: torch.Tensor
) -> torch.Tensor:
    """All keys of a query at once, integer taps, one softmax, view by view; codes anew. x: (V, C, h, w)."""
    if isinstance(block, DepthBlock):
        return block.resnet(published_block(block.attn1, x, corr, bands))
    layer = block.transformer
    views, channels, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    result = torch.empty_like(x)
    for view in range(views):
        keys, queries = [], []
        for pair in (pair for pair in corr.pairs if pair.query_view == view):
            table = corr.table_of(pair)
            low = table.coords.floor()
            fraction, low = (table.coords - low).to(x), low.to(x.device)
            read = x.new_zeros((*table.valid.shape, channels))
            for dx in (0, 1):
                for dy in (0, 1):
                    column = (low[..., 0] + dx + 1).clamp(0, width + 1).long()
                    row = (low[..., 1] + dy + 1).clamp(0, height + 1).long()
                    weight = (fraction[..., 0] if dx else 1 - fraction[..., 0]) * (
                        fraction[..., 1] if dy else 1 - fraction[..., 1]
                    )
                    read = read + padded[pair.key_view, row, column] * weight[..., None]
            cosines = None if table.cosines is None else table.cosines.to(x.device)
            code = position_code(table.code.to(x.device), bands.to(x.device), cosines).to(x)
            valid = table.valid.to(x.device)
            keys.append((read + code) * valid[..., None])
            queries.append(table.query.to(x.device))
        by_query = torch.cat(queries).argsort(stable=True)
        keys = layer.norm1(torch.cat(keys)[by_query].reshape(height * width, -1, channels))
        tokens = x[view].flatten(1).T
        split = (-1, channels // 32, 32)
        query = layer.attn1.to_q(layer.norm1(tokens + code_of_zero(bands)[:channels].to(x))).unflatten(-1, split[1:])
        key, value = (p(keys).unflatten(-1, split[1:]) for p in (layer.attn1.to_k, layer.attn1.to_v))
        weights = (torch.einsum("nhc,nshc->nsh", query, key) / 32**0.5).softmax(1)
        tokens = tokens + layer.attn1.to_out(torch.einsum("nsh,nshc->nhc", weights, value).flatten(1))
        gated, gate = layer.ff.net[0].proj(layer.norm2(tokens)).chunk(2, -1)
        gelu = gate * 0.5 * (1 + torch.erf(gate / 2**0.5))
        result[view] = (tokens + layer.ff.net[2](gated * gelu)).T.unflatten(-1, (height, width))
    return result
