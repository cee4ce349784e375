"""The C kernels compute what torch does, forwards and backwards; where there is no compiler, torch's own are used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvdiffusion_pack.training.demo import compiled, fused

compiled_only = pytest.mark.skipif(compiled.kernels() is None, reason="no C compiler")
CLOSE = 0.006  # relative, of bf16 with its 8 bits


def gradients(function, inputs: list[torch.Tensor], above: torch.Tensor) -> list[torch.Tensor]:
    """The result for the inputs, and their gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    y.backward(above.to(y))
    return [y, *(leaf.grad for leaf in leaves)]


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine.float() - reference).norm() <= CLOSE * reference.norm()


def exact(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    return [x.float() for x in inputs]


@compiled_only
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(32, 24), (64, 5), (192, 1)])
def test_group_norm(channels: int, size: int, silu: bool):
    torch.manual_seed(0)
    x = (torch.randn(3, channels, size, size) + 0.5).bfloat16()
    weight, bias, above = torch.randn(channels), torch.randn(channels), torch.randn_like(x)

    def reference(x, weight, bias):
        y = F.group_norm(x, 32, weight, bias, 1e-5)
        return F.silu(y) if silu else y

    ours = gradients(lambda *inputs: fused._GroupNorm.apply(*inputs, 32, 1e-5, silu), [x, weight, bias], above)
    assert_close(ours, gradients(reference, [x.float(), weight, bias], above.float()))


@compiled_only
def test_group_norm_of_outliers():
    x = torch.zeros(1, 32, 200, 200, dtype=torch.bfloat16)
    x[:, ::2, 3, 5], x[:, 1::2, 3, 5] = 1e4, -1e4  # 200 deviations from the mean
    ours = gradients(
        lambda *inputs: fused._GroupNorm.apply(*inputs, 32, 1e-5, True),
        [x, torch.full((32,), 30.0), torch.zeros(32)],
        torch.ones_like(x),
    )
    assert all(y.isfinite().all() for y in ours)
    assert ours[0][0, 0, 3, 5].item() == pytest.approx(6000, rel=0.01)
    assert abs(ours[0][0, 1, 3, 5].item()) < 1e-6


@compiled_only
@pytest.mark.parametrize(
    ("queries", "keys", "causal"), [(50, 1, False), (50, 77, False), (9, 300, False), (77, 77, True)]
)
def test_attention(queries: int, keys: int, causal: bool):
    torch.manual_seed(0)
    inputs = [torch.randn(4, count, 64).bfloat16() for count in (queries, keys, keys)]
    above = torch.randn(4, queries, 64).bfloat16()

    def reference(*inputs):
        heads = (x.unflatten(-1, (2, 32)).transpose(1, 2) for x in inputs)
        return F.scaled_dot_product_attention(*heads, is_causal=causal).transpose(1, 2).flatten(2)

    ours = gradients(lambda *inputs: fused.attend(*inputs, 2, causal), inputs, above)
    theirs = gradients(reference, exact(inputs), above.float())
    for mine, expected in zip(ours, theirs, strict=True):
        # With one key the queries' gradient is nothing.
        assert (mine.float() - expected).norm() <= CLOSE * max(expected.norm(), above.float().norm())


@compiled_only
def test_gated_gelu():
    torch.manual_seed(0)
    both, above = (3 * torch.randn(40, 512)).bfloat16(), torch.randn(40, 256).bfloat16()

    def reference(both):
        value, gate = both.chunk(2, -1)
        return value * F.gelu(gate)

    assert_close(gradients(fused._GatedGelu.apply, [both], above), gradients(reference, exact([both]), above.float()))


def test_without_a_compiler_norms_are_torchs(monkeypatch):
    monkeypatch.setattr(fused, "kernels", lambda: None)
    layers = fused.fuse(nn.Sequential(nn.GroupNorm(32, 32), nn.SiLU(), nn.Conv2d(32, 4, 1)))
    x = torch.randn(2, 32, 4, 4)
    with torch.no_grad():
        expected = layers[2](F.silu(F.group_norm(x, 32)))
        assert torch.allclose(layers(x), expected, atol=1e-6)
        assert (layers.bfloat16()(x.bfloat16()).float() - expected).norm() <= 0.02 * expected.norm()


def test_a_compiler_that_fails_is_no_error(monkeypatch, tmp_path, caplog):
    source = tmp_path / "broken.c"
    source.write_text("int main( {", encoding="utf-8")
    monkeypatch.setattr(compiled, "SOURCE", source)
    assert compiled.kernels.__wrapped__() is None
    assert len(caplog.messages) == 1
