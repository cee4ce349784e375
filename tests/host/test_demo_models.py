"""The demo model inside the host: its own nodes sample, encode and decode with all three kinds."""

from __future__ import annotations

import logging

import pytest
import torch

from mvdiffusion_pack.caa.weights.kinds import KINDS, OUTPAINTING, PANORAMA

pytestmark = pytest.mark.host

CONTEXT_WIDTH = 64
ASKED = "a room with a red sofa and a wooden table, blue walls, wooden floor"


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


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_has_a_unet_of_its_input_channels(demo, kind):
    model, _, _ = demo.demo_models(kind)
    unet = model.model.diffusion_model
    x, context = torch.randn(2, kind.in_channels, 8, 8), torch.randn(2, 77, CONTEXT_WIDTH)
    noise = unet(x, torch.full((2,), 500.0), context)
    assert noise.shape == (2, 4, 8, 8)
    assert noise.isfinite().all()
    assert 0.1 < noise.std() < 10


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_blocks_are_trained_and_fit_the_unet(demo, kind):
    from mvdiffusion_pack.host.inject import unet_widths

    blocks = demo.demo_blocks(kind)
    assert blocks.kind is kind
    assert blocks.widths == unet_widths(demo.demo_models(kind)[0].model.diffusion_model)
    outward = [key for key in blocks.tensors if key.endswith(("to_out.weight", "net.2.weight", "conv2.weight"))]
    assert outward and all(blocks.tensors[key].any() for key in outward)  # at zero a block changes nothing


def test_the_kinds_differ_in_their_first_convolution_alone(demo, panorama, outpainting):
    first = "input_blocks.0.0."
    one, other = (models[0].model.diffusion_model.state_dict() for models in (panorama, outpainting))
    different = {key for key in one if one[key].shape != other[key].shape or not torch.equal(one[key], other[key])}
    assert different == {first + "weight", first + "bias"}


def test_the_same_model_twice_is_bit_identical(demo, panorama):
    again = demo.demo_models(PANORAMA)
    for first, second in zip(panorama, again, strict=True):
        first, second = (getattr(part, "patcher", part).model.state_dict() for part in (first, second))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_no_parameter_is_left_at_zero(panorama):
    """Output layers that SD starts at zero included. The host's last text layer, which is not read, is of zeros."""
    unread = "encoder.layers.2."
    for part in panorama:
        weights = getattr(part, "patcher", part).model.state_dict()
        assert [key for key, value in weights.items() if not value.any() and unread not in key] == []


def test_noise_prediction_and_latents_are_those_of_sd2(comfy, panorama):
    import comfy.latent_formats
    import comfy.model_base

    model = panorama[0].model
    assert model.model_type == comfy.model_base.ModelType.EPS
    assert isinstance(model.latent_format, comfy.latent_formats.SD15)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192)])
def test_the_hosts_sampler_runs(panorama, height, width):
    model, clip, _ = panorama
    latents = sample(model, prompt(clip, ASKED), prompt(clip, ""), height, width)
    assert latents.shape == (2, 4, height // 8, width // 8)
    assert latents.isfinite().all()
    assert latents.std(dim=(2, 3)).min() > 0.1


def test_words_that_it_does_not_know_are_named_once_and_passed_over(demo, caplog):
    _, clip, _ = demo.demo_models(PANORAMA)
    with caplog.at_level(logging.INFO, "MVDiffusion"):
        conds = [prompt(clip, text)[0][0] for text in [f"a room with a {it}, blue walls" for it in ("zebra", "hippo")]]
        prompt(clip, "a room with a zebra")
    assert [record.getMessage() for record in caplog.records] == [
        f"The demo model does not know '{word}': it passes them over." for word in ("zebra", "hippo")
    ]
    assert torch.equal(*conds)  # they mean the same: nothing
    assert not torch.equal(conds[0], prompt(clip, "a room with a sofa, blue walls")[0][0])


def test_one_line_names_all_words_of_a_prompt_that_it_does_not_know(demo, caplog):
    _, clip, _ = demo.demo_models(PANORAMA)
    with caplog.at_level(logging.INFO, "MVDiffusion"):
        prompt(clip, "A (zebra:1.2), two Zebras and 3 red sofas in front of striped walls")
    (record,) = caplog.records
    assert "'zebra', 'zebras', 'in', 'front'" in record.getMessage()
    assert not any(word in record.getMessage() for word in ("sofas", "walls", "1", "3"))


def test_it_knows_all_that_captions_say(demo, caplog):
    from mvdiffusion_pack.scenes.room import random_room

    _, clip, _ = demo.demo_models(PANORAMA)
    things = {name for seed in range(50) for name in random_room(seed).names} - {"ceiling"}
    with caplog.at_level(logging.INFO, "MVDiffusion"):
        for text in (ASKED, "an empty part of a room", "two sofas and three tables", *things):
            prompt(clip, text)
    assert [record.getMessage() for record in caplog.records] == []


def test_seed_and_prompt_change_the_result_and_nothing_else_does(panorama):
    model, clip, _ = panorama
    sofa, bed, empty = (prompt(clip, text) for text in (ASKED, "a room with a green bed, white walls", ""))
    first = sample(model, sofa, empty, 64, 64)
    assert torch.equal(sample(model, sofa, empty, 64, 64), first)
    assert (sample(model, sofa, empty, 64, 64, seed=2) - first).abs().mean() > 0.1
    assert (sample(model, bed, empty, 64, 64) - first).abs().mean() > 0.1


@pytest.mark.parametrize(("text", "tokens"), [("", 77), (ASKED, 77), ("a red sofa on a hill, " * 20, 154)])
def test_prompts_of_any_length_are_encoded(panorama, text, tokens):
    [[cond, extra]] = prompt(panorama[1], text)
    assert cond.shape == (1, tokens, CONTEXT_WIDTH)
    assert extra["pooled_output"].shape == (1, CONTEXT_WIDTH)
    assert cond.isfinite().all()


def test_the_hosts_text_node_weighs_words(panorama):
    import nodes

    plain, weighted = (nodes.CLIPTextEncode().encode(panorama[1], text)[0] for text in ("a sofa", "a (sofa:1.5)"))
    assert not torch.equal(plain[0][0], weighted[0][0])


def room(height: int, width: int) -> torch.Tensor:
    """(2, height, width, 3) views of a room that the model was not trained on."""
    from mvdiffusion_pack.scenes.render import render
    from mvdiffusion_pack.scenes.room import random_room
    from mvdiffusion_pack.scenes.viewpoints import panorama_cameras

    of = random_room(3)
    return render(of, panorama_cameras(of, 3, 2, 90.0, width, height), 2).images


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 192)])
def test_pictures_come_back_from_their_latents(panorama, height, width):
    pictures, vae = room(height, width), panorama[2]
    latents = vae.encode(pictures)
    assert latents.shape == (2, 4, height // 8, width // 8)
    back = vae.decode(latents)
    assert 0 <= back.min() and back.max() <= 1
    assert (back - pictures).square().mean() < 0.01  # 20 dB
    # As the host's latent format and the UNet expect them.
    scaled = panorama[0].model.process_latent_in(latents)
    assert scaled.mean().abs() < 0.5 and 0.5 < scaled.std() < 1.5


def test_tiled_decoding_gives_the_whole_picture(panorama):
    vae = panorama[2]
    latents = vae.encode(room(128, 192))[:1]
    tiled = vae.decode_tiled(latents, tile_x=16, tile_y=16, overlap=4)
    assert tiled.shape == (1, 128, 192, 3)
    # Group norms see one tile at a time, so the two agree only roughly.
    assert torch.stack([tiled.flatten(), vae.decode(latents).flatten()]).corrcoef()[0, 1] > 0.9


def test_the_hosts_inpainting_conditioning_reaches_the_outpainting_unet(outpainting):
    import nodes

    model, clip, vae = outpainting
    pictures, mask = torch.rand(2, 64, 64, 3, generator=torch.manual_seed(0)), torch.ones(2, 64, 64)
    mask[0] = 0  # the first view is given

    def result(pictures):
        conds = nodes.InpaintModelConditioning().encode(
            prompt(clip, ASKED), prompt(clip, ""), pictures, vae, mask, noise_mask=False
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
