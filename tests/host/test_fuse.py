"""Fuse Views inside the real host: what it does to a run, and to which runs."""

from __future__ import annotations

import comfy_nodes
import pytest
import small_bases
import torch
from wall import along_a_wall

from mvdiffusion_pack.geometry.agreement import agreement
from mvdiffusion_pack.geometry.layouts import ring

pytestmark = pytest.mark.host
ALL = {"panoramas": 1, "strength": 1.0, "start": 0.0, "end": 1.0}


@pytest.fixture(scope="module")
def demo(comfy):
    demo = comfy_nodes.demo()
    demo.steps = 5
    return demo


def fusing(model, cameras, **changes):
    """The MODEL of Fuse Views, in every step at full strength unless changed."""
    from mvdiffusion_pack.nodes.fusing import FuseViews

    return FuseViews.execute(model, cameras, **(ALL | changes)).args[0]


def decibels(demo, latents: torch.Tensor, cameras=None) -> float:
    with torch.inference_mode():
        return agreement(demo.vae.decode(latents), cameras or demo.cameras).psnr


@pytest.fixture(scope="module")
def plain(demo) -> torch.Tensor:
    return demo.sample(demo.without_blocks)


# ---- What it does


def test_views_of_a_model_without_blocks_agree(demo, plain):
    fused = demo.sample(fusing(demo.without_blocks, demo.cameras))
    assert decibels(demo, fused) > decibels(demo, plain) + 5


def test_pictures_agree_even_more(demo):
    latents, pictures = (demo.sample(fusing(demo.without_blocks, demo.cameras, vae=vae)) for vae in (None, demo.vae))
    assert decibels(demo, pictures) > decibels(demo, latents) + 2


@pytest.mark.parametrize("scheduler", ["normal", "karras"])
def test_the_last_fifth_of_the_steps_shares_pictures(demo, scheduler):
    counting = CountingVAE(demo.vae)
    demo.sample(fusing(demo.without_blocks, demo.cameras, vae=counting), sampler_name="euler", scheduler=scheduler)
    assert counting.decoded == 1  # of five


def test_a_second_queue_finds_what_views_share_made(demo, monkeypatch):
    from mvdiffusion_pack.host import fuse

    model = fusing(demo.without_blocks, demo.cameras, noise="shared", vae=demo.vae)
    first = demo.sample(model)
    for module, name in ((fuse, "shared_reads"), (fuse, "picture_reads"), (fuse.SharedNoise, "of")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("made again"))
    assert torch.equal(demo.sample(model), first)


def test_it_comes_on_top_of_the_blocks(demo):
    blocks, fused = demo.sample(), demo.sample(fusing(demo.model, demo.cameras))
    assert not torch.equal(fused, demo.sample(fusing(demo.without_blocks, demo.cameras)))
    assert decibels(demo, fused) > decibels(demo, blocks) + 2


@pytest.mark.parametrize(
    "changes", [{"strength": 0.0}, {"strength": 0.0, "noise": "shared"}, {"end": 0.0}], ids=["0", "noise", "end"]
)
def test_nothing_fused_is_the_plain_run(demo, plain, changes):
    assert torch.equal(demo.sample(fusing(demo.without_blocks, demo.cameras, **changes)), plain)


def test_strength_0_with_a_vae_is_the_plain_run(demo, plain):
    assert torch.equal(demo.sample(fusing(demo.without_blocks, demo.cameras, strength=0.0, vae=demo.vae)), plain)


def test_one_view_is_untouched(demo):
    one = ring(1, 90, 64, 64)
    model = fusing(demo.without_blocks, one, vae=demo.vae)
    assert torch.equal(demo.sample(model, cameras=one), demo.sample(demo.without_blocks, cameras=one))


def test_strength_start_and_end_make_it_less(demo, plain):
    full = decibels(demo, demo.sample(fusing(demo.without_blocks, demo.cameras)))
    for changes in ({"strength": 0.3}, {"start": 0.7}, {"end": 0.3}):
        part = demo.sample(fusing(demo.without_blocks, demo.cameras, **changes))
        assert not torch.equal(part, plain) and decibels(demo, part) < full - 0.5


@pytest.mark.parametrize("noise", ["own", "shared"])
def test_two_panoramas_are_two_runs(demo, noise):
    import comfy.sample

    model = fusing(demo.without_blocks, demo.cameras, noise=noise, vae=demo.vae)
    start = torch.randn((8, 4, 8, 8), generator=torch.manual_seed(3))

    def made(noise: torch.Tensor) -> torch.Tensor:
        settings = (3, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative)
        return comfy.sample.sample(model, noise, *settings, torch.zeros_like(noise), disable_pbar=True, seed=1)

    assert (made(start) - torch.cat([made(half) for half in start.split(4)])).abs().max() < 1e-3


def test_shared_noise_is_the_same_for_the_same_seed_alone(demo):
    model = fusing(demo.without_blocks, demo.cameras, noise="shared")
    first = demo.sample(model)
    assert torch.equal(first, demo.sample(model)) and not torch.equal(first, demo.sample(model, seed=8))
    assert not torch.equal(first, demo.sample(fusing(demo.without_blocks, demo.cameras)))


def test_a_run_without_noise_stays_without():
    from mvdiffusion_pack.host.fuse import agreeing_noise

    assert not agreeing_noise(torch.zeros(4, 4, 8, 8), ring(4, 120, 64, 64)).any()


def test_models_that_a_vae_puts_out_of_memory_come_back(demo):
    import comfy.model_management

    model = fusing(demo.model, demo.cameras, vae=demo.vae)
    expected = demo.sample(model)
    greedy = GreedyVAE(demo.vae, comfy.model_management.unload_all_models)
    assert torch.equal(demo.sample(fusing(demo.model, demo.cameras, vae=greedy)), expected)
    assert greedy.used  # not a copy of it, either


class CountingVAE:
    """decoded: how often it was asked to."""

    def __init__(self, vae) -> None:
        self.vae, self.decoded, self.encode = vae, 0, vae.encode

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decoded += 1
        return self.vae.decode(latents)


class GreedyVAE:
    """A VAE for which the host had to unload all other models."""

    def __init__(self, vae, unload) -> None:
        self.vae, self.unload, self.used = vae, unload, False

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.used = True
        self.unload()
        return self.vae.decode(latents)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(images)


def test_run_leaves_nothing_behind(demo):
    from mvdiffusion_pack.host.fuse import FUSER

    model = fusing(demo.without_blocks, demo.cameras)
    demo.sample(model)
    assert FUSER not in model.model_options["transformer_options"]


# ---- To which runs


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "euler_cfg_pp", "uni_pc", "lcm"])
def test_any_sampler(demo, sampler):
    settings = {"sampler_name": sampler, "scheduler": "normal", "steps": 8}
    apart, fused = (
        decibels(demo, demo.sample(model, **settings))
        for model in (demo.without_blocks, fusing(demo.without_blocks, demo.cameras))
    )
    assert fused > apart + 3


def test_guidance_1(demo):
    assert decibels(demo, demo.sample(fusing(demo.without_blocks, demo.cameras), cfg=1.0)) > 20


@pytest.mark.parametrize("kind", ["cfg", "perpendicular", "dual"])
def test_any_guider_of_the_host(demo, kind):
    model = fusing(demo.without_blocks, demo.cameras)
    assert decibels(demo, guided(demo, guider_of(kind, model, demo))) > 20


def guider_of(kind: str, model, demo):
    from comfy.samplers import CFGGuider
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    if kind == "perpendicular":
        guider = Guider_PerpNeg(model)
        guider.set_conds(demo.positive, demo.negative, demo.negative)
        guider.set_cfg(3.0, 1.0)
    elif kind == "dual":
        guider = Guider_DualCFG(model)
        guider.set_conds(demo.positive, demo.negative, demo.negative)
        guider.set_cfg(3.0, 2.0)
    else:
        guider = CFGGuider(model)
        guider.set_conds(demo.positive, demo.negative)
        guider.set_cfg(3.0)
    return guider


def guided(demo, guider) -> torch.Tensor:
    import comfy.samplers

    model = guider.model_patcher
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", demo.steps)
    noise = torch.randn((4, 4, 8, 8), generator=torch.manual_seed(1))
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=1)


def test_windows_of_a_sequence_fuse_as_a_whole(comfy):
    demo = comfy_nodes.demo("depth")
    demo.cameras, demo.steps = along_a_wall(5), 5
    settings = {"window": 3, "overlap": 1}
    apart, fused = (
        decibels(demo, demo.sample(model, **settings)) for model in (demo.model, fusing(demo.model, demo.cameras))
    )
    assert fused > apart + 1


def text(width: int = 64) -> list:
    generator = torch.Generator().manual_seed(5)
    pooled = torch.randn((1, 64), generator=generator)
    return [[torch.randn((1, 8, width), generator=generator), {"pooled_output": pooled}]]


@pytest.mark.parametrize("name", [*small_bases.UNETS, *small_bases.TRANSFORMERS])
def test_models_of_every_structure(comfy, name):
    import nodes

    from mvdiffusion_pack.nodes.fusing import FuseViews

    cameras = ring(4, 120, 64, 64)
    bare = small_bases.base(name) if name in small_bases.UNETS else small_bases.transformer(name)
    spread = {}
    for strength in (0.0, 1.0):
        model, latent = FuseViews.execute(bare, cameras, 1, strength, 0.0, 1.0).args
        made = nodes.common_ksampler(model, 1, 3, 1.0, "euler", "simple", text(), text(), latent)[0]["samples"]
        assert torch.isfinite(made).all() and len(made) == 4 and made.shape[-2:] == (8, 8)
        images = made[:, :3] if made.ndim == 4 else made[:, :3, 0]
        spread[strength] = agreement(images.movedim(1, -1) / made.std(), cameras).psnr
    assert spread[1.0] > spread[0.0] + 3


def test_depth_cameras_need_no_depth_in_the_model(comfy):
    import nodes

    from mvdiffusion_pack.nodes.fusing import FuseViews

    cameras = along_a_wall(3)
    model, latent = FuseViews.execute(small_bases.base("SD15"), cameras, 1, 1.0, 0.0, 1.0).args
    made = nodes.common_ksampler(model, 1, 2, 1.0, "euler", "simple", text(), text(), latent)[0]["samples"]
    assert torch.isfinite(made).all()


# ---- What is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strength": 1.5}, "strength must lie between 0 and 1, not 1.5"),
        ({"strength": float("nan")}, "strength must lie between 0 and 1, not nan"),
        ({"start": 0.8, "end": 0.4}, "start is 0.8 and end 0.4"),
        ({"noise": "pink"}, "noise must be own or shared, not 'pink'"),
    ],
)
def test_numbers_out_of_range(demo, changes, said):
    with pytest.raises(ValueError, match=f"Fuse Views: {said}"):
        fusing(demo.model, demo.cameras, **changes)


def test_the_vae_of_another_model(demo):
    with pytest.raises(ValueError, match="Fuse Views: the vae makes latents of 4 channels, and this MODEL's have 16"):
        fusing(small_bases.transformer("Flux"), demo.cameras, vae=demo.vae)


def test_patches_of_latents_are_no_further_channels(comfy):
    """Flux takes patches of 2 x 2 latents: 64 channels of 16."""
    from mvdiffusion_pack.host.inputs import takes_more_than_latents

    assert not takes_more_than_latents(small_bases.transformer("Flux"))


def test_cube_cameras(demo):
    from mvdiffusion_pack.geometry.layouts import cube

    with pytest.raises(ValueError, match="do not overlap"):
        fusing(demo.model, cube(64, 64))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4, 16, 3, 8, 8), "a video of 3 frames per view"),
        ((4, 16, 1, 16, 16), "cameras of 64 x 64 pixels need"),
        ((6, 16, 1, 8, 8), "holds 6 views"),
    ],
)
def test_latents_that_do_not_fit(comfy, shape, said):
    import nodes

    model = fusing(small_bases.transformer("QwenImage"), ring(4, 120, 64, 64))
    with pytest.raises(ValueError, match=said):
        nodes.common_ksampler(model, 1, 2, 1.0, "euler", "simple", text(), text(), {"samples": torch.zeros(shape)})


def test_guider_that_hands_nothing_over(demo):
    from comfy.samplers import CFGGuider

    class Past(CFGGuider):
        def __call__(self, *args, **kwargs):
            return self.predict_noise(*args, **kwargs)

    guider = Past(fusing(demo.without_blocks, demo.cameras))
    guider.set_conds(demo.positive, demo.negative)
    with pytest.raises(ValueError, match="Fuse Views: the guider Past hands its predictions"):
        guided(demo, guider)
