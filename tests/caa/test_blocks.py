"""The blocks against the recorded cases, and against the published attention written directly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden_model import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from published_block import published_block
from published_files import frozen_weights, manifest
from safetensors.torch import load_file

from mvdiffusion_pack.caa.attention.codes import code_of_zero, frequencies, position_code
from mvdiffusion_pack.caa.attention.memory import CACHED_TOKENS
from mvdiffusion_pack.caa.attention.passes import gated
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.caa.blocks import CAA, GatedProjection, PanoramaBlock, ResidualBlock
from mvdiffusion_pack.caa.weights.kinds import DEPTH, OUTPAINTING, PANORAMA, Widths
from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
from mvdiffusion_pack.geometry.correspondence import panorama_correspondences
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring, rings, sphere
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews

HALF_PRECISION = {torch.float16: 2e-2, torch.bfloat16: 2e-2}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5} | HALF_PRECISION


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


def block_of(width: int, seed: int, dtype=torch.float64) -> PanoramaBlock:
    """A panorama block with the frozen random stream's weights."""
    block = PanoramaBlock(width, torch.nn, dtype, None)
    block.load_state_dict(frozen_weights({key: tuple(value.shape) for key, value in block.state_dict().items()}, seed))
    return block


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [64, 320, 352])
@pytest.mark.parametrize("way", ["auto", "plain"])
def test_recorded_single_blocks(width, dtype, way):
    data = load_file(GOLDEN / f"caa_block_{width}.safetensors")
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(8, 1, 1)
    cam_to_world[:, :3, :3] = data["R"][0]
    feature = data["input"].shape[-1]
    size = feature * 8
    cameras = PanoramaViews(data["K"][0], cam_to_world, size, size, (8,))
    corr = panorama_correspondences(cameras, feature, feature)
    block, x, bands = block_of(width, width, dtype), data["input"].to(dtype)[None], data["freq_bands"].flatten()
    with torch.inference_mode():
        result = block(x, Tables(corr, way=way), bands)
    assert relative_error(result[0], data["output"]) < TOLERANCE[dtype]


@pytest.mark.parametrize("width", [64, 320, 352])
def test_frequencies_are_the_recorded_ones(width):
    assert torch.equal(
        frequencies(width, 2), load_file(GOLDEN / f"caa_block_{width}.safetensors")["freq_bands"].flatten()
    )


@settings(max_examples=15, deadline=None)
@given(
    views=st.integers(2, 9),
    fov=st.floats(30, 140),
    pitch=st.floats(-40, 40),
    size=st.sampled_from([(64, 64), (128, 64), (64, 192)]),
    stride=st.sampled_from([8, 16, 64]),
    width=st.sampled_from([32, 96, 352]),
    seed=st.integers(0, 9),
)
def test_block_is_the_published_one(views, fov, pitch, size, stride, width, seed):
    cameras = ring(views, fov, *size, pitch_deg=pitch)
    block, bands = block_of(width, seed), frequencies(width, 2)
    shape = (views, width, size[1] // stride, size[0] // stride)
    x = torch.randn(shape, generator=torch.manual_seed(seed), dtype=torch.float64)
    corr = panorama_correspondences(cameras, *shape[2:])
    with torch.inference_mode():
        expected = published_block(block, x, corr, bands)
        for way in ("plain", "auto"):
            assert relative_error(block(x[None], Tables(corr, way=way), bands)[0], expected) < 1e-10, way


@pytest.mark.parametrize(
    "cameras",
    [
        sphere(8, 90, 64, 64, 5),
        rings(3, 120, 128, 64, 0, (0, 50, -50)),
        rings(2, 130, 64, 64, 0, (0, 50)),
        rings(1, 60, 64, 64, 0, (-40, 0, 40)),
    ],
    ids=["sphere", "rings", "rings of two", "column"],
)
def test_of_several_rings_each_query_has_one_softmax_over_its_18_keys(cameras):
    block, bands = block_of(64, 3), frequencies(64, 2)
    shape = (cameras.views, 64, cameras.height // 8, cameras.width // 8)
    x = torch.randn(shape, generator=torch.manual_seed(3), dtype=torch.float64)
    corr = panorama_correspondences(cameras, *shape[2:])
    with torch.inference_mode():
        expected = published_block(block, x, corr, bands)
        for way in ("plain", "auto"):
            assert relative_error(block(x[None], Tables(corr, way=way), bands)[0], expected) < 1e-10, way


def test_sampling_on_a_cpu_takes_many_tokens_in_pieces():
    """And what comes of them is what all of them at once give, whose gradients are asked for."""
    block, bands = block_of(64, 0), frequencies(64, 2)
    tables = Tables(panorama_correspondences(ring(8, 90, 96, 96), 12, 12), sampling=True)
    x = torch.randn((1, 8, 64, 12, 12), generator=torch.manual_seed(1), dtype=torch.float64)
    tokens: dict[str, list[int]] = {"ff": [], "attn1.to_v": []}
    for name, counts in tokens.items():
        layer = block.transformer.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, inputs, counts=counts: counts.append(inputs[0][..., 0].numel()))
    with torch.no_grad():
        in_pieces = block(x, tables, bands)
    assert tokens["ff"] == [CACHED_TOKENS, 8 * 12 * 12 - CACHED_TOKENS]
    assert CACHED_TOKENS in tokens["attn1.to_v"] and 8 * 12 * 12 not in tokens["attn1.to_v"]
    torch.testing.assert_close(in_pieces, block(x, tables, bands).detach(), rtol=0, atol=1e-12)
    assert tokens["ff"][2:] == [8 * 12 * 12] and 8 * 12 * 12 in tokens["attn1.to_v"]


def test_the_gated_layer_has_the_gradients_of_its_formula():
    layer = GatedProjection(4, torch.nn, torch.float64, None)
    x = torch.randn((2, 3, 4), generator=torch.manual_seed(1), dtype=torch.float64, requires_grad=True)
    value, gate = layer.proj(x).chunk(2, dim=-1)
    torch.testing.assert_close(layer(x, "torch"), value * F.gelu(gate))
    assert torch.autograd.gradcheck(lambda x: layer(x, "torch"), (x,))
    assert torch.autograd.gradcheck(lambda both: gated(both, "torch"), (layer.proj(x).detach().requires_grad_(),))


def test_codes_are_sines_then_cosines_of_x_then_y():
    bands = torch.tensor([1.0, 2.0])
    code = position_code(torch.tensor([0.25, -0.5], dtype=torch.float64), bands)
    angles = torch.tensor([0.25, 0.5, -0.5, -1.0], dtype=torch.float64)
    torch.testing.assert_close(code, torch.cat((angles.sin(), angles.cos())))
    assert torch.equal(code_of_zero(bands), position_code(torch.zeros(2, dtype=torch.float64), bands).float())


def test_only_base_two_codes_ignore_rounding_errors():
    exact, off = torch.tensor([[1.0, 2.0], [1.0 + 2**-34, 2.0 - 2**-34]], dtype=torch.float64)
    assert torch.equal(position_code(exact, frequencies(320, 2)), position_code(off, frequencies(320, 2)))
    assert not torch.equal(position_code(exact, frequencies(352, 2)), position_code(off, frequencies(352, 2)))


@pytest.mark.parametrize("kind", [PANORAMA, OUTPAINTING, DEPTH], ids=lambda kind: kind.name)
def test_modules_hold_exactly_the_published_keys(kind):
    """At SD 2's real widths, on the meta device."""
    names = {"panorama": "pano", "outpainting": "outpaint", "depth": "depth"}
    expected = {
        key.removeprefix("mv_base_model.").removeprefix("cp_blocks_"): shape
        for key, shape in manifest(f"{names[kind.name]}_sd2").items()
        if ("cp_blocks_" in key or "condition_" in key) and "freq_bands" not in key
    }
    widths = Widths((320, 640, 1280, 1280), 1280, (1280, 1280, 640, 320))
    caa = CAA(kind, widths, {}, torch.nn, device="meta")
    assert {key: tuple(value.shape) for key, value in caa.state_dict().items()} == expected


@pytest.mark.parametrize("kind", [PANORAMA, DEPTH], ids=lambda kind: kind.name)
def test_middle_block_sits_at_its_kinds_place_only(kind):
    widths = Widths((32, 64), 64, (64, 32))
    caa = CAA(kind, widths, fresh_weights(kind, widths).frequencies, torch.nn)
    here, elsewhere = ("mid_inside", "mid_end") if kind is PANORAMA else ("mid_end", "mid_inside")
    assert caa.at_site(here)[0] is caa.mid
    assert caa.at_site(elsewhere) is None
    assert caa.at_site("decoder.1")[0] is caa.decoder[1]


def test_residual_block_is_the_published_formula():
    block = ResidualBlock(32, torch.nn, torch.float64, None)
    block.load_state_dict(frozen_weights({key: tuple(value.shape) for key, value in block.state_dict().items()}, 1))
    y = torch.randn((2, 32, 5, 7), generator=torch.manual_seed(1), dtype=torch.float64)
    hidden = y
    for i in (1, 2):
        weight, bias = (getattr(block, f"bn{i}").get_parameter(name) for name in ("weight", "bias"))
        hidden = F.relu(F.group_norm(hidden, 32, weight, bias, eps=1e-5))
        hidden = F.conv2d(hidden, getattr(block, f"conv{i}").weight, padding=1)
    torch.testing.assert_close(block(y), y + hidden)


def test_fresh_weights_need_heads_of_32():
    with pytest.raises(InputError, match="multiples of 32"):
        fresh_weights(PANORAMA, Widths((40, 80), 80, (80, 40)))
