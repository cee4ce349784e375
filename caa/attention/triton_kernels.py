"""The fast attention as two Triton kernels: `scales` finds the spread of every sample, `attend` does the rest.

The kernels walk through `Reads`: for a block of queries, through the entries of each; for each entry, through its S
samples; for each sample, through its four pixels. Sums are fp32. What sets the bounds of loops is a constant of the
program: a handful of programs serve a model. triton_gradients.py has the way back.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from .projected import Projected
from .reads import Reads
from .softmax import HEAD, SCALE

QUERIES = 16  # queries per program
CHUNK = 64  # channels per step of a sum over all
# Of `attend_kernel`, as an H100 likes it best: queries and, where their number is even, heads per program; its warps.
FEW, HEADS, WARPS = 8, 2, 2


@triton.jit
def first_row(entry_views, place, some, view, views, size):
    """(block,) where the key views of entries at `place` begin among the rows of maps; any where not `some`."""
    key_view = tl.load(entry_views + place, mask=some, other=0) + (view // views) * views
    return key_view.to(tl.int64) * size


@triton.jit
def row_part(rows, row, channel, mask, width: tl.constexpr):
    """(block, channels) some channels of some rows; 0 outside of `mask`."""
    return tl.load(rows + row[:, None] * width + channel[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def read(maps, codes, pixels, weights, first, at, seen, channel, width: tl.constexpr):
    """(block, channels) what samples `at` are of maps whose key view begins at row `first`; 0 where not `seen`."""
    mask = seen[:, None] & (channel < width)[None, :]
    z = row_part(codes, at, channel, mask, width)
    for tap in range(4):
        pixel = first + tl.load(pixels + at * 4 + tap, mask=seen, other=0)
        weight = tl.load(weights + at * 4 + tap, mask=seen, other=0.0)
        z += weight[:, None] * row_part(maps, pixel, channel, mask, width)
    return z


@triton.jit
def read_both(keys, values, code_keys, code_values, pixels, weights, first, at, seen, channel, width: tl.constexpr):
    """`read` of keys and of values."""
    mask = seen[:, None] & (channel < width)[None, :]
    key, value = row_part(code_keys, at, channel, mask, width), row_part(code_values, at, channel, mask, width)
    for tap in range(4):
        pixel = first + tl.load(pixels + at * 4 + tap, mask=seen, other=0)
        weight = tl.load(weights + at * 4 + tap, mask=seen, other=0.0)[:, None]
        key += weight * row_part(keys, pixel, channel, mask, width)
        value += weight * row_part(values, pixel, channel, mask, width)
    return key, value


@triton.jit
def scales_kernel(
    maps, codes, pixels, weights, entry_rows, entry_views, scales,
    size, views, eps,
    width: tl.constexpr, entries: tl.constexpr, samples: tl.constexpr, block: tl.constexpr, chunk: tl.constexpr,
):  # fmt: skip
    """scales[b, v, query, entry, sample] = 1 / sqrt(mean over C of (read + code)^2 + eps)."""
    query = tl.program_id(0) * block + tl.arange(0, block)
    view = tl.program_id(1)
    entry = tl.program_id(2) // samples
    sample = tl.program_id(2) % samples
    inside = query < size
    place = ((view % views) * size + query) * entries + entry
    row = tl.load(entry_rows + place, mask=inside, other=-1)
    some = row >= 0
    if tl.max(row, 0) >= 0:
        first = first_row(entry_views, place, some, view, views, size)
        at = row.to(tl.int64) * samples + sample
        total = tl.zeros([block, chunk], tl.float32)
        for start in range(0, width, chunk):
            z = read(maps, codes, pixels, weights, first, at, some, start + tl.arange(0, chunk), width)
            total += z * z
        out = ((view.to(tl.int64) * size + query) * entries + entry) * samples + sample
        tl.store(scales + out, 1 / tl.sqrt(tl.sum(total, 1) / width + eps), mask=some)


@triton.jit
def attend_kernel(
    queries, keys, values, code_keys, code_values, pixels, weights, valid, unseen, entry_rows, entry_views, scales,
    attended, levels, size, views, logit_scale,
    width: tl.constexpr, entries: tl.constexpr, samples: tl.constexpr, block: tl.constexpr, head: tl.constexpr,
    heads: tl.constexpr,
):  # fmt: skip
    """attended[b, v, query, head] = the softmax over all valid samples and `unseen` keys of logit and value 0.

    levels[b, v, query, head]: the logarithm of the sum of the exponentials. A program has `heads` heads.
    """
    query = tl.program_id(0) * block + tl.arange(0, block)
    view = tl.program_id(1)
    number = tl.program_id(2) * heads + tl.arange(0, heads)
    channel = tl.program_id(2) * heads * head + tl.arange(0, heads * head)
    inside = query < size
    place = (view % views) * size + query
    here = view.to(tl.int64) * size + query
    q = row_part(queries, here, channel, inside[:, None], width) * logit_scale
    total = tl.broadcast_to(tl.load(unseen + place, mask=inside, other=1.0)[:, None], [block, heads])
    highest = tl.where(total > 0, 0.0, -1e30)
    summed = tl.zeros([block, heads, head], tl.float32)
    for entry in range(entries):
        row = tl.load(entry_rows + place * entries + entry, mask=inside, other=-1)
        some = row >= 0
        if tl.max(row, 0) >= 0:
            first = first_row(entry_views, place * entries + entry, some, view, views, size)
            for sample in range(samples):
                at = row.to(tl.int64) * samples + sample
                seen = some & (tl.load(valid + at, mask=some, other=0) != 0)
                key, value = read_both(
                    keys, values, code_keys, code_values, pixels, weights, first, at, seen, channel, width
                )
                scale = tl.load(scales + (here * entries + entry) * samples + sample, mask=seen, other=0.0)[:, None]
                product = tl.sum(tl.reshape(q * key, [block, heads, head]), 2)
                logit = tl.where(seen[:, None], product * scale, -1e30)
                higher = tl.maximum(highest, logit)
                fade = tl.exp(highest - higher)
                share = tl.where(seen[:, None], tl.exp(logit - higher), 0.0)
                total = total * fade + share
                own = (share * scale)[:, :, None] * tl.reshape(value, [block, heads, head])
                summed = summed * fade[:, :, None] + own
                highest = higher
    result = tl.reshape(summed / total[:, :, None], [block, heads * head])
    target = attended + here[:, None] * width + channel[None, :]
    tl.store(target, result.to(attended.dtype.element_ty), mask=inside[:, None])
    target = levels + here[:, None] * (width // head) + number[None, :]
    tl.store(target, highest + tl.log(total), mask=inside[:, None])


def heads_of(width: int) -> int:
    """The heads of one program of `attend_kernel`."""
    return HEADS if width % (HEADS * HEAD) == 0 else 1


class Attended(NamedTuple):
    """values: (N, C), less W_v b, in the queries' dtype. scales: (N, E, S) 1 / spread of samples, where there are any.
    levels: (N, heads), see headwise.Statistics. The last two are fp32."""

    values: torch.Tensor
    scales: torch.Tensor
    levels: torch.Tensor


def attend(query: torch.Tensor, pixels: Projected, codes: Projected, reads: Reads, eps: float) -> Attended:
    """What (N, C) queries attend to, N = B V h w, over projected pixels (N, C) and codes (R, S, C)."""
    width, samples, entries = query.shape[1], reads.pixel.shape[1], reads.entry_row.shape[1]
    size = len(reads.unseen) // reads.views
    views = len(query) // size
    blocks = triton.cdiv(size, QUERIES)
    scales = torch.empty((len(query), entries, samples), dtype=torch.float32, device=query.device)
    valid = reads.valid.view(torch.uint8)
    walked = reads.entry_row, reads.entry_view
    scales_kernel[blocks, views, entries * samples](
        pixels.centred, codes.centred, reads.pixel, reads.weight, *walked, scales,
        size, reads.views, eps, width=width, entries=entries, samples=samples, block=QUERIES, chunk=CHUNK,
    )  # fmt: skip
    attended, number = torch.empty_like(query), width // HEAD
    levels = torch.empty((len(query), number), dtype=torch.float32, device=query.device)
    heads = heads_of(width)
    attend_kernel[triton.cdiv(size, FEW), views, number // heads](
        query, pixels.key, pixels.value, codes.key, codes.value, reads.pixel, reads.weight, valid, reads.unseen,
        *walked, scales, attended, levels, size, reads.views, SCALE,
        width=width, entries=entries, samples=samples, block=FEW, head=HEAD, heads=heads, num_warps=WARPS,
    )  # fmt: skip
    return Attended(attended, scales, levels)
