"""What lies between the matrix products: kernels against torch, on a GPU, else in Triton's interpreter."""

from __future__ import annotations

import logging
import re

import pytest
import torch
import torch.nn.functional as F
from attention_cases import DEVICE, assert_agree, features

from mvdiffusion_pack.caa.attention import compiled, passes

DTYPES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
SIZES = [(2, 3, 96, 5, 7), (1, 2, 64, 8, 8), (1, 1, 320, 9, 8)]  # (P, V, C, h, w): tiles that are full, and not


@pytest.fixture
def kernels(monkeypatch):
    """The kernels, not tried before, and taken wherever they run."""
    kernels = pytest.importorskip("mvdiffusion_pack.caa.attention.triton_passes", reason="needs Triton")

    class OnGPU(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(compiled, "_open", True)
    monkeypatch.setattr(compiled, "_checked", set())
    monkeypatch.setattr(passes, "attempt", lambda x, *rest: compiled.attempt(x.as_subclass(OnGPU), *rest))
    return kernels


def given(size: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    """Maps, and three times their tokens."""
    panoramas, views, channels, height, width = size
    maps = features(*size).to(DEVICE, dtype)
    return [maps, *(features(panoramas, views, height, width, channels, seed=n).to(DEVICE, dtype) for n in (2, 3, 4))]


CALLS = {
    "tokens_of": (lambda maps, *tokens: (maps,), lambda maps: maps.movedim(2, -1)),
    "summed": (lambda *all_of: all_of, lambda maps, *tokens: sum(tokens).movedim(-1, 2)),
    "centred": (
        lambda maps, first, *_: (first.flatten(0, 3) + 2,),
        lambda x: x - x.mean(1, keepdim=True),
    ),
    "gated": (
        lambda maps, first, *_: (first.flatten(0, 3),),
        lambda both: both.chunk(2, 1)[0] * F.gelu(both.chunk(2, 1)[1]),
    ),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", list(DTYPES), ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_kernels_and_torch_give_what_is_asked_for(kernels, name, dtype, size):
    take, formula = CALLS[name]
    x = take(*given(size, dtype))
    expected = formula(*(part.double() for part in x))
    with torch.inference_mode():
        by_kernel, by_torch = (getattr(passes, name)(*x, way) for way in ("auto", "torch"))
    assert compiled._open and len(compiled._checked) == 1
    for found in (by_kernel, by_torch):
        assert found.dtype == dtype and found.shape == expected.shape
        assert_agree(found, expected, DTYPES[dtype])


SAID = {"tokens_of": "tokens", "summed": "sums", "centred": "centred vectors", "gated": "gated values"}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_kernel_is_refused_and_the_result_is_torchs(kernels, monkeypatch, caplog, name):
    x, right = CALLS[name][0](*given((1, 2, 64, 4, 4), torch.float32)), getattr(kernels, name)
    monkeypatch.setattr(kernels, name, lambda *args: 1.01 * right(*args))
    with torch.inference_mode(), caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        found = [getattr(passes, name)(*x, way) for way in ("auto", "torch")]
    assert torch.equal(*found) and not compiled._open
    (line,) = caplog.messages
    width = 32 if name == "gated" else 64
    assert re.search(rf": {SAID[name]} are (0\.[3-6]|1\.0)\d% off torch's at float32, width {width}, where 0.01%", line)


@pytest.mark.parametrize("name", ["summed", "gated"])
def test_what_overflows_in_torch_too_closes_no_door(kernels, name):
    x = [3e4 * part.clamp(-2, 2) for part in given((1, 2, 64, 4, 4), torch.float16)]
    with torch.inference_mode():
        found, expected = (getattr(passes, name)(*CALLS[name][0](*x), way) for way in ("auto", "torch"))
    assert compiled._open and expected.isinf().any() and torch.equal(found.isinf(), expected.isinf())


@pytest.mark.parametrize("name", CALLS)
def test_other_alignments_are_other_programs_and_checked_too(kernels, name):
    for size in ((1, 1, 64, 4, 4), (1, 1, 64, 8, 8), (1, 1, 64, 3, 3)):
        with torch.inference_mode():
            getattr(passes, name)(*CALLS[name][0](*given(size, torch.float32)), "auto")
    assert len(compiled._checked) == 2


def test_gradients_other_ways_and_other_strides_are_left_to_torch(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "tokens_of", lambda *_: pytest.fail("the kernel was asked"))
    maps = features(1, 2, 64, 4, 4).float()
    passes.tokens_of(maps, "auto")
    with torch.inference_mode():
        passes.tokens_of(maps, "torch")
        passes.tokens_of(maps, "plain")
        turned = maps.movedim(2, -1).contiguous().movedim(-1, 2)
        assert torch.equal(passes.tokens_of(turned, "auto"), maps.movedim(2, -1))


def test_sums_have_the_strides_of_the_maps():
    maps, *tokens = given((1, 2, 64, 4, 4), torch.float32)
    turned = maps.movedim(2, -1).contiguous().movedim(-1, 2)
    assert passes.summed(turned, *tokens, "auto").stride() == turned.stride()


@pytest.mark.parametrize("way", ["auto", "torch"])
def test_half_precision_is_summed_in_fp32_and_rounded_once(kernels, way):
    maps = torch.zeros(1, 1, 1, 1, 1, dtype=torch.float16, device=DEVICE)
    tokens = [torch.full_like(maps, value) for value in (1.0, 2.0**-11, 2.0**-11)]
    with torch.inference_mode():
        assert passes.summed(maps, *tokens, way).item() == 1 + 2.0**-10
    assert compiled._open
