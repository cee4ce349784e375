"""Given images through the nodes: the recorded outpainting case, every sampler of the host, several panoramas."""

from __future__ import annotations

import itertools

import comfy_nodes
import pytest
import torch
from comfy_nodes import host_node
from golden_model import case, case_cameras, golden_caa, golden_model

pytestmark = pytest.mark.host
SEED = 7
VIEWS = 4


@pytest.fixture(autouse=True)
def _inference_mode():
    """As the host's executor runs nodes."""
    with torch.inference_mode():
        yield


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


class Recorded:
    """The recorded outpainting model with its blocks, and its conditionings as InpaintModelConditioning makes them."""

    def __init__(self) -> None:
        from mvdiffusion_pack.host.weights import attach_weights

        self.model = attach_weights(golden_model("outpaint", 9), lambda: golden_caa("outpaint"), 1.0)
        self.cameras = case_cameras("outpaint")
        self.data = {name: tensor[0] for name, tensor in case("outpaint").items()}
        self.given = {
            "concat_latent_image": self.model.model.process_latent_out(self.data["masked_image_latents"]),
            "concat_mask": self.data["mask"].repeat_interleave(8, 2).repeat_interleave(8, 3),
        }
        self.cond, self.uncond = ([[self.data[name], self.given]] for name in ("cond", "uncond"))
        self.sampling = self.model.get_model_object("model_sampling")

    def euler(self, guider, timesteps, end: float | None = None) -> torch.Tensor:
        """The recorded latents through SamplerCustomAdvanced over the sigmas of `timesteps`, and then to sigma `end`.

        In and out as the published loop has them, x / sqrt(1 + sigma^2) of the host's.
        """
        from comfy_extras import nodes_custom_sampler as custom

        sigmas = self.sampling.sigma(torch.tensor(timesteps))
        if end is not None:
            sigmas = torch.cat((sigmas, torch.tensor([end])))
        start, stop = sigmas[0], sigmas[-1]
        result = host_node(
            custom.SamplerCustomAdvanced,
            noise=GivenNoise(self.data["latents"] * (1 + start**2) ** 0.5 / start),
            guider=guider,
            sampler=host_node(custom.KSamplerSelect, sampler_name="euler"),
            sigmas=sigmas,
            latent_image={"samples": torch.zeros((8, 4, 16, 16))},
        )
        return self.model.model.process_latent_in(result["samples"]) / (1 + stop**2) ** 0.5


class GivenNoise:
    """A NOISE of the host that is known."""

    seed = SEED

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise = noise

    def generate_noise(self, latent: dict) -> torch.Tensor:
        return self.noise


@pytest.fixture(scope="module")
def recorded(comfy) -> Recorded:
    return Recorded()


def test_one_step_through_the_hosts_inputs_is_the_recorded_forward_pass(recorded):
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model = ApplyCameras.execute(recorded.model, recorded.cameras, 1).args[0]
    guider = host_node(custom.BasicGuider, model=model, conditioning=recorded.cond)
    timestep = int(recorded.data["timestep"][0])
    denoised = recorded.euler(guider, [timestep], end=0.0)
    sigma = recorded.sampling.sigma(torch.tensor(timestep))
    eps = (recorded.data["latents"] * (1 + sigma**2) ** 0.5 - denoised) / sigma
    assert relative_error(eps, recorded.data["eps"]) < 1e-4


def test_ten_published_steps_through_the_hosts_sampler_are_the_recorded_ones(recorded):
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model = ApplyCameras.execute(recorded.model, recorded.cameras, 1).args[0]
    guider = host_node(custom.CFGGuider, model=model, positive=recorded.cond, negative=recorded.uncond, cfg=9.0)
    # DDIM without noise is Euler's method over sigmas; the published loop ends at the first noise level.
    result = recorded.euler(guider, [*range(901, 0, -100), 0])
    assert relative_error(result, recorded.data["ddim10_cfg9"]) < 2e-4


def test_ten_steps_of_the_node_are_a_loop_that_feeds_nine_channels(recorded):
    import comfy.samplers

    from mvdiffusion_pack.host import inject, run, setup
    from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

    model, data, sampling = recorded.model, recorded.data, recorded.sampling
    (latent,) = MultiViewKSampler.execute(
        model, recorded.cameras, recorded.cond, recorded.uncond, SEED, 10, 9.0, "ddim", "ddim_uniform", 1.0, 1
    ).args

    caa = model.get_additional_models_with_key(setup.KEY)[0].model
    options = model.model_options["transformer_options"] | {inject.RUN: run.Run(recorded.cameras, caa, 1.0)}
    inject.inject(model)

    def noise_of(x, sigma, context):
        timestep = sampling.timestep(sigma).float().expand(len(x))
        channels = torch.cat((x / (sigma**2 + 1) ** 0.5, data["mask"], data["masked_image_latents"]), dim=1)
        return model.model.diffusion_model(channels, timestep, context, transformer_options=options)

    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 10)
    x = torch.randn((8, 4, 16, 16), generator=torch.manual_seed(SEED)) * sigmas[0]
    for sigma, following in itertools.pairwise(sigmas):
        without, with_text = (noise_of(x, sigma, data[name]) for name in ("uncond", "cond"))
        x = x + (without + 9.0 * (with_text - without)) * (following - sigma)
    assert relative_error(latent["samples"], model.model.process_latent_out(x)) < 2e-4


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo("outpainting")


def pictures(seed: int = 1) -> torch.Tensor:
    return torch.rand((VIEWS, 64, 64, 3), generator=torch.manual_seed(seed))


def masks() -> torch.Tensor:
    """View 0 is given, of view 1 the left half, nothing of the others."""
    mask = torch.ones((VIEWS, 64, 64))
    mask[0], mask[1, :, :32] = 0, 0
    return mask


def conditioned(demo, pixels: torch.Tensor, mask: torch.Tensor, noise_mask: bool = False) -> tuple[list, list, dict]:
    """positive, negative and latent of the host's InpaintModelConditioning."""
    import nodes

    return nodes.InpaintModelConditioning().encode(demo.positive, demo.negative, pixels, demo.vae, mask, noise_mask)


def multi_view_ksampler(demo, positive, negative, latent) -> torch.Tensor:
    return demo.sample(positive=positive, negative=negative, latent_image=latent, sampler_name="euler")


def ksampler(demo, positive, negative, latent) -> torch.Tensor:
    import nodes

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model = ApplyCameras.execute(demo.model, demo.cameras, 1).args[0]
    return nodes.common_ksampler(model, SEED, 2, 3.0, "euler", "ddim_uniform", positive, negative, latent)[0]["samples"]


def custom_sampler(model, guider, latent) -> torch.Tensor:
    from comfy_extras import nodes_custom_sampler as custom

    return host_node(
        custom.SamplerCustomAdvanced,
        noise=host_node(custom.RandomNoise, noise_seed=SEED),
        guider=guider,
        sampler=host_node(custom.KSamplerSelect, sampler_name="euler"),
        sigmas=host_node(custom.BasicScheduler, model=model, scheduler="ddim_uniform", steps=2, denoise=1.0),
        latent_image=latent,
    )["samples"]


def with_guider(name: str):
    """A way to sample: SamplerCustomAdvanced with this guider of the host."""

    def sample(demo, positive, negative, latent) -> torch.Tensor:
        from comfy_extras import nodes_custom_sampler as custom

        from mvdiffusion_pack.nodes.sampling import ApplyCameras

        model = ApplyCameras.execute(demo.model, demo.cameras, 1).args[0]
        inputs = {
            "BasicGuider": dict(conditioning=positive),
            "CFGGuider": dict(positive=positive, negative=negative, cfg=3.0),
            "DualCFGGuider": dict(
                cond1=positive, cond2=positive, negative=negative, cfg_conds=2.0, cfg_cond2_negative=3.0, style="nested"
            ),
        }
        return custom_sampler(model, host_node(getattr(custom, name), model=model, **inputs[name]), latent)

    sample.__name__ = name
    return sample


WAYS = [multi_view_ksampler, ksampler, *map(with_guider, ("BasicGuider", "CFGGuider", "DualCFGGuider"))]


def numbered(latent: dict, panorama: int) -> dict:
    """A latent of one panorama that the host gives the noise of the panorama of this number in a batch."""
    return latent | {"batch_index": list(range(panorama * VIEWS, (panorama + 1) * VIEWS))}


def twice(latent: dict) -> dict:
    import nodes

    return nodes.RepeatLatentBatch().repeat(latent, 2)[0]


@pytest.mark.parametrize("noise_mask", [False, True])
@pytest.mark.parametrize("sample", WAYS, ids=lambda way: way.__name__)
def test_two_panoramas_at_once_equal_each_alone(demo, sample, noise_mask):
    positive, negative, latent = conditioned(demo, pictures(), masks(), noise_mask)
    both = sample(demo, positive, negative, twice(latent)).split(VIEWS)
    for panorama in range(2):
        alone = sample(demo, positive, negative, numbered(latent, panorama))
        assert relative_error(both[panorama], alone) < 1e-4


def rows_of(conditioning: list, order: list[int]) -> list:
    """The conditioning with its given images and masks in this order."""
    return [
        [text, options | {key: options[key][order] for key in ("concat_latent_image", "concat_mask")}]
        for text, options in conditioning
    ]


def test_rows_for_every_panorama_are_taken_in_their_order(demo):
    positive, negative, latent = conditioned(demo, pictures(), masks())
    expected = multi_view_ksampler(demo, positive, negative, twice(latent))

    def in_order(order: list[int]) -> torch.Tensor:
        return multi_view_ksampler(demo, rows_of(positive, order), rows_of(negative, order), twice(latent))

    assert torch.equal(in_order([0, 1, 2, 3, 0, 1, 2, 3]), expected)
    assert relative_error(in_order([0, 0, 1, 1, 2, 2, 3, 3]), expected) > 1e-2  # as the host stretches them


def test_each_view_gets_its_own_picture_and_mask(demo):
    latent = {"samples": torch.zeros((2 * VIEWS, 4, 8, 8))}

    def changed_views(pixels: torch.Tensor, mask: torch.Tensor) -> list[int]:
        """Without the blocks no view sees another."""
        before, after = (
            demo.sample(demo.without_blocks, positive=positive, negative=negative, latent_image=latent)
            for positive, negative, _ in (conditioned(demo, pictures(), masks()), conditioned(demo, pixels, mask))
        )
        return [view for view in range(2 * VIEWS) if not torch.equal(before[view], after[view])]

    other_picture, other_mask = pictures(), masks()
    other_picture[1] = 1 - other_picture[1]
    other_mask[2, 32:] = 0
    assert changed_views(other_picture, masks()) == [1, 5]
    assert changed_views(pictures(), other_mask) == [2, 6]


def test_entries_of_one_conditioning_keep_their_own_pictures(demo):
    first, negative, latent = conditioned(demo, pictures(1), masks())
    second, _, _ = conditioned(demo, pictures(2), masks())
    both = ksampler(demo, first + second, negative, twice(latent))[VIEWS:]
    assert relative_error(both, ksampler(demo, first + second, negative, numbered(latent, 1))) < 1e-4
    assert relative_error(both, ksampler(demo, first + first, negative, numbered(latent, 1))) > 1e-2


@pytest.mark.parametrize("panoramas", [1, 2])
def test_one_mask_serves_all_views(demo, panoramas):
    mask = masks()[1:2]
    one, four = (
        demo.sample(positive=positive, negative=negative, panoramas=panoramas)
        for positive, negative, _ in (conditioned(demo, pictures(), m) for m in (mask, mask.repeat(VIEWS, 1, 1)))
    )
    assert torch.equal(one, four)


def test_masks_of_other_nodes_may_lack_axes(demo):
    positive, negative, _ = conditioned(demo, pictures(), masks()[1:2])

    def with_mask(mask: torch.Tensor) -> torch.Tensor:
        changed = ([[c[0][0], c[0][1] | {"concat_mask": mask}]] for c in (positive, negative))
        return demo.sample(panoramas=2, **dict(zip(("positive", "negative"), changed, strict=True)))

    expected = demo.sample(positive=positive, negative=negative, panoramas=2)
    assert torch.equal(with_mask(masks()[1]), expected)
    assert torch.equal(with_mask(masks()[1].repeat(VIEWS, 1, 1)), expected)


def test_noise_mask_keeps_the_given_view(demo):
    positive, negative, latent = conditioned(demo, pictures(), masks(), noise_mask=True)
    kept = multi_view_ksampler(demo, positive, negative, latent)
    assert relative_error(kept[0], latent["samples"][0]) < 1e-6
    assert relative_error(kept[1, :, :, :4], latent["samples"][1, :, :, :4]) < 1e-6
    free = multi_view_ksampler(demo, positive, negative, {"samples": latent["samples"]})
    assert relative_error(free[0], latent["samples"][0]) > 1e-2


def test_every_view_follows_the_given_picture(demo):
    first, second = (
        demo.sample(steps=4, positive=positive, negative=negative)
        for positive, negative, _ in (conditioned(demo, p, masks()) for p in (pictures(), 1 - pictures()))
    )
    assert min(relative_error(*views) for views in zip(first, second, strict=True)) > 1e-3


def test_hidden_part_of_a_picture_does_not_matter(demo):
    mask = masks()
    grey = torch.where(mask[..., None] == 1, 0.5, pictures())
    first, second = (
        demo.sample(positive=positive, negative=negative)
        for positive, negative, _ in (conditioned(demo, p, mask) for p in (pictures(), grey))
    )
    assert torch.equal(first, second)


def test_run_leaves_the_conditionings_as_they_were(demo):
    positive, negative, latent = conditioned(demo, pictures(), masks())
    before = [
        (options, dict(options), {k: v.clone() for k, v in options.items() if torch.is_tensor(v)})
        for _, options in positive + negative
    ]
    multi_view_ksampler(demo, positive, negative, twice(latent))
    for options, items, values in before:
        assert options.keys() == items.keys()
        assert all(options[key] is items[key] for key in items)
        assert all(torch.equal(options[key], values[key]) for key in values)


def test_guider_that_ran_two_panoramas_can_run_one(demo):
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    positive, negative, latent = conditioned(demo, pictures(), masks())
    model = ApplyCameras.execute(demo.model, demo.cameras, 1).args[0]
    guiders = [
        host_node(custom.CFGGuider, model=model, positive=positive, negative=negative, cfg=3.0) for _ in range(2)
    ]
    custom_sampler(model, guiders[0], twice(latent))
    used, fresh = (custom_sampler(model, guider, latent) for guider in guiders)
    assert torch.equal(used, fresh)
