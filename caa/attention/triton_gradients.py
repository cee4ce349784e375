"""The gradients of the fast attention as four Triton kernels, by the formulas of docs/attention.md.

`shares` finds by how much each sample counts in each gradient. The rest are sums of rows by these numbers: `queries`
sums what a query reads, `sources` and `centred` what pixels and codes are read by. Each sum is one program's, in one
order, so that a training is the same each time; atomic additions would come in any.
"""

# pyright: reportArgumentType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from .checking import GradientsCheck, program_of
from .projected import Projected
from .reads import Readers, Reads
from .softmax import HEAD, SCALE
from .triton_kernels import CHUNK, QUERIES, Attended, attend, first_row, read, read_both, row_part


@triton.jit
def shares_kernel(
    queries, gradients, keys, values, code_keys, code_values, pixels, weights, valid, entry_rows, entry_views,
    scales, levels, means, of_keys, of_values, of_spreads, size, views, logit_scale,
    width: tl.constexpr, entries: tl.constexpr, samples: tl.constexpr, block: tl.constexpr, head: tl.constexpr,
):  # fmt: skip
    """How each sample counts: of_keys and of_values[b, v, query, entry, sample, head], of_spreads[..., sample].

    means[b, v, query, head]: the product of gradient and result.
    """
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
        seen = some & (tl.load(valid + at, mask=some, other=0) != 0)
        here = view.to(tl.int64) * size + query
        out = (here * entries + entry) * samples + sample
        scale = tl.load(scales + out, mask=seen, other=0.0)
        of_scale = tl.zeros([block], tl.float32)
        for number in range(width // head):
            channel = number * head + tl.arange(0, head)
            q = row_part(queries, here, channel, seen[:, None], width)
            gradient = row_part(gradients, here, channel, seen[:, None], width)
            key, value = read_both(
                keys, values, code_keys, code_values, pixels, weights, first, at, seen, channel, width
            )
            level = tl.load(levels + here * (width // head) + number, mask=seen, other=0.0)
            mean = tl.load(means + here * (width // head) + number, mask=seen, other=0.0)
            logit = tl.sum(q * key, 1) * scale * logit_scale
            share = tl.where(seen, tl.exp(logit - level), 0.0)
            along = tl.sum(gradient * value, 1) * scale
            of_logit = share * (along - mean)
            of_scale += of_logit * logit + share * along
            tl.store(of_keys + out * (width // head) + number, of_logit * scale * logit_scale, mask=some)
            tl.store(of_values + out * (width // head) + number, share * scale, mask=some)
        # The scale falls with z: d scale = -scale^3 z dz / C; of_scale has one factor of it already.
        tl.store(of_spreads + out, -of_scale * scale * scale / width, mask=some)


@triton.jit
def queries_kernel(
    keys, code_keys, pixels, weights, valid, entry_rows, entry_views, of_keys, of_queries, size, views,
    width: tl.constexpr, entries: tl.constexpr, samples: tl.constexpr, block: tl.constexpr, head: tl.constexpr,
):  # fmt: skip
    """of_queries[b, v, query, head] = the sum of its samples' keys by `of_keys`."""
    query = tl.program_id(0) * block + tl.arange(0, block)
    view = tl.program_id(1)
    number = tl.program_id(2)
    channel = number * head + tl.arange(0, head)
    inside = query < size
    place = (view % views) * size + query
    here = view.to(tl.int64) * size + query
    summed = tl.zeros([block, head], tl.float32)
    for entry in range(entries):
        row = tl.load(entry_rows + place * entries + entry, mask=inside, other=-1)
        some = row >= 0
        if tl.max(row, 0) >= 0:
            first = first_row(entry_views, place * entries + entry, some, view, views, size)
            for sample in range(samples):
                at = row.to(tl.int64) * samples + sample
                seen = some & (tl.load(valid + at, mask=some, other=0) != 0)
                out = (here * entries + entry) * samples + sample
                of_key = tl.load(of_keys + out * (width // head) + number, mask=seen, other=0.0)
                summed += of_key[:, None] * read(keys, code_keys, pixels, weights, first, at, seen, channel, width)
    target = of_queries + here[:, None] * width + channel[None, :]
    tl.store(target, summed.to(of_queries.dtype.element_ty), mask=inside[:, None])


@triton.jit
def sources_kernel(
    queries, gradients, of_keys, of_values, ends, readers, reader_weights, key_sums, value_sums,
    sources, asked, together,
    width: tl.constexpr, readings: tl.constexpr, block: tl.constexpr, head: tl.constexpr,
):  # fmt: skip
    """key_sums and value_sums[group, source, head] = the sums of queries and of gradients over the samples that read
    the source, in the `together` panoramas of a group. `asked` queries in a panorama have `readings` samples each."""
    source = tl.program_id(0) * block + tl.arange(0, block)
    group = tl.program_id(1)
    number = tl.program_id(2)
    channel = number * head + tl.arange(0, head)
    inside = source < sources
    term = tl.load(ends + source, mask=inside, other=0)
    stop = tl.load(ends + source + 1, mask=inside, other=0)
    key_sum = tl.zeros([block, head], tl.float32)
    value_sum = tl.zeros([block, head], tl.float32)
    left = tl.max(stop - term, 0)
    while left > 0:
        more = term < stop
        reader = tl.load(readers + term, mask=more, other=0)
        weight = tl.load(reader_weights + term, mask=more, other=0.0)
        panorama = group * together
        while panorama < (group + 1) * together:
            first = panorama.to(tl.int64) * asked
            asker = first + reader // readings
            out = (first * readings + reader) * (width // head) + number
            of_key = weight * tl.load(of_keys + out, mask=more, other=0.0)
            of_value = weight * tl.load(of_values + out, mask=more, other=0.0)
            key_sum += of_key[:, None] * row_part(queries, asker, channel, more[:, None], width)
            value_sum += of_value[:, None] * row_part(gradients, asker, channel, more[:, None], width)
            panorama += 1
        term += 1
        left -= 1
    target = (group.to(tl.int64) * sources + source)[:, None] * width + channel[None, :]
    tl.store(key_sums + target, key_sum.to(key_sums.dtype.element_ty), mask=inside[:, None])
    tl.store(value_sums + target, value_sum.to(value_sums.dtype.element_ty), mask=inside[:, None])


@triton.jit
def centred_kernel(
    maps, codes, pixels, weights, entry_rows, of_spreads, ends, readers, reader_weights, sums,
    size, views,
    width: tl.constexpr, entries: tl.constexpr, samples: tl.constexpr, block: tl.constexpr, chunk: tl.constexpr,
):  # fmt: skip
    """sums[b, v, pixel] = the sum of the samples that read the pixel, by `of_spreads`. They are read anew here: to keep
    them would take more memory than all else."""
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    view = tl.program_id(1)
    channel = tl.program_id(2) * chunk + tl.arange(0, chunk)
    inside = pixel < size
    source = (view % views) * size + pixel
    term = tl.load(ends + source, mask=inside, other=0)
    stop = tl.load(ends + source + 1, mask=inside, other=0)
    asked = (view // views).to(tl.int64) * views * size
    here = view.to(tl.int64) * size
    summed = tl.zeros([block, chunk], tl.float32)
    left = tl.max(stop - term, 0)
    while left > 0:
        more = term < stop
        reader = tl.load(readers + term, mask=more, other=0)
        weight = tl.load(reader_weights + term, mask=more, other=0.0)
        of_spread = weight * tl.load(of_spreads + asked * entries * samples + reader, mask=more, other=0.0)
        row = tl.load(entry_rows + reader // samples, mask=more, other=0)
        at = row.to(tl.int64) * samples + reader % samples
        summed += of_spread[:, None] * read(maps, codes, pixels, weights, here, at, more, channel, width)
        term += 1
        left -= 1
    target = sums + (here + pixel)[:, None] * width + channel[None, :]
    mask = inside[:, None] & (channel < width)[None, :]
    tl.store(target, summed.to(sums.dtype.element_ty), mask=mask)


def attend_differentiably(
    query: torch.Tensor, pixels: Projected, codes: Projected, reads: Reads, eps: float
) -> torch.Tensor:
    """(N, C) attended values less W_v b of (N, C) queries, N = B V h w, over projected pixels (N, C) and codes."""
    if not torch.is_grad_enabled():
        return attend(query, pixels, codes, reads, eps).values
    return _Attention.apply(*pixels, *codes, query, reads, eps)


_rehearsed: set[tuple] = set()


class _Attention(torch.autograd.Function):
    """Kept for the gradients are what is given, the result, its levels, and of each sample the scale alone."""

    @staticmethod
    def forward(ctx, *arguments):
        *maps, query, reads, eps = arguments
        pixels, codes = Projected(*maps[:3]), Projected(*maps[3:])
        attended = attend(query, pixels, codes, reads, eps)
        program = program_of(query, reads)
        # What fails does so at once: compiled.py can go on without kernels here, backward could not.
        if any(ctx.needs_input_grad) and program not in _rehearsed and _rehearse(*arguments, attended):
            _rehearsed.add(program)
        ctx.reads = reads
        ctx.save_for_backward(*maps, query, *attended)
        return attended.values

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        *maps, query, values, scales, levels = ctx.saved_tensors
        pixels, codes, attended = Projected(*maps[:3]), Projected(*maps[3:]), Attended(values, scales, levels)
        codes_learn = any(ctx.needs_input_grad[3:6])
        return *gradients(query, pixels, codes, ctx.reads, attended, gradient.contiguous(), codes_learn), None, None


def _rehearse(*arguments) -> bool:
    """Makes gradients and compares a few of them with torch's; returns and raises as checking.check does."""
    *maps, query, reads, eps, attended = arguments
    pixels, codes = Projected(*maps[:3]), Projected(*maps[3:])
    expected = GradientsCheck(query, pixels, codes, reads, eps)
    attended = attended._replace(values=expected.attended)
    return expected.compare(gradients(query, pixels, codes, reads, attended, expected.gradient, codes_learn=True))


def gradients(
    query: torch.Tensor,
    pixels: Projected,
    codes: Projected,
    reads: Reads,
    attended: Attended,
    gradient: torch.Tensor,
    codes_learn: bool,
) -> tuple[torch.Tensor | None, ...]:
    """Those of pixels, of codes' keys and values if these learn, and of queries, for the (N, C) gradient of the result.

    In the order of arguments: (centred, key, value) of pixels, of codes, query.
    """
    width, samples, entries = query.shape[1], reads.pixel.shape[1], reads.entry_row.shape[1]
    heads, queries = width // HEAD, len(reads.unseen)
    size, panoramas = queries // reads.views, len(query) // queries
    views, blocks = panoramas * reads.views, triton.cdiv(size, QUERIES)
    walk = {"width": width, "entries": entries, "samples": samples, "block": QUERIES}
    tables = reads.pixel, reads.weight, reads.valid.view(torch.uint8), reads.entry_row, reads.entry_view
    means = (gradient.float() * attended.values).unflatten(1, (heads, HEAD)).sum(-1)
    of_keys = means.new_empty(len(query), entries, samples, heads)
    of_values, of_spreads = torch.empty_like(of_keys), torch.empty_like(attended.scales)
    shares_kernel[blocks, views, entries * samples](
        query, gradient, pixels.key, pixels.value, codes.key, codes.value, *tables,
        attended.scales, attended.levels, means, of_keys, of_values, of_spreads, size, reads.views, SCALE,
        **walk, head=HEAD,
    )  # fmt: skip
    of_queries = torch.empty_like(query)
    queries_kernel[blocks, views, heads](
        pixels.key, codes.key, *tables, of_keys, of_queries, size, reads.views, **walk, head=HEAD
    )

    def of_sources(readers: Readers, like: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
        sources, key_sums, value_sums = len(readers.ends) - 1, torch.empty_like(like), torch.empty_like(like)
        sources_kernel[triton.cdiv(sources, QUERIES), groups, heads](
            query, gradient, of_keys, of_values, *readers, key_sums, value_sums,
            sources, queries, panoramas // groups,
            width=width, readings=entries * samples, block=QUERIES, head=HEAD,
        )  # fmt: skip
        return key_sums, value_sums

    centred = torch.empty_like(pixels.centred)
    centred_kernel[blocks, views, triton.cdiv(width, CHUNK)](
        pixels.centred, codes.centred, reads.pixel, reads.weight, reads.entry_row, of_spreads,
        *reads.pixel_readers, centred, size, reads.views, **walk, chunk=CHUNK,
    )  # fmt: skip
    of_codes = of_sources(reads.code_readers, codes.key, 1) if codes_learn else (None, None)
    return centred, *of_sources(reads.pixel_readers, pixels.key, panoramas), None, *of_codes, of_queries
