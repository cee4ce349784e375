"""The demo models inside the host: its own nodes sample, encode and decode with all three kinds."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.host

PANORAMA, DEPTH, OUTPAINTING = 4, 5, 9
FIRST_VALUES = [0.1577385515, -0.3053510487, -0.1693845093]


@pytest.fixture(autouse=True)
def _inference_mode():
    """As the host's executor runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def demo(comfy):
    from mvdiffusion_pack.host import demo

    return demo


@pytest.fixture(scope="module")
def panorama(demo):
    return demo.demo_models(PANORAMA)


@pytest.fixture(scope="module")
def outpainting(demo):
    return demo.demo_models(OUTPAINTING)


def prompt(clip, text: str) -> list:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def sample(model, positive, negative, height: int, width: int, seed: int = 1, views: int = 2) -> torch.Tensor:
    """Two steps of the host's KSampler node; sizes in pixels."""
    import nodes

    latent = {"samples": torch.zeros(views, 4, height // 8, width // 8)}
    return nodes.common_ksampler(model, seed, 2, 4.0, "ddim", "ddim_uniform", positive, negative, latent)[0]["samples"]


@pytest.mark.parametrize("in_channels", [PANORAMA, DEPTH, OUTPAINTING])
def test_every_kind_has_a_unet_of_its_input_channels(demo, in_channels):
    model, _, _ = demo.demo_models(in_channels)
    unet = model.model.diffusion_model
    # At 64 x 64 pixels the last level is 1 x 1.
    x, context = torch.randn(2, in_channels, 8, 8), torch.randn(2, 77, demo.CONTEXT_WIDTH)
    noise = unet(x, torch.full((2,), 500.0), context)
    assert noise.shape == (2, 4, 8, 8)
    assert noise.isfinite().all()
    assert 0.1 < noise.std() < 10


def test_another_number_of_channels_is_named(demo):
    with pytest.raises(ValueError, match="not 8"):
        demo.demo_models(8)


def test_the_same_model_twice_is_bit_identical(demo, panorama):
    again = demo.demo_models(PANORAMA)
    for first, second in zip(panorama, again, strict=True):
        first, second = (getattr(part, "patcher", part).model.state_dict() for part in (first, second))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_weights_are_those_of_the_frozen_stream(panorama):
    """The first values as drawn when the stream was fixed: they must be the same on every machine."""
    weight = panorama[0].model.diffusion_model.state_dict()["input_blocks.0.0.weight"]
    torch.testing.assert_close(weight[0, 0, 0].float(), torch.tensor(FIRST_VALUES), rtol=1e-6, atol=0)


def test_no_parameter_is_left_at_zero(panorama):
    """Output layers that SD starts at zero included: a constant picture would show nothing."""
    for part in panorama:
        weights = getattr(part, "patcher", part).model.state_dict()
        assert [key for key, value in weights.items() if not value.any()] == []


def test_noise_prediction_and_latents_are_those_of_sd2(comfy, panorama):
    import comfy.latent_formats
    import comfy.model_base

    model = panorama[0].model
    assert model.model_type == comfy.model_base.ModelType.EPS
    assert isinstance(model.latent_format, comfy.latent_formats.SD15)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192)])
def test_the_hosts_sampler_runs(panorama, height, width):
    model, clip, _ = panorama
    latents = sample(model, prompt(clip, "a red house"), prompt(clip, ""), height, width)
    assert latents.shape == (2, 4, height // 8, width // 8)
    assert latents.isfinite().all()
    assert latents.std(dim=(2, 3)).min() > 0.1


def test_seed_and_prompt_change_the_result_and_nothing_else_does(panorama):
    model, clip, _ = panorama
    house, sea, empty = (prompt(clip, text) for text in ("a red house", "the sea at night", ""))
    first = sample(model, house, empty, 64, 64)
    assert torch.equal(sample(model, house, empty, 64, 64), first)
    assert (sample(model, house, empty, 64, 64, seed=2) - first).abs().mean() > 0.1
    assert (sample(model, sea, empty, 64, 64) - first).abs().mean() > 0.1


@pytest.mark.parametrize(("text", "tokens"), [("", 77), ("a red house", 77), ("a red house on a hill, " * 20, 154)])
def test_prompts_of_any_length_are_encoded(demo, panorama, text, tokens):
    [[cond, extra]] = prompt(panorama[1], text)
    assert cond.shape == (1, tokens, demo.CONTEXT_WIDTH)
    assert extra["pooled_output"].shape == (1, demo.CONTEXT_WIDTH)
    assert cond.isfinite().all()


def test_the_hosts_text_node_weighs_words(panorama):
    import nodes

    plain, weighted = (nodes.CLIPTextEncode().encode(panorama[1], text)[0] for text in ("a house", "a (house:1.5)"))
    assert not torch.equal(plain[0][0], weighted[0][0])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192)])
def test_latents_become_smooth_colours(panorama, height, width):
    pictures = panorama[2].decode(torch.randn(2, 4, height // 8, width // 8, generator=torch.manual_seed(0)))
    assert pictures.shape == (2, height, width, 3)
    assert 0 <= pictures.min() and pictures.max() <= 1
    assert pictures.std(dim=(1, 2)).min() > 0.05
    step = pictures.diff(dim=2).square().mean().sqrt()
    assert step < 0.3 * pictures.std()  # noise in every pixel: 1.4 times


def test_pictures_become_latents(panorama):
    pictures = torch.rand(2, 128, 192, 3, generator=torch.manual_seed(0))
    latents = panorama[2].encode(pictures)
    assert latents.shape == (2, 4, 16, 24)
    assert latents.isfinite().all()
    assert latents.std() > 0.01


def test_tiled_decoding_gives_the_whole_picture(panorama):
    vae = panorama[2]
    latents = torch.randn(1, 4, 16, 24, generator=torch.manual_seed(0))
    tiled = vae.decode_tiled(latents, tile_x=16, tile_y=16, overlap=4)
    assert tiled.shape == (1, 128, 192, 3)
    # Group norms see one tile at a time, so the two agree only roughly.
    assert torch.stack([tiled.flatten(), vae.decode(latents).flatten()]).corrcoef()[0, 1] > 0.7


def test_the_hosts_inpainting_conditioning_reaches_the_outpainting_unet(outpainting):
    import nodes

    model, clip, vae = outpainting
    pictures, mask = torch.rand(2, 64, 64, 3, generator=torch.manual_seed(0)), torch.ones(2, 64, 64)
    mask[0] = 0  # the first view is given

    def result(pictures):
        conds = nodes.InpaintModelConditioning().encode(
            prompt(clip, "a red house"), prompt(clip, ""), pictures, vae, mask, noise_mask=False
        )
        return sample(model, conds[0], conds[1], 64, 64)

    latents = result(pictures)
    assert latents.isfinite().all()
    assert (result(1 - pictures)[0] - latents[0]).abs().mean() > 0.01


def test_newer_hosts_can_build_a_fresh_copy(panorama):
    """A second GPU and LoRA hooks without dynamic VRAM ask for one."""
    for part in panorama:
        patcher = getattr(part, "patcher", part)
        factory, arguments, index = patcher.cached_patcher_init
        fresh = factory(*arguments, disable_dynamic=False)[index]
        assert type(fresh) is type(patcher)
        assert fresh.model is not patcher.model
        assert fresh.model.state_dict().keys() == patcher.model.state_dict().keys()
