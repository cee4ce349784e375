"""What lies between the matrix products: kernels against torch, on a GPU, else in Triton's interpreter."""

from __future__ import annotations

import logging

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


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_kernel_is_refused_and_the_result_is_torchs(kernels, monkeypatch, caplog, name):
    x, right = CALLS[name][0](*given((1, 2, 64, 4, 4), torch.float32)), getattr(kernels, name)
    monkeypatch.setattr(kernels, name, lambda *args: 1.01 * right(*args))
    with torch.inference_mode(), caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        found = [getattr(passes, name)(*x, way) for way in ("auto", "torch")]
    assert torch.equal(*found) and not compiled._open
    (line,) = caplog.messages
    assert "1.00% off torch's at float32, width" in line and name.split("_")[0] in line


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


def test_half_precision_is_summed_in_fp32_and_rounded_once():
    maps = torch.zeros(1, 1, 1, 1, 1, dtype=torch.float16)
    tokens = [torch.full((1, 1, 1, 1, 1), value, dtype=torch.float16) for value in (1.0, 2.0**-11, 2.0**-11)]
    assert passes.summed(maps, *tokens, "torch").item() == 1 + 2.0**-10
