"""The recorded cases of the published model, through the host's own UNet."""

from __future__ import annotations

import pytest
import torch
from golden_model import case, case_cameras, golden_caa, golden_model

pytestmark = pytest.mark.host


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over norm."""
    return float((result.double() - expected.double()).norm() / expected.double().norm())


def forward(
    name: str,
    latents: torch.Tensor,
    weights_of: str = "pano",
    dtype=torch.float32,
    strength: float = 1.0,
    attention: str = "auto",
):
    """One forward pass of the UNet with CAA on a case's inputs: (P, V, C, h, w) latents to its noise, in float32."""
    from mvdiffusion_pack.host import inject, run, setup, weights

    model = weights.attach_weights(
        golden_model(weights_of, latents.shape[2], dtype), lambda: golden_caa(weights_of), strength
    )
    caa = model.get_additional_models_with_key(setup.KEY)[0].model.to(dtype)
    options = model.model_options["transformer_options"] | {
        inject.RUN: run.Run(case_cameras(name), caa, strength, attention)
    }
    inject.inject(model)
    timesteps, context = case(name)["timestep"].flatten(), case(name)["cond"].flatten(0, 1).to(dtype)
    with torch.inference_mode():
        result = model.model.diffusion_model(
            latents.flatten(0, 1).to(dtype), timesteps, context, transformer_options=options
        )
    return result.float().unflatten(0, latents.shape[:2])


@pytest.fixture(scope="module")
def panorama(comfy) -> torch.Tensor:
    return forward("pano", case("pano")["latents"])


def test_panorama_is_the_recorded_one(panorama):
    assert relative_error(panorama, case("pano")["eps"]) < 1e-5


def test_plain_attention_gives_the_recorded_panorama_too(panorama):
    plainly = forward("pano", case("pano")["latents"], attention="plain")
    assert relative_error(plainly, case("pano")["eps"]) < 1e-5
    assert not torch.equal(plainly, panorama)  # another way of computing it, which rounds in other places


def test_blocks_matter_in_the_recorded_case(comfy):
    plain = forward("pano", case("pano")["latents"], strength=0.0)
    assert relative_error(plain, case("pano")["eps_without_caa"]) < 1e-5
    assert relative_error(plain, case("pano")["eps"]) > 1e-2


def test_two_panoramas_of_ten_narrow_views_are_the_recorded_ones(comfy):
    result = forward("ring10", case("ring10")["latents"])
    assert relative_error(result, case("ring10")["eps"]) < 1e-5


def test_outpainting_is_the_recorded_one(comfy):
    data = case("outpaint")
    latents = torch.cat((data["latents"], data["mask"], data["masked_image_latents"]), dim=2)
    assert relative_error(forward("outpaint", latents, weights_of="outpaint"), data["eps"]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(panorama, dtype):
    result = forward("pano", case("pano")["latents"], dtype=dtype)
    assert relative_error(result, panorama) < 2e-2
