"""What lies between the matrix products of a block, as Triton kernels that pass over memory once; passes.py has torch's
way."""

# pyright: reportArgumentType=false, reportReturnType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl

TILE = 64  # pixels, and as many channels, that a program turns
ROWS = 4  # vectors that a program centres
NUMBERS = 1024  # results of a program that gates


@triton.jit
def tokens_kernel(maps, tokens, channels, size, tile: tl.constexpr):
    """tokens[n, pixel, c] = maps[n, c, pixel]."""
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)[None, :]
    channel = tl.program_id(1) * tile + tl.arange(0, tile)[:, None]
    first = tl.program_id(2).to(tl.int64) * channels * size
    mask = (pixel < size) & (channel < channels)
    turned = tl.load(maps + first + channel * size + pixel, mask=mask)
    tl.store(tokens + first + pixel * channels + channel, turned, mask=mask)


@triton.jit
def summed_kernel(tokens, attended, fed, maps, channels, size, tile: tl.constexpr):
    """maps[n, c, pixel] = the sum of the three at [n, pixel, c]."""
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)[None, :]
    channel = tl.program_id(1) * tile + tl.arange(0, tile)[:, None]
    first = tl.program_id(2).to(tl.int64) * channels * size
    mask = (pixel < size) & (channel < channels)
    at = first + pixel * channels + channel
    total = tl.load(tokens + at, mask=mask).to(tl.float32) + tl.load(attended + at, mask=mask).to(tl.float32)
    total += tl.load(fed + at, mask=mask).to(tl.float32)
    tl.store(maps + first + channel * size + pixel, total.to(maps.dtype.element_ty), mask=mask)


@triton.jit
def less_mean_kernel(vectors, centred, count, width: tl.constexpr, padded: tl.constexpr, rows: tl.constexpr):
    """centred[n] = vectors[n] less its mean."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.arange(0, padded)
    mask = (row < count)[:, None] & (channel < width)[None, :]
    at = row.to(tl.int64)[:, None] * width + channel[None, :]
    vector = tl.load(vectors + at, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(vector, 1) / width
    tl.store(centred + at, (vector - mean[:, None]).to(centred.dtype.element_ty), mask=mask)


@triton.jit
def gated_kernel(both, passed, count, width: tl.constexpr, block: tl.constexpr):
    """passed[n, c] = both[n, c] * gelu(both[n, width + c]), with the exact GELU."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = at < count
    value_at = at + (at // width) * width
    value = tl.load(both + value_at, mask=mask).to(tl.float32)
    gate = tl.load(both + value_at + width, mask=mask).to(tl.float32)
    result = value * gate * 0.5 * (1 + tl.erf(gate * 0.7071067811865476))
    tl.store(passed + at, result.to(passed.dtype.element_ty), mask=mask)


def tokens_of(x: torch.Tensor) -> torch.Tensor:
    """passes.tokens_of, of contiguous maps."""
    panoramas, views, channels, height, width = x.shape
    tokens = x.new_empty(panoramas, views, height, width, channels)
    tokens_kernel[_tiles(x)](x, tokens, channels, height * width, tile=TILE)
    return tokens


def summed(x: torch.Tensor, tokens: torch.Tensor, attended: torch.Tensor, fed: torch.Tensor) -> torch.Tensor:
    """passes.summed, of contiguous maps and tokens."""
    maps = torch.empty_like(x)
    summed_kernel[_tiles(x)](tokens, attended, fed, maps, x.shape[2], x.shape[3] * x.shape[4], tile=TILE)
    return maps


def centred(x: torch.Tensor) -> torch.Tensor:
    """passes.centred, of contiguous vectors."""
    count, width = x.shape
    result, padded = torch.empty_like(x), triton.next_power_of_2(width)
    less_mean_kernel[(triton.cdiv(count, ROWS),)](x, result, count, width=width, padded=padded, rows=ROWS)
    return result


def gated(both: torch.Tensor) -> torch.Tensor:
    """passes.gated, of contiguous vectors."""
    width = both.shape[1] // 2
    passed = both.new_empty(len(both), width)
    gated_kernel[(triton.cdiv(passed.numel(), NUMBERS),)](both, passed, passed.numel(), width=width, block=NUMBERS)
    return passed


def _tiles(x: torch.Tensor) -> tuple[int, int, int]:
    panoramas, views, channels, height, width = x.shape
    return triton.cdiv(height * width, TILE), triton.cdiv(channels, TILE), panoramas * views
