"""The fast attention against the plain one: over cameras, sizes and dtypes, in pieces, short of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attention_cases import assert_agree, attended, block_of, features
from hypothesis import given, settings
from hypothesis import strategies as st
from scattered import depth_like

from mvdiffusion_pack.caa.attention import fast, tables
from mvdiffusion_pack.caa.attention.codes import frequencies
from mvdiffusion_pack.caa.attention.memory import Memory, split
from mvdiffusion_pack.caa.attention.projected import LayerWeights, Weights
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.geometry.correspondence import SampleTable, panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring, rings, sphere

AGREEMENT = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
LAYOUTS = {
    "ring": lambda fov, views: ring(views, fov, 128, 64, 10, 15),
    "sphere": lambda fov, views: sphere(8, fov, 64, 64, 5),
    "rings": lambda fov, views: rings(views, fov, 64, 128, 0, (0, 50)),
}


@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    views=st.integers(2, 6),
    fov=st.floats(60, 140),
    batch=st.integers(1, 2),
    stride=st.sampled_from([8, 16, 32]),
    width=st.sampled_from([32, 96, 352]),
    dtype=st.sampled_from(list(AGREEMENT)),
    seed=st.integers(0, 9),
)
def test_fast_and_plain_agree(layout, views, fov, batch, stride, width, dtype, seed):
    cameras = LAYOUTS[layout](fov, views)
    corr = panorama_correspondences(cameras, cameras.height // stride, cameras.width // stride)
    x = features(batch, cameras.views, width, corr.height, corr.width, seed=seed).to(dtype)
    # Half precision is held to the plain attention in float32 of the same features.
    exact = x if dtype in (torch.float32, torch.float64) else x.float()
    assert_agree(attended(corr, x), attended(corr, exact, way="plain"), AGREEMENT[dtype])


def test_features_of_very_different_size_agree():
    """Spreads from far below the LayerNorm's eps to far above it, and constant features, whose spread is zero."""
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    x = features(1, 4, 64, 8, 8) * 10 ** torch.linspace(-6, 3, 64, dtype=torch.float64).view(8, 8)
    x[0, 1] = 3.0
    assert_agree(attended(corr, x), attended(corr, x, way="plain"), 1e-10)


def test_one_sample_and_many_neighbours_agree():
    corr = depth_like(5, 6, 1)
    x = features(2, 5, 64, 6, 6)
    assert_agree(attended(corr, x), attended(corr, x, way="plain"), 1e-10)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_codes_that_are_too_many_to_be_projected_agree(layout, monkeypatch):
    monkeypatch.setattr(tables, "PER_QUERY", 0)
    cameras = LAYOUTS[layout](100, 4)
    corr = panorama_correspondences(cameras, cameras.height // 8, cameras.width // 8)
    x, few = features(2, cameras.views, 96, corr.height, corr.width), Memory(piece_bytes=2**16)
    assert_agree(attended(corr, x), attended(corr, x, way="plain"), 1e-10)
    assert_agree(attended(corr, x, memory=few), attended(corr, x, way="plain"), 1e-10)


@pytest.fixture
def on_card(monkeypatch) -> list[int]:
    """All is computed as beside kernels on a card; how many dimensions that has which is projected by kept weights."""
    made, project = [], Weights.project_centred
    for module in (fast, tables):
        monkeypatch.setattr(module, "by_products", lambda _: True)
    monkeypatch.setattr(tables, "may_serve", lambda _: True)
    monkeypatch.setattr(tables, "PER_QUERY", 99)
    monkeypatch.setattr(Weights, "project_centred", lambda own, x: made.append(x.ndim) or project(own, x))
    return made


@pytest.mark.parametrize("dtype", list(AGREEMENT), ids=str)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("memory", [Memory(), Memory(projected_bytes=0)], ids=["kept", "at each use"])
def test_products_with_kept_weights_agree(on_card, layout, memory, dtype):
    cameras = LAYOUTS[layout](100, 4)
    corr = panorama_correspondences(cameras, cameras.height // 8, cameras.width // 8)
    x = features(2, cameras.views, 96, corr.height, corr.width).to(dtype)
    exact = attended(corr, x.double(), way="plain")
    assert_agree(attended(corr, x, memory=replace(memory)), exact, AGREEMENT[dtype])
    assert sorted(on_card) == [2, 3]  # pixels, and codes


def test_codes_are_projected_at_each_use_for_kernels_alone(on_card, monkeypatch):
    corr, x = panorama_correspondences(ring(4, 100, 64, 64), 8, 8), features(1, 4, 32, 8, 8)
    short = Memory(projected_bytes=0)
    attended(corr, x, memory=short, way="torch")
    monkeypatch.setattr(tables, "may_serve", lambda _: False)
    attended(corr, x, memory=short)
    assert on_card == [2, 2]


def test_codes_that_gradients_would_keep_are_not_projected_at_each_use(on_card):
    corr, x = panorama_correspondences(ring(4, 100, 64, 64), 8, 8), features(1, 4, 32, 8, 8).requires_grad_()
    block_of(32)(x, Tables(corr, Memory(projected_bytes=0), sampling=True), frequencies(32, 2)).sum().backward()
    assert on_card == [2] and x.grad is not None


def test_windows_share_the_weights_of_layers(on_card):
    corr, shared = panorama_correspondences(ring(4, 100, 64, 64), 8, 8), LayerWeights()
    block, bands, x = block_of(32), frequencies(32, 2), features(1, 4, 32, 8, 8)
    layer = block.transformer.attn1
    calls = []
    layer.to_k.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    with torch.inference_mode():
        first, second = (block(x, Tables(corr, sampling=True, shared=shared), bands) for _ in range(2))
        assert torch.equal(first, second) and calls.count(32) == 1  # unit vectors
        layer.to_k.weight += 0.1
        changed = block(x, Tables(corr, sampling=True, shared=shared), bands)
        assert torch.equal(changed, block(x, Tables(corr, sampling=True), bands)) and not torch.equal(changed, first)


@pytest.mark.parametrize("per_query", [0, 8], ids=["unprojected", "projected"])
def test_queries_that_see_nothing_in_any_view_agree(per_query, monkeypatch):
    """A ring too narrow to overlap: every key is invalid."""
    monkeypatch.setattr(tables, "PER_QUERY", per_query)
    corr = panorama_correspondences(ring(4, 30, 64, 64), 8, 8)
    assert not any(table.valid.any() for table in corr.tables)
    x = features(1, 4, 64, 8, 8)
    assert_agree(attended(corr, x), attended(corr, x, way="plain"), 1e-10)


@pytest.mark.parametrize("sampling", [True, False], ids=["sampling", "learning"])
def test_logits_far_below_zero_agree(sampling):
    """Queries of a dense ring see all their samples, so nothing holds the highest logit above that of unseen ones."""
    corr = panorama_correspondences(ring(16, 90, 512, 512), 8, 8)
    block, bands = block_of(64, torch.float32), frequencies(64, 2)
    attention = block.transformer.attn1
    with torch.no_grad():
        attention.to_k.weight.copy_(-3 * attention.to_q.weight)
    x = 8 * features(64, seed=2)[None, None, :, None, None] + 0.1 * features(1, 16, 64, 8, 8)
    with torch.inference_mode():
        fast, plain = (block(x.float(), Tables(corr, None, way, sampling), bands) for way in ("auto", "plain"))
    assert fast.isfinite().all()
    assert_agree(fast - x, plain - x, 1e-4)


@pytest.mark.parametrize("sampling", [True, False], ids=["sampling", "learning"])
def test_codes_that_are_not_kept_are_not_made_for_each_view(sampling, monkeypatch):
    corr, made = panorama_correspondences(ring(4, 100, 64, 64), 8, 8), []
    codes = tables._codes
    monkeypatch.setattr(tables, "_codes", lambda *given, **how: made.append(1) or codes(*given, **how))
    nothing = Memory(code_bytes=0, projected_bytes=0, projecting_bytes=0, waiting_bytes=0)
    attended(corr, features(1, 4, 32, 8, 8), memory=nothing, sampling=sampling)
    assert len(made) == 1


@pytest.mark.parametrize("way", ["auto", "plain"])
@pytest.mark.parametrize("memory", [Memory(), Memory(projected_bytes=0, projecting_bytes=0)], ids=["roomy", "short"])
def test_tables_that_were_used_in_inference_mode_train_afterwards(way, memory):
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    made, block, bands = Tables(corr, memory, way), block_of(32, torch.float32), frequencies(32, 2)
    x = features(1, 4, 32, 8, 8).float()
    with torch.inference_mode():
        block(x, made, bands)
    block(x.requires_grad_(), made, bands).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("way", ["auto", "plain"])
def test_pieces_change_nothing(way):
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    x = features(2, 4, 32, 8, 8)
    few = Memory(piece_bytes=8 * 3 * 9 * 32 * 8 * 5)  # five rows of all eight pairs at a time, of 32
    assert_agree(attended(corr, x, memory=few, way=way), attended(corr, x, way=way), 1e-14)


@pytest.mark.parametrize("way", ["auto", "plain"])
def test_tables_that_hold_a_part_of_the_queries_each(way):
    """The same correspondences as twice as many pairs, of which each has every other query."""
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    halves = [
        SampleTable(table.query[part::2].contiguous(), table.coords[part::2], table.valid[part::2], table.code[part::2])
        for table in corr.tables
        for part in (0, 1)
    ]
    pairs = [replace(pair, table=2 * pair.table + part) for pair in corr.pairs for part in (0, 1)]
    divided = replace(corr, pairs=tuple(pairs), tables=tuple(halves))
    x, few = features(2, 4, 32, 8, 8), Memory(piece_bytes=8 * 3 * 9 * 32 * 8 * 5)
    assert_agree(attended(divided, x, memory=few, way=way), attended(corr, x, way=way), 1e-14)


@pytest.mark.parametrize("way", ["auto", "plain"])
@pytest.mark.parametrize("waiting", [2**20, 0], ids=["waiting", "made anew"])
def test_codes_beyond_the_allowance_change_nothing(way, waiting):
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    x, short = features(1, 4, 32, 8, 8), Memory(code_bytes=0, projected_bytes=0, waiting_bytes=waiting)
    assert_agree(attended(corr, x, memory=short, way=way), attended(corr, x, way=way), 1e-13)


@pytest.mark.parametrize(("waiting", "kept"), [(2**20, True), (0, False)])
def test_codes_are_kept_as_long_as_memory_allows(waiting, kept):
    corr = panorama_correspondences(ring(4, 100, 64, 64), 8, 8)
    tables = Tables(corr, Memory(code_bytes=0, projected_bytes=0, waiting_bytes=waiting))
    bands, like = frequencies(32, 2), torch.zeros(1, 32)
    assert (tables.codes(bands, like) is tables.codes(bands, like)) == kept


def test_what_a_ring_needs_does_not_grow_with_the_square_of_its_views():
    few, many = (panorama_correspondences(ring(views, 90, 64, 64), 8, 8) for views in (8, 64))
    like = torch.zeros(1)
    assert len(many.pairs) == 8 * len(few.pairs)
    assert len(Tables(many).reads(like).valid) < 2.5 * len(Tables(few).reads(like).valid)  # the views lie nearer


def test_memory_is_a_small_part_of_what_is_free():
    little, much = Memory.within(2**30, False, 2**30), Memory.within(2**36, False, 2**36)
    assert little.piece_bytes + little.code_bytes + little.projected_bytes < 2**29
    assert little.waiting_bytes < 2**29
    assert replace(much, projecting_bytes=0) == Memory(projecting_bytes=0)
    assert little.projecting_bytes == 2**27 and much.projecting_bytes == 2**33
    assert Memory.within(2**36, True, 2**36).projecting_bytes == Memory().projected_bytes
    assert Memory.within(2**36, True, 2**36).piece_bytes < much.piece_bytes
    assert Memory.within(0, False, 0).piece_bytes > 0


def test_an_allowance_is_spent_once():
    memory = Memory(code_bytes=10, projected_bytes=5, waiting_bytes=7)
    assert [memory.keep_code(6), memory.keep_code(6), memory.keep_code(4)] == [True, False, True]
    assert [memory.keep_projected(6), memory.keep_projected(5), memory.keep_projected(1)] == [False, True, False]
    assert [memory.keep_waiting(6), memory.keep_waiting(2), memory.keep_waiting(1)] == [True, False, True]


def test_what_follows_from_cameras_and_weights_is_made_once():
    corr, x = panorama_correspondences(ring(4, 100, 64, 64), 8, 8), features(1, 4, 32, 8, 8)
    block, bands, calls = block_of(32, torch.float64), frequencies(32, 2), []
    block.transformer.attn1.to_k.register_forward_hook(lambda layer, args, result: calls.append(args[0].shape))
    tables = Tables(corr, sampling=True)
    with torch.inference_mode():
        first = block(x, tables, bands)
        in_first = len(calls)
        assert torch.equal(block(x, tables, bands), first)
    later = calls[in_first:]
    assert later == [(4 * 64, 32)] and len(calls) > 2


@given(st.integers(0, 50), st.integers(0, 40), st.integers(0, 60))
def test_parts_of_a_range_are_all_of_it_in_order(start, count, at_once):
    parts = list(split(slice(start, start + count), at_once))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(start, start + count))
    assert all(1 <= part.stop - part.start <= max(1, at_once) for part in parts)
