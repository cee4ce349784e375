"""Sampling all views together through the nodes, inside the real host."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import comfy_nodes
import pytest
import torch
from comfy_nodes import host_node
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
    return comfy_nodes.demo()


def test_steps_are_a_loop_over_the_hosts_sigmas(golden):
    import comfy.samplers

    from mvdiffusion_pack.host import inject, run, setup
    from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

    model, cond, uncond = golden
    cameras = case_cameras("pano")
    (latent,) = MultiViewKSampler.execute(
        model, cameras, cond, uncond, SEED, 4, 9.0, "ddim", "ddim_uniform", 1.0, 1
    ).args

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 4)
    caa = model.get_additional_models_with_key(setup.KEY)[0].model
    options = model.model_options["transformer_options"] | {inject.RUN: run.Run(cameras, caa, 1.0)}
    inject.inject(model)

    def noise_of(x, sigma, context):
        timestep = sampling.timestep(sigma).float().expand(len(x))
        scaled = x / (sigma**2 + 1) ** 0.5
        return model.model.diffusion_model(scaled, timestep, context[0][0], transformer_options=options)

    with torch.inference_mode():
        x = torch.randn((8, 4, 16, 16), generator=torch.manual_seed(SEED)) * sigmas[0]
        x = x * (1 + 1 / sigmas[0] ** 2) ** 0.5 if sigmas[0] >= sampling.sigma_max * 0.99999 else x
        for sigma, following in itertools.pairwise(sigmas):
            without, with_text = noise_of(x, sigma, uncond), noise_of(x, sigma, cond)
            x = x + (without + 9.0 * (with_text - without)) * (following - sigma)
    expected = model.model.process_latent_out(x)
    assert relative_error(latent["samples"], expected) < 2e-4


def test_published_loop_is_the_recorded_one(golden):
    from mvdiffusion_pack.host import inject, run, setup

    model, cond, uncond = golden
    caa = model.get_additional_models_with_key(setup.KEY)[0].model
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

    expected = demo.sample()
    model, latent = ApplyCameras.execute(demo.model, demo.cameras, 1).args
    conditionings = {"positive": demo.positive, "negative": demo.negative}
    ksampler = nodes.common_ksampler(model, SEED, 2, 3.0, "ddim", "ddim_uniform", *conditionings.values(), latent)[0]
    assert torch.equal(ksampler["samples"], expected)

    advanced = host_node(
        custom.SamplerCustomAdvanced,
        noise=host_node(custom.RandomNoise, noise_seed=SEED),
        guider=host_node(custom.CFGGuider, model=model, cfg=3.0, **conditionings),
        sampler=host_node(custom.KSamplerSelect, sampler_name="ddim"),
        sigmas=host_node(custom.BasicScheduler, model=model, scheduler="ddim_uniform", steps=2, denoise=1.0),
        latent_image=latent,
    )
    assert torch.equal(advanced["samples"], expected)


def test_result_is_finite_and_varied_and_follows_the_seed(demo):
    first = demo.sample()
    assert torch.isfinite(first).all()
    assert first.std() > 0.1
    assert not torch.equal(first, demo.sample(seed=SEED + 1))
    assert torch.equal(first, demo.sample())


def at_strength(demo, strength: float):
    from mvdiffusion_pack.host import begin, setup

    return begin.with_blocks(demo.model, demo.model.get_additional_models_with_key(setup.KEY)[0], strength)


def test_strength_zero_is_bit_identical_to_the_plain_model(demo):
    expected = demo.sample(demo.without_blocks)
    assert torch.equal(demo.sample(at_strength(demo, 0.0)), expected)
    assert not torch.equal(demo.sample(), expected)


def test_strength_blends_between_the_plain_features_and_the_blocks(demo):
    from mvdiffusion_pack.host import run, setup

    caa = demo.model.get_additional_models_with_key(setup.KEY)[0].model
    x = torch.randn((4, 64, 8, 8), generator=torch.manual_seed(3))
    with torch.inference_mode():
        zero, half, one = (run.Run(demo.cameras, caa, s).apply("encoder.0", x) for s in (0.0, 0.5, 1.0))
    assert torch.equal(zero, x) and not torch.equal(one, x)
    assert relative_error(half, (x + one) / 2) < 1e-6


def test_plain_attention_rules_the_fast_way_out(demo, monkeypatch):
    from mvdiffusion_pack.caa import blocks
    from mvdiffusion_pack.host import begin, setup

    expected = demo.sample()
    patcher = demo.model.get_additional_models_with_key(setup.KEY)[0]
    monkeypatch.setattr(blocks, "attend_fast", lambda *_: pytest.fail("the fast way was taken"))
    plainly = demo.sample(begin.with_blocks(demo.model, patcher, 1.0, "plain"))
    assert not torch.equal(plainly, expected)
    assert relative_error(plainly, expected) < 1e-4


def test_attention_by_torch_rules_compiled_kernels_out(demo, monkeypatch):
    from mvdiffusion_pack.caa.attention import fast
    from mvdiffusion_pack.host import begin, setup

    asked, expected = [], demo.sample()
    patcher = demo.model.get_additional_models_with_key(setup.KEY)[0]
    monkeypatch.setattr(fast, "attend_compiled", lambda *_: asked.append(1))
    assert torch.equal(demo.sample(begin.with_blocks(demo.model, patcher, 1.0, "torch")), expected)
    assert not asked
    demo.sample(begin.with_blocks(demo.model, patcher, 1.0, "auto"))
    assert asked


@pytest.mark.parametrize("attention", ["auto", "plain"])
def test_little_free_memory_changes_nothing_but_the_pieces(demo, monkeypatch, attention):
    from mvdiffusion_pack.caa.attention.memory import Memory
    from mvdiffusion_pack.host import begin, run, setup

    patcher, free_bytes = demo.model.get_additional_models_with_key(setup.KEY)[0], []
    model = begin.with_blocks(demo.model, patcher, 1.0, attention)
    expected = demo.sample(model)

    def within(free: int, on_cpu: bool, free_on_cpu: int) -> Memory:
        free_bytes.append(free)
        return Memory.within(2**20, on_cpu, 2**20)

    monkeypatch.setattr(run, "Memory", SimpleNamespace(within=within))
    assert relative_error(demo.sample(model), expected) < 1e-4
    assert len(free_bytes) == 1 and free_bytes[0] > 2**26


def test_a_second_queue_finds_all_that_follows_from_cameras_made(demo, monkeypatch):
    from mvdiffusion_pack.caa.attention import tables
    from mvdiffusion_pack.geometry import panorama_views

    first = demo.sample()
    for module, name in ((tables, "_codes"), (panorama_views, "panorama_correspondences")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
    assert torch.equal(demo.sample(), first)


def test_model_without_blocks_is_sampled_with_one_warning(demo, caplog):
    demo.sample(demo.without_blocks)
    assert sum("no MVDiffusion blocks" in record.message for record in caplog.records) == 1


def test_two_panoramas_at_once_equal_each_alone(demo):
    # The host draws the batch's noise in order: the first panorama gets the noise that it gets alone.
    assert relative_error(demo.sample(panoramas=2)[: demo.cameras.views], demo.sample()) < 1e-4


def test_latent_image_denoise_and_noise_mask_are_the_hosts(demo):
    start = torch.randn((4, 4, 8, 8), generator=torch.manual_seed(1))
    mask = torch.zeros((4, 64, 64))
    mask[:, :32] = 1
    result = demo.sample(steps=4, denoise=0.5, latent_image={"samples": start, "noise_mask": mask})
    assert relative_error(result[:, :, 4:], start[:, :, 4:]) < 1e-4
    assert relative_error(result[:, :, :4], start[:, :, :4]) > 1e-2


def test_one_view_is_made_anew_and_the_others_stay(demo):
    import nodes

    with torch.inference_mode():
        views = nodes.VAEDecode().decode(demo.vae, {"samples": demo.sample()})[0]
        start = nodes.VAEEncode().encode(demo.vae, views)[0]
    masks = torch.zeros((4, 64, 64))
    masks[2] = 1
    latent = nodes.SetLatentNoiseMask().set_mask(start, masks)[0]
    first, second = (demo.sample(steps=4, seed=seed, latent_image=latent) for seed in (SEED, SEED + 1))
    for result in (first, second):
        kept = [relative_error(result[view], start["samples"][view]) for view in range(4)]
        assert max(kept[:2] + kept[3:]) < 1e-4 and kept[2] > 0.1
    assert relative_error(first[2], second[2]) > 0.1
    # It is made for the views beside it.
    other = {"samples": start["samples"].clone(), "noise_mask": latent["noise_mask"]}
    other["samples"][1] *= -1
    assert relative_error(demo.sample(steps=4, latent_image=other)[2], first[2]) > 1e-3


def test_prompt_per_view_reaches_its_view(demo):
    text = torch.randn((4, 77, 64), generator=torch.manual_seed(2))
    changed = text.clone()
    changed[2] += 1
    a, b = (demo.sample(demo.without_blocks, positive=[[rows, {}]]) for rows in (text, changed))
    assert [bool(torch.equal(a[view], b[view])) for view in range(4)] == [True, True, False, True]
    # With the blocks its neighbours see it too.
    a, b = (demo.sample(positive=[[rows, {}]]) for rows in (text, changed))
    assert not torch.equal(a[1], b[1])


def test_one_view_is_the_plain_model(demo):
    from mvdiffusion_pack.geometry.layouts import ring

    alone = ring(1, 90, 64, 64)
    assert torch.equal(demo.sample(cameras=alone), demo.sample(demo.without_blocks, cameras=alone))


def test_run_leaves_nothing_in_the_models_options(demo):
    from mvdiffusion_pack.host.inject import RUN

    demo.sample()
    assert RUN not in demo.model.model_options["transformer_options"]


def test_interrupt_passes_through(demo):
    import comfy.model_management as management
    import comfy.utils

    # As main.py does: older hosts look for interrupts when progress is reported, and nowhere else.
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda *args, **kw: management.throw_exception_if_processing_interrupted())
    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            demo.sample()
    finally:
        management.interrupt_current_processing(False)
        comfy.utils.set_progress_bar_global_hook(hook)
