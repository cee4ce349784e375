"""The Triton kernels against the plain attention: on a GPU, else in Triton's interpreter (see tests/conftest.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attention_cases import (
    DEVICE,
    assert_agree,
    assert_gradients_agree,
    attended,
    block_of,
    features,
    gradients,
    kept_by,
)
from scattered import depth_like
from torch.utils.checkpoint import checkpoint

from mvdiffusion_pack.caa.attention import fast
from mvdiffusion_pack.caa.attention.codes import frequencies
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.geometry.correspondence import Correspondences, panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring, rings

HALF = {torch.float16: 3e-3, torch.bfloat16: 2e-2}


@pytest.fixture
def kernels():
    pytest.importorskip("triton", reason="Triton is not installed here")
    from mvdiffusion_pack.caa.attention import triton_gradients as kernels

    return kernels


@pytest.fixture
def ran(kernels, monkeypatch) -> list[int]:
    """The fast attention takes the kernels, wherever it runs; each time it does is one more element."""
    ran = []
    monkeypatch.setattr(fast, "attend_compiled", lambda *args: ran.append(1) or kernels.attend_differentiably(*args))
    return ran


@pytest.mark.parametrize(
    ("corr", "batch", "width"),
    [
        (panorama_correspondences(ring(3, 150, 64, 64), 3, 7), 2, 96),
        (panorama_correspondences(rings(2, 130, 64, 64, 0, (0, 50)), 4, 4), 1, 64),
        (panorama_correspondences(rings(1, 60, 64, 64, 0, (-40, 0, 40)), 6, 6), 1, 32),
        (depth_like(4, 4, 2), 1, 64),
    ],
    ids=["ring", "two rings", "column", "one sample"],
)
def test_kernels_agree_with_the_plain_attention(ran, corr, batch, width):
    x = features(batch, corr.views, width, corr.height, corr.width).float()
    assert any(table.valid.any() for table in corr.tables)
    assert_agree(attended(corr, x), attended(corr, x, way="plain"), 1e-5)
    assert ran


def test_kernels_take_half_precision(ran):
    corr = panorama_correspondences(ring(4, 120, 64, 64), 4, 4)
    x = features(1, 4, 64, 4, 4).half()
    assert_agree(attended(corr, x), attended(corr, x.float(), way="plain"), HALF[torch.float16])


SCENES = {
    "ring": lambda: panorama_correspondences(ring(3, 150, 64, 64), 2, 2),
    "column": lambda: panorama_correspondences(rings(1, 60, 64, 64, 0, (-40, 0, 40)), 5, 5),
    "two rings": lambda: panorama_correspondences(rings(2, 130, 64, 64, 0, (0, 50)), 2, 2),
    "depth": lambda: depth_like(3, 3, 2),
    "nothing": lambda: panorama_correspondences(ring(4, 30, 64, 64), 2, 2),
}


def learned(corr: Correspondences, batch: int, width: int, dtype: torch.dtype, **options) -> dict[str, torch.Tensor]:
    """`gradients` of fp32 weights, as they are while they learn; features are of `dtype`."""
    x, block = features(batch, corr.views, width, corr.height, corr.width), block_of(width, torch.float32)
    with torch.autocast(DEVICE, dtype, enabled=dtype in HALF):
        found = gradients(block.to(DEVICE), x.to(DEVICE, dtype), Tables(corr, **options))
    return {name: gradient.cpu() for name, gradient in found.items()}


def exact(corr: Correspondences, batch: int, width: int) -> dict[str, torch.Tensor]:
    return gradients(
        block_of(width), features(batch, corr.views, width, corr.height, corr.width), Tables(corr, way="plain")
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("scene", "batch", "width"),
    [("ring", 1, 32), ("column", 1, 32), ("two rings", 1, 32), ("depth", 2, 96), ("nothing", 1, 32)],
)
def test_kernels_have_the_gradients_of_the_plain_attention(ran, scene, batch, width):
    """More pixels than a program has, two panoramas, channels that fill no step, neighbours that differ in number."""
    corr = SCENES[scene]()
    assert scene == "nothing" or any(table.valid.any() for table in corr.tables)
    assert_gradients_agree(learned(corr, batch, width, torch.float32), exact(corr, batch, width), 3e-6)
    assert ran


@pytest.mark.parametrize("dtype", list(HALF), ids=str)
def test_gradients_of_kernels_take_half_precision(ran, dtype):
    corr = SCENES["depth"]()
    assert_gradients_agree(learned(corr, 1, 32, dtype), exact(corr, 1, 32), HALF[dtype])
    assert ran


def test_kernels_give_features_gradients_where_codes_do_not_learn(ran):
    """A LoRA of the UNet can be trained through blocks that stay as they are."""
    corr = SCENES["depth"]()
    found = learned(corr, 1, 32, torch.float32, sampling=True)
    assert_gradients_agree({"x": found["x"]}, {"x": exact(corr, 1, 32)["x"]}, 3e-6)
    assert ran


def test_checkpointing_of_kernels_changes_no_bit(ran):
    """What is made twice is the same both times: no sum depends on the order in which programs come."""
    corr, block = SCENES["depth"](), block_of(32, torch.float32).to(DEVICE)
    x = features(1, corr.views, 32, corr.height, corr.width).to(DEVICE, torch.float32)
    once = gradients(block, x, Tables(corr))
    twice = gradients(block, x, Tables(corr), lambda *args: checkpoint(block, *args, use_reentrant=False))
    assert all(torch.equal(twice[name], gradient) for name, gradient in once.items())
    assert len(ran) == 3


def test_kernels_keep_less_for_the_gradients_than_torch_does(ran, monkeypatch):
    corr, block = SCENES["depth"](), block_of(32, torch.float32).to(DEVICE)
    tokens = features(1, 3, 3, 3, 32).to(DEVICE, torch.float32).requires_grad_()

    def kept() -> int:
        attend, norm = block.transformer.attn1, block.transformer.norm1
        return kept_by(lambda: attend(tokens, norm, Tables(corr), frequencies(32, 2)))

    of_kernels = kept()
    monkeypatch.setattr(fast, "attend_compiled", lambda *_: None)
    assert ran and of_kernels < kept()


@pytest.mark.thorough
def test_kernels_compile_for_nvidia_and_amd():
    pytest.importorskip("triton", reason="Triton is not installed here")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 90  # ten kernels, three models, three cards
