"""Gradients of both ways: the plain one's against finite differences, the fast one's against the plain one's."""

from __future__ import annotations

import pytest
import torch
from attention_cases import assert_gradients_agree, block_of, features, gradients, kept_by
from hypothesis import given, settings
from hypothesis import strategies as st
from scattered import depth_like
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mvdiffusion_pack.caa.attention import bags
from mvdiffusion_pack.caa.attention.codes import frequencies
from mvdiffusion_pack.caa.attention.memory import Memory
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.caa.blocks import Attention
from mvdiffusion_pack.geometry.correspondence import Correspondences, panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring, rings, sphere

AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 0.1}
BANDS = frequencies(128, 2)
SCENES = {
    "ring": lambda fov, views: panorama_correspondences(ring(views, fov, 128, 64, 10, 15), 4, 8),
    "two views": lambda fov, views: panorama_correspondences(ring(2, fov, 64, 64), 6, 6),
    "sphere": lambda fov, views: panorama_correspondences(sphere(8, fov, 64, 64, 5), 4, 4),
    "rings": lambda fov, views: panorama_correspondences(rings(views, fov, 64, 128, 0, (0, 50)), 8, 4),
    "depth": lambda fov, views: depth_like(views, 5, int(fov)),
}


@pytest.mark.parametrize("way", ["plain", "auto"])
@pytest.mark.parametrize(
    "corr",
    [panorama_correspondences(ring(3, 130, 64, 64), 2, 2), depth_like(3, 2, 3)],
    ids=["ring", "depth"],
)
def test_gradients_are_those_of_finite_differences(corr: Correspondences, way: str):
    """Of features and of every parameter of the attention and of its norm."""
    layer = Attention(32, torch.nn, torch.float64, None)
    norm = torch.nn.LayerNorm(32, dtype=torch.float64)
    parameters = {**dict(layer.named_parameters()), **{f"norm.{key}": part for key, part in norm.named_parameters()}}
    values = [
        (0.3 * features(*part.shape, seed=seed) + (key == "norm.weight")).requires_grad_()
        for seed, (key, part) in enumerate(parameters.items())
    ]
    x, tables = features(1, 3, 2, 2, 32).requires_grad_(), Tables(corr, way=way)

    def attended(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(parameters, values, strict=True))
        shared = torch.nn.LayerNorm(32, dtype=torch.float64)
        for key in ("weight", "bias"):
            delattr(shared, key)
            setattr(shared, key, given.pop(f"norm.{key}"))
        return torch.func.functional_call(layer, given, (x, shared, tables, frequencies(32, 2)))

    assert torch.autograd.gradcheck(attended, (x, *values), fast_mode=True)
    assert all(part.abs().sum() > 0 for part in torch.autograd.grad(attended(x, *values).square().sum(), (x, *values)))


@settings(max_examples=25, deadline=None)
@given(
    scene=st.sampled_from(sorted(SCENES)),
    views=st.integers(3, 6),
    fov=st.floats(60, 140),
    batch=st.integers(1, 2),
    width=st.sampled_from([32, 96]),
    dtype=st.sampled_from(list(AGREEMENT)),
    together=st.booleans(),
    seed=st.integers(0, 9),
)
def test_fast_and_plain_have_the_same_gradients(scene, views, fov, batch, width, dtype, together, seed):
    corr = SCENES[scene](fov, views)
    x = features(batch, corr.views, width, corr.height, corr.width, seed=seed)
    expected = gradients(block_of(width), x, Tables(corr, way="plain"))
    tables = Tables(corr, None if together else Memory(projecting_bytes=0))
    assert_gradients_agree(gradients(block_of(width, dtype), x.to(dtype), tables), expected, AGREEMENT[dtype])


def test_devices_without_embedding_bag_have_the_same_gradients(monkeypatch):
    corr = SCENES["ring"](100, 4)
    x = features(2, corr.views, 64, corr.height, corr.width)
    expected = gradients(block_of(64), x, Tables(corr))
    monkeypatch.setattr(bags, "BAGS", ())
    assert_gradients_agree(gradients(block_of(64), x, Tables(corr)), expected, 1e-12)


class Gathered(TorchDispatchMode):
    """most: the bytes of the largest tensor that was read by indices."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.index.Tensor and result.is_floating_point() and result.ndim == 2:
            self.most = max(self.most, result.nbytes)
        return result


def test_devices_without_embedding_bag_read_no_more_at_once_than_is_allowed(monkeypatch):
    monkeypatch.setattr(bags, "BAGS", ())
    corr, piece_bytes = SCENES["ring"](100, 4), 2**13
    x = features(1, corr.views, 64, corr.height, corr.width)
    with Gathered() as gathered:
        gradients(block_of(64), x, Tables(corr, Memory(piece_bytes=piece_bytes)))
    assert 0 < gathered.most <= piece_bytes / 2


def test_half_precision_by_autocast_is_as_exact():
    """Weights stay fp32, as they are while they learn."""
    corr = SCENES["ring"](100, 4)
    x = features(2, corr.views, 96, corr.height, corr.width)
    expected = gradients(block_of(96), x, Tables(corr, way="plain"))
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(block_of(96, torch.float32), x.bfloat16(), Tables(corr))
    assert_gradients_agree(found, expected, AGREEMENT[torch.bfloat16])


def test_queries_that_see_nothing_give_every_parameter_a_gradient():
    """Trainers on several processes wait for those of all parameters."""
    corr = panorama_correspondences(ring(4, 30, 64, 64), 4, 4)
    assert not any(table.valid.any() for table in corr.tables)
    x = features(1, 4, 32, 4, 4)
    assert_gradients_agree(
        gradients(block_of(32), x, Tables(corr)), gradients(block_of(32), x, Tables(corr, way="plain")), 1e-8
    )


def test_weights_may_change_between_steps_without_a_word_to_the_tables():
    corr, block, other = SCENES["ring"](100, 4), block_of(32), block_of(32, seed=2)
    x, tables = features(1, corr.views, 32, corr.height, corr.width), Tables(corr)
    with torch.no_grad():
        block(x, tables, frequencies(32, 2))  # as a validation between steps does
    first = gradients(block, x, tables)
    block.load_state_dict(other.state_dict())
    assert_gradients_agree(gradients(block, x, tables), gradients(other, x, Tables(corr)), 1e-12)
    block.load_state_dict(block_of(32).state_dict())
    assert_gradients_agree(gradients(block, x, tables), first, 1e-12)


def test_checkpointing_changes_nothing():
    corr, block = SCENES["ring"](100, 4), block_of(32)
    x = features(1, corr.views, 32, corr.height, corr.width)
    found = gradients(block, x, Tables(corr), lambda *args: checkpoint(block, *args, use_reentrant=False))
    assert_gradients_agree(found, gradients(block, x, Tables(corr)), 1e-12)


def test_tables_may_be_made_in_inference_mode():
    """ComfyUI's executor is in it wherever a node runs."""
    block = block_of(32)
    with torch.inference_mode():
        corr = SCENES["ring"](100, 4)
        tables, x = Tables(corr), features(1, corr.views, 32, corr.height, corr.width)
        block(x, tables, frequencies(32, 2))
    found = gradients(block, x.clone(), tables)
    assert_gradients_agree(found, gradients(block, x.clone(), Tables(SCENES["ring"](100, 4))), 1e-12)


def test_tables_of_a_sampling_run_have_the_gradients_of_features():
    """A LoRA of the UNet can be trained through blocks that stay as they are."""
    corr, block = SCENES["ring"](100, 4), block_of(32)
    x = features(1, corr.views, 32, corr.height, corr.width)
    expected, tables = gradients(block, x, Tables(corr, way="plain"))["x"], Tables(corr, sampling=True)
    for _ in range(2):
        assert_gradients_agree({"x": gradients(block, x, tables)["x"]}, {"x": expected}, 1e-8)


def test_little_is_kept_for_the_gradients():
    """Of the size of samples times channels, the plain way keeps several tensors, the fast one none."""
    corr, block = panorama_correspondences(ring(8, 90, 128, 128), 16, 16), block_of(128, torch.float32)
    tokens = features(1, 8, 16, 16, 128).float().requires_grad_()
    samples = int(sum(corr.table_of(pair).valid.sum() for pair in corr.pairs)) * 128 * 4

    def kept(way: str) -> int:
        return kept_by(lambda: block.transformer.attn1(tokens, block.transformer.norm1, Tables(corr, way=way), BANDS))

    assert kept(way="auto") < 2 * samples < kept(way="plain") / 3
