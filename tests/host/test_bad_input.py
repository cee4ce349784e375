"""Bad input gets one clear sentence, and no step is sampled."""

from __future__ import annotations

import copy

import comfy_nodes
import pytest
import torch
from comfy_nodes import zeros

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews

pytestmark = pytest.mark.host


def test_patched_model_without_cameras_names_the_missing_node(demo):
    import nodes

    latent = {"samples": torch.zeros((4, 4, 8, 8))}
    with pytest.raises(ValueError, match="put Apply Cameras between Load MVDiffusion and the sampler"):
        nodes.common_ksampler(demo.model, 1, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative, latent)


@pytest.mark.parametrize("strength", [float("nan"), -1.0, 7.0])
def test_strength_of_blocks_that_comes_by_a_link(demo, strength):
    from mvdiffusion_pack.host import begin, setup

    patcher = demo.model.get_additional_models_with_key(setup.KEY)[0]
    with pytest.raises(ValueError, match=f"strength .* between 0 and 2, not {strength:g}"):
        begin.with_blocks(demo.model, patcher, strength)


@pytest.mark.parametrize("panoramas", [0, -1])
def test_less_than_one_panorama(demo, panoramas):
    from mvdiffusion_pack.host.begin import empty_latent

    with pytest.raises(ValueError, match=f"panoramas must be 1 or more, not {panoramas}"):
        empty_latent(demo.model, demo.cameras, panoramas)


def test_latents_of_another_size(refused):
    refused(r"\(4, 4, 16, 8\).*64 x 64 pixels.*\(views, channels, 8, 8\)", latent_image=zeros(4, 16, 8))


def test_batch_that_is_no_multiple_of_the_views(refused):
    refused("holds 6 views.*4 cameras", latent_image=zeros(6, 8, 8))


def test_nan_in_latents(refused):
    latent = zeros(4, 8, 8)
    latent["samples"][0, 0, 0, 0] = float("nan")
    refused("NaN", latent_image=latent)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_rows_of_prompts_that_do_not_fit(refused, rows):
    refused(f"positive conditioning holds {rows} prompts.*need 1 or 4\\.", positive=[[torch.zeros((rows, 77, 64)), {}]])


def test_rows_for_another_number_of_panoramas(refused):
    refused("holds 12 prompts.*need 1 or 4 or 8\\.", positive=[[torch.zeros((12, 77, 64)), {}]], panoramas=2)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 72)])
def test_sampled_sizes_that_are_no_multiple_of_64(refused, width, height):
    refused(f"multiples of 64, not {width} x {height}", cameras=ring(4, 120, width, height))


def test_cameras_without_neighbours(refused):
    cameras = ring(4, 120, 64, 64)
    refused("no neighbours", cameras=PanoramaViews(cameras.intrinsics, cameras.cam_to_world, 64, 64))


def test_area_conditioning(demo, refused):
    import nodes

    (positive,) = nodes.ConditioningSetArea().append(demo.positive, 32, 32, 0, 0, 1.0)
    refused("positive conditioning has an area", positive=positive)


def test_context_windows_over_views(demo, refused):
    from comfy.context_windows import IndexListContextHandler

    model = demo.model.clone()
    model.model_options["context_handler"] = IndexListContextHandler(None, None, context_length=2)
    refused("Context Windows", model=model)


def test_depth_weights_with_panorama_cameras(refused):
    refused("depth weights.*Panorama Cameras", model=comfy_nodes.demo("depth").model)


def half_mask() -> torch.Tensor:
    mask = torch.zeros((1, 64, 64))
    mask[..., :32] = 1
    return mask


def test_mask_conditioning_with_bounds(demo, refused):
    import nodes

    (positive,) = nodes.ConditioningSetMask().append(demo.positive, half_mask(), "mask bounds", 1.0)
    refused("positive conditioning has an area.*'mask bounds'", positive=positive)


def test_mask_conditioning_is_allowed(demo):
    import nodes

    (masked,) = nodes.ConditioningSetMask().append(demo.positive, half_mask(), "default", 1.0)
    other = [[demo.positive[0][0] + 1, {}]]
    result = demo.sample(positive=masked + other)
    assert torch.isfinite(result).all()
    assert not torch.equal(result, demo.sample(positive=demo.positive + other))


def test_conditioning_of_another_models_clip(refused):
    refused(r"positive conditioning is 1024 wide and this MODEL takes 64", positive=[[torch.zeros((1, 77, 1024)), {}]])


def test_nan_in_conditioning(refused):
    refused("negative conditioning holds NaN", negative=[[torch.full((1, 77, 64), torch.nan), {}]])


def test_nan_in_noise_mask(refused):
    refused("noise mask.*NaN", latent_image=zeros(4, 8, 8) | {"noise_mask": torch.full((1, 64, 64), torch.nan)})


def test_v_prediction_set_after_loading(demo, refused):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    refused("768-v", model=ModelSamplingDiscrete().patch(demo.model, "v_prediction", False)[0])


def test_model_on_several_gpus(demo, refused):
    model = demo.model.clone()
    model.set_additional_models("multigpu", [demo.without_blocks])
    refused("one GPU", model=model)


def test_batch_torn_apart_during_the_run_names_both_numbers(demo):
    model = demo.model.clone()

    def halves(apply_model, args):
        half = len(args["input"]) // 4
        c = {key: value[:half] if torch.is_tensor(value) else value for key, value in args["c"].items()}
        return apply_model(args["input"][:half], args["timestep"][:half], **c)

    model.set_model_unet_function_wrapper(halves)
    with pytest.raises(ValueError, match="batch of 2 for 4 cameras"):
        demo.sample(model)


class NotAUNet(torch.nn.Module):
    pass


def attach(model, kind: str, widths=None, **changes):
    from mvdiffusion_pack.caa.weights.kinds import KINDS
    from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
    from mvdiffusion_pack.host.inject import unet_widths
    from mvdiffusion_pack.host.weights import attach_weights

    widths = widths or unet_widths(model.model.diffusion_model)
    return attach_weights(model, lambda: fresh_weights(KINDS[kind], widths), 1.0)


def test_other_architectures_are_named(demo):
    model = demo.without_blocks
    model.add_object_patch("diffusion_model", NotAUNet())
    with pytest.raises(ValueError, match=r"Stable Diffusion UNet.*not into a NotAUNet"):
        attach(model, "panorama")


def test_unets_without_a_middle_block(demo):
    from mvdiffusion_pack.host.weights import attach_weights

    unet = copy.copy(demo.without_blocks.model.diffusion_model)
    unet._modules = {**unet._modules, "middle_block": None}
    model = demo.without_blocks
    model.add_object_patch("diffusion_model", unet)
    with pytest.raises(ValueError, match="go into a Stable Diffusion UNet"):
        attach_weights(model, lambda: None, 1.0)


@pytest.mark.parametrize(("kind", "channels"), [("outpainting", 9), ("depth", 5)])
def test_input_channels_that_do_not_fit(demo, kind, channels):
    with pytest.raises(ValueError, match=f"{kind} weights, made for a UNet with {channels} input channels.*has 4"):
        attach(demo.without_blocks, kind)


def test_widths_that_do_not_fit(demo):
    from mvdiffusion_pack.caa.weights.kinds import Widths

    with pytest.raises(ValueError, match=r"\(32, 64\) wide.*UNet is \(64, 64, 128\) and \(128, 64, 64\)"):
        attach(demo.without_blocks, "panorama", Widths((32, 64), 64, (64, 32)))


def test_v_prediction_model_is_the_wrong_base(demo):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(demo.without_blocks, "v_prediction", False)
    with pytest.raises(ValueError, match="768-v"):
        attach(model, "panorama")


def test_saving_a_model_without_blocks(demo):
    from mvdiffusion_pack.nodes.loaders import SaveMVDiffusion

    with pytest.raises(ValueError, match="Save MVDiffusion: this MODEL has no MVDiffusion blocks"):
        SaveMVDiffusion.execute(demo.without_blocks, "x", "fp16")


@pytest.mark.parametrize(
    ("kind", "other", "in_channels", "base"),
    [
        ("outpainting", "panorama", 4, r"SD 2 inpainting \(512\)"),
        ("panorama", "outpainting", 9, r"SD 2 \(512-base\)"),
    ],
)
def test_weights_for_another_number_of_channels_name_the_checkpoint(comfy, kind, other, in_channels, base):
    from mvdiffusion_pack.caa.weights.kinds import KINDS
    from mvdiffusion_pack.host.demo import demo_models

    with pytest.raises(ValueError, match=f"has {in_channels}: load {base}, or .*Load MVDiffusion Checkpoint"):
        attach(demo_models(KINDS[other])[0], kind)
