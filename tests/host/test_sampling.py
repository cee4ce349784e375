"""Sampling all views together through the nodes, inside the real host."""

from __future__ import annotations

import pytest
import torch
from golden_model import case, case_cameras, golden_caa, golden_model

pytestmark = pytest.mark.host
SEED = 7


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def golden(comfy):
    """The recorded panorama model with its blocks, and its conditionings."""
    from mvdiffusion_pack.host.weights import attach_weights

    model = attach_weights(golden_model(), golden_caa, 1.0)
    cond, uncond = ([[case("pano")[name][0], {}]] for name in ("cond", "uncond"))
    return model, cond, uncond


@pytest.fixture(scope="module")
def demo(comfy):
    """The demo MODEL, cameras of four 64 x 64 views, and conditionings."""
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras
    from mvdiffusion_pack.nodes.loaders import LoadDemoModel
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    model, clip, _ = LoadDemoModel.execute("panorama").args
    (cameras,) = PanoramaCameras.execute("ring", 4, 120.0, 64, 64, 0.0, 0.0).args
    positive, negative = (MultiViewTextEncode.execute(clip, cameras, text, "").args[0] for text in ("a room", ""))
    return model, cameras, positive, negative


def multi_view(model, cameras, positive, negative, **changes) -> torch.Tensor:
    """The latents of Multi-View KSampler."""
    from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

    settings = dict(
        seed=SEED,
        steps=2,
        cfg=3.0,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        denoise=1.0,
        panoramas=1,
    )
    settings |= changes
    (latent,) = MultiViewKSampler.execute(model, cameras, positive, negative, **settings).args
    return latent["samples"]


def test_ten_steps_are_a_loop_over_the_hosts_sigmas(golden):
    import comfy.samplers
    from mvdiffusion_pack.host import inject, run

    model, cond, uncond = golden
    cameras = case_cameras("pano")
    result = multi_view(model, cameras, cond, uncond, steps=10, cfg=9.0)

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 10)
    caa = model.get_additional_models_with_key(run.KEY)[0].model
    options = model.model_options["transformer_options"] | {inject.RUN: run.Run(cameras, caa, 1.0)}
    inject.inject(model)

    def noise_of(x, sigma, context):
        timestep = sampling.timestep(sigma).float().expand(len(x))
        scaled = x / (sigma**2 + 1) ** 0.5
        return model.model.diffusion_model(scaled, timestep, context[0][0], transformer_options=options)

    with torch.inference_mode():
        x = torch.randn((8, 4, 16, 16), generator=torch.manual_seed(SEED)) * sigmas[0]
        x = x * (1 + 1 / sigmas[0] ** 2) ** 0.5 if sigmas[0] >= sampling.sigma_max * 0.99999 else x
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            without, with_text = noise_of(x, sigma, uncond), noise_of(x, sigma, cond)
            x = x + (without + 9.0 * (with_text - without)) * (following - sigma)
    expected = model.model.process_latent_out(x)
    assert relative_error(result, expected) < 2e-4


def test_published_loop_is_the_recorded_one(golden):
    from mvdiffusion_pack.host import inject, run

    model, cond, uncond = golden
    caa = model.get_additional_models_with_key(run.KEY)[0].model
    options = model.model_options["transformer_options"] | {inject.RUN: run.Run(case_cameras("pano"), caa, 1.0)}
    inject.inject(model)
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    x = case("pano")["latents"][0]
    with torch.inference_mode():
        for t in range(901, 0, -100):
            without, with_text = (
                model.model.diffusion_model(x, torch.full((8,), t), c[0][0], transformer_options=options)
                for c in (uncond, cond)
            )
            e = without + 9 * (with_text - without)
            now, then = alphas[t], alphas[max(t - 100, 0)]
            x = (then.sqrt() * (x - (1 - now).sqrt() * e) / now.sqrt() + (1 - then).sqrt() * e).float()
    assert relative_error(x, case("pano")["ddim10_cfg9"][0]) < 2e-4


def test_the_hosts_own_samplers_give_the_identical_result(demo):
    import nodes
    from comfy_extras import nodes_custom_sampler as custom
    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model, cameras, positive, negative = demo
    expected = multi_view(*demo)
    patched, latent = ApplyCameras.execute(model, cameras, 1).args
    ksampler = nodes.common_ksampler(patched, SEED, 2, 3.0, "ddim", "ddim_uniform", positive, negative, latent)[0]
    assert torch.equal(ksampler["samples"], expected)

    guider = comfy_node(custom.CFGGuider, model=patched, positive=positive, negative=negative, cfg=3.0)
    sigmas = comfy_node(custom.BasicScheduler, model=patched, scheduler="ddim_uniform", steps=2, denoise=1.0)
    sampler = comfy_node(custom.KSamplerSelect, sampler_name="ddim")
    noise = comfy_node(custom.RandomNoise, noise_seed=SEED)
    advanced = comfy_node(
        custom.SamplerCustomAdvanced, noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
    )
    assert torch.equal(advanced["samples"], expected)


def comfy_node(node_class, **inputs):
    """The first output of a host node, whichever of the host's two node styles this version writes it in."""
    if hasattr(node_class, "execute") and hasattr(node_class, "define_schema"):
        return node_class.execute(**inputs).args[0]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)[0]


def test_result_is_finite_and_varied_and_follows_the_seed(demo):
    first = multi_view(*demo)
    assert torch.isfinite(first).all()
    assert first.std() > 0.1
    assert not torch.equal(first, multi_view(*demo, seed=SEED + 1))
    assert torch.equal(first, multi_view(*demo))


def test_strength_zero_is_bit_identical_to_the_plain_model(demo):
    from mvdiffusion_pack.host import run

    model, cameras, positive, negative = demo
    plain = plain_model(model)
    zero = run.with_blocks(model, model.get_additional_models_with_key(run.KEY)[0], 0.0)
    expected = multi_view(plain, cameras, positive, negative)
    assert torch.equal(multi_view(zero, cameras, positive, negative), expected)
    assert not torch.equal(multi_view(*demo), expected)


def plain_model(model):
    """A MODEL of the same UNet that no node of this pack has touched."""
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher(model.model, model.load_device, model.offload_device)


def test_strength_between_is_between(demo):
    from mvdiffusion_pack.host import run

    model, cameras, positive, negative = demo
    half = run.with_blocks(model, model.get_additional_models_with_key(run.KEY)[0], 0.5)
    result = multi_view(half, cameras, positive, negative)
    assert not torch.equal(result, multi_view(*demo))
    assert not torch.equal(result, multi_view(plain_model(model), cameras, positive, negative))


def test_model_without_blocks_is_sampled_with_one_warning(demo, caplog):
    model, cameras, positive, negative = demo
    multi_view(plain_model(model), cameras, positive, negative)
    assert sum("no MVDiffusion blocks" in record.message for record in caplog.records) == 1


def test_two_panoramas_at_once_equal_each_alone(demo):
    model, cameras, positive, negative = demo
    both = multi_view(*demo, panoramas=2)
    assert both.shape[0] == 2 * cameras.views
    first = multi_view(*demo)
    # The same noise for the first panorama: the host draws the batch's noise in order.
    assert relative_error(both[: cameras.views], first) < 1e-4


def test_latent_image_denoise_and_noise_mask_are_the_hosts(demo):
    from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

    model, cameras, positive, negative = demo
    start = torch.randn((4, 4, 8, 8), generator=torch.manual_seed(1))
    mask = torch.zeros((4, 64, 64))
    mask[:, :32] = 1
    (result,) = MultiViewKSampler.execute(
        model,
        cameras,
        positive,
        negative,
        SEED,
        4,
        3.0,
        "ddim",
        "ddim_uniform",
        0.5,
        1,
        {"samples": start, "noise_mask": mask},
    ).args
    assert relative_error(result["samples"][:, :, 4:], start[:, :, 4:]) < 1e-4
    assert relative_error(result["samples"][:, :, :4], start[:, :, :4]) > 1e-2


def test_prompt_per_view_reaches_its_view(demo):
    from mvdiffusion_pack.host import run

    model, cameras, _, negative = demo
    zero = run.with_blocks(model, model.get_additional_models_with_key(run.KEY)[0], 0.0)
    text = torch.randn((4, 77, 64), generator=torch.manual_seed(2))
    changed = text.clone()
    changed[2] += 1
    a, b = (multi_view(zero, cameras, [[rows, {}]], negative) for rows in (text, changed))
    assert [bool(torch.equal(a[view], b[view])) for view in range(4)] == [True, True, False, True]
    together = multi_view(model, cameras, [[changed, {}]], negative)
    assert not torch.equal(together[1], multi_view(model, cameras, [[text, {}]], negative)[1])


def test_one_view_is_the_plain_model(demo):
    from mvdiffusion_pack.geometry.layouts import ring

    model, _, positive, negative = demo
    alone = ring(1, 90, 64, 64)
    assert torch.equal(
        multi_view(model, alone, positive, negative), multi_view(plain_model(model), alone, positive, negative)
    )


def test_run_leaves_nothing_in_the_models_options(demo):
    from mvdiffusion_pack.host.inject import RUN

    model, *_ = demo
    multi_view(*demo)
    assert RUN not in model.model_options["transformer_options"]


def test_interrupt_passes_through(demo):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        multi_view(*demo)
    comfy.model_management.interrupt_current_processing(False)
