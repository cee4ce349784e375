"""The recorded depth cases: key frames and what is between them, through the host's own UNet and samplers."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from golden_model import case, depth_cameras, golden_caa, golden_model

pytestmark = pytest.mark.host


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def golden(comfy):
    """The recorded depth model with its blocks."""
    from mvdiffusion_pack.host.weights import attach_weights

    return attach_weights(golden_model("depth", 5), lambda: golden_caa("depth"), 1.0)


def known_latents(model) -> torch.Tensor:
    """(6, 4, 24, 32) what the recorded condition knows of the first and the last view, as latents between nodes."""
    return model.model.process_latent_out(case("depth")["condition"][0, :, :4].clone())


def between_known(model) -> dict:
    """How the recorded views between two key frames were made."""
    return {"windows": [tuple(range(6))], "known": known_latents(model)}


def sampled(model, name: str, sampler_function, **how) -> torch.Tensor:
    """(V, 4, h, w) what a sampler makes of a case's latents, by way of the host's own sampling.

    sampler_function: of (denoise, x, extra_args); x are the recorded latents. how: for with_cameras.
    """
    import comfy.samplers
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.host.begin import with_cameras

    latents, cond = case(name)["latents"][0], case(name)["cond"][0]
    positive, negative = [[cond, {}]], [[case("depth")["uncond"][0, : len(latents)], {}]]
    guider = comfy_nodes.host_node(
        custom.CFGGuider,
        model=with_cameras(model, depth_cameras(name), **how),
        cfg=9.0,
        positive=positive,
        negative=negative,
    )

    def sample(denoise, x, sigmas, extra_args=None, callback=None, disable=None):
        return sampler_function(denoise, latents, extra_args)

    with torch.inference_mode():
        result = guider.sample(
            latents, torch.zeros_like(latents), comfy.samplers.KSAMPLER(sample), torch.tensor([14.0, 0.0])
        )
    return model.model.process_latent_in(result)


def sigma_at(t: int) -> torch.Tensor:
    """The noise level of a timestep, float64."""
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    return ((1 - alphas[t]) / alphas[t]).sqrt()


def forward_pass(denoise, x, extra_args):
    """The noise that the model finds in the recorded latents at the recorded timestep, by their texts alone."""
    from comfy.samplers import calc_cond_batch

    name = "depth" if len(x) == 6 else "depth_odd"
    sigma, guider = sigma_at(int(case(name)["timestep"][0, 0])).float(), denoise.inner_model
    scaled = x * (sigma**2 + 1) ** 0.5
    conds, options = [guider.conds["positive"]], extra_args["model_options"]
    (denoised,) = calc_cond_batch(guider.inner_model, conds, scaled, sigma.expand(len(x)), options)
    return (scaled - denoised) / sigma


def published_loop(denoise, x, extra_args):
    """Ten steps of the published loop: from the plain latents, ending at the first noise level."""
    x = x.double()
    for t in range(901, 0, -100):
        now, then = (1 / (1 + sigma_at(step) ** 2) for step in (t, max(t - 100, 0)))
        scaled, sigma = x / now.sqrt(), sigma_at(t)
        x0 = denoise(scaled.float(), sigma.float().expand(len(x)), **extra_args).double()
        x = then.sqrt() * x0 + (1 - then).sqrt() * (scaled - x0) / sigma
    return x.float()


@pytest.mark.parametrize("name", ["depth", "depth_odd"])
def test_forward_pass_is_the_recorded_one(golden, name):
    assert relative_error(sampled(golden, name, forward_pass), case(name)["eps_generation"][0]) < 1e-5


def test_forward_pass_between_key_frames_is_the_recorded_one(golden):
    result = sampled(golden, "depth", forward_pass, **between_known(golden))
    assert relative_error(result, case("depth")["eps_interpolation"][0]) < 5e-5


def test_ten_steps_are_the_recorded_ones(golden):
    result = sampled(golden, "depth", published_loop)
    assert relative_error(result, case("depth")["ddim10_cfg9_generation"][0]) < 2e-4


def test_ten_steps_between_key_frames_are_the_recorded_ones(golden):
    result = sampled(golden, "depth", published_loop, **between_known(golden))
    assert relative_error(result, case("depth")["ddim10_cfg9_interpolation"][0]) < 2e-4


def test_branches_matter(golden):
    between, alone = (sampled(golden, "depth", forward_pass, **how) for how in (between_known(golden), {}))
    assert relative_error(alone, between) > 1e-2


def test_blocks_matter(golden):
    from mvdiffusion_pack.host.weights import attach_weights

    plain = attach_weights(golden_model("depth", 5), lambda: golden_caa("depth"), 0.0)
    result = sampled(plain, "depth", forward_pass)
    assert relative_error(result, case("depth")["eps_without_caa"][0]) < 1e-5
    assert relative_error(result, case("depth")["eps_generation"][0]) > 1e-2


def test_depth_is_not_what_the_host_takes_five_channels_for(golden, monkeypatch):
    """The host would feed an inpainting model's mask and image; here it has them, and depth stands in their place."""
    assert golden.model.concat_keys == ("mask", "masked_image")
    fed, original = [], golden.model._apply_model

    def remember(x, t, c_concat=None, *args, **kwargs):
        fed.append(c_concat)
        return original(x, t, c_concat, *args, **kwargs)

    monkeypatch.setattr(golden.model, "_apply_model", remember)
    sampled(golden, "depth", forward_pass)
    expected = case("depth")["inverse_depth_small"].view(6, 1, 24, 32)
    torch.testing.assert_close(fed[0], expected, rtol=0, atol=2e-6)
