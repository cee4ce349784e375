"""Bad input gets one clear sentence, and no step is sampled."""

from __future__ import annotations

import copy

import comfy_nodes
import pytest
import torch

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.layouts import ring

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def refused(demo, monkeypatch):
    """`refused(match, **changes)`: Multi-View KSampler with these changes says `match`, before the UNet runs."""

    def refused(match: str, **changes) -> None:
        def no_step(*args, **kwargs):
            pytest.fail("a step was sampled")

        monkeypatch.setattr(type(demo.model.model), "apply_model", no_step)
        with pytest.raises(ValueError, match=match):
            demo.sample(**changes)

    return refused


def test_patched_model_without_cameras_names_the_missing_node(demo):
    import nodes

    latent = {"samples": torch.zeros((4, 4, 8, 8))}
    with pytest.raises(ValueError, match="put Apply Cameras between Load MVDiffusion and the sampler"):
        nodes.common_ksampler(demo.model, 1, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative, latent)


def test_latents_of_another_size(refused):
    refused(r"\(4, 4, 16, 8\).*64 x 64 pixels.*\(views, channels, 8, 8\)", latent_image=zeros(4, 16, 8))


def test_batch_that_is_no_multiple_of_the_views(refused):
    refused("holds 6 views.*4 cameras", latent_image=zeros(6, 8, 8))


def test_nan_in_latents(refused):
    latent = zeros(4, 8, 8)
    latent["samples"][0, 0, 0, 0] = float("nan")
    refused("NaN", latent_image=latent)


def zeros(views: int, height: int, width: int) -> dict:
    return {"samples": torch.zeros((views, 4, height, width))}


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_rows_of_prompts_that_do_not_fit(refused, rows):
    refused(f"positive conditioning holds {rows} prompts.*1, 4 or 4", positive=[[torch.zeros((rows, 77, 64)), {}]])


def test_rows_for_another_number_of_panoramas(refused):
    refused("holds 12 prompts.*1, 4 or 8", positive=[[torch.zeros((12, 77, 64)), {}]], panoramas=2)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 72)])
def test_sampled_sizes_that_are_no_multiple_of_64(refused, width, height):
    refused(f"multiples of 64, not {width} x {height}", cameras=ring(4, 120, width, height))


def test_cameras_without_neighbours(refused):
    cameras = ring(4, 120, 64, 64)
    refused("no neighbours", cameras=Cameras(cameras.intrinsics, cameras.cam_to_world, 64, 64))


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
    from mvdiffusion_pack.caa.fresh import fresh_weights
    from mvdiffusion_pack.caa.kinds import KINDS
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
    from mvdiffusion_pack.caa.kinds import Widths

    with pytest.raises(ValueError, match=r"\(32, 64\) wide.*UNet is \(64, 128, 128, 128\)"):
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
    ("kind", "in_channels", "base"),
    [("outpainting", 4, r"SD 2 inpainting \(512\)"), ("panorama", 9, r"SD 2 \(512-base\)")],
)
def test_weights_for_another_number_of_channels_name_the_checkpoint(comfy, kind, in_channels, base):
    from mvdiffusion_pack.host.demo import demo_models

    with pytest.raises(ValueError, match=f"has {in_channels}: load {base}, or .*Load MVDiffusion Checkpoint"):
        attach(demo_models(in_channels)[0], kind)


@pytest.fixture(scope="module")
def outpainting(comfy):
    return comfy_nodes.demo("outpainting")


@pytest.fixture
def refused_images(outpainting, refused):
    """`refused_images(match, images, masks, **changes)`: as `refused`, these given in the positive conditioning."""

    def refused_images(match: str, images: torch.Tensor | None, masks: torch.Tensor | None, **changes) -> None:
        given = {"concat_latent_image": images, "concat_mask": masks}
        given = {key: value for key, value in given.items() if value is not None}
        text, options = outpainting.positive[0]
        refused(match, **({"model": outpainting.model, "positive": [[text, options | given]]} | changes))

    return refused_images


IMAGES, MASKS = torch.zeros((4, 4, 8, 8)), torch.ones((4, 1, 64, 64))


def test_given_images_for_a_model_that_takes_none(demo, refused_images):
    match = r"positive conditioning.*has 4 input channels.*pano_outpaint\.ckpt.*Set Latent Noise Mask in place of"
    refused_images(match, IMAGES, MASKS, model=demo.model)
    refused_images(match, None, MASKS, model=demo.model)


def test_given_images_for_a_plain_model_that_takes_none(demo, refused_images):
    refused_images("has 4 input channels", IMAGES, MASKS, model=demo.without_blocks)


def test_given_images_in_the_negative_conditioning_are_named_so(outpainting, refused):
    text, options = outpainting.negative[0]
    negative = [[text, options | {"concat_latent_image": IMAGES[:3]}]]
    refused("negative conditioning holds 3 given images", model=outpainting.model, negative=negative)


def test_one_given_image_names_the_missing_node(refused_images):
    match = "1 given image for 4 cameras: put Source Image to Views.*before InpaintModelConditioning"
    refused_images(match, IMAGES[:1], MASKS[:1])


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_number_of_given_images_that_does_not_fit(refused_images, rows):
    match = f"holds {rows} given images, and there are 4 cameras: use the same cameras"
    refused_images(match, torch.zeros((rows, 4, 8, 8)), MASKS, panoramas=2)


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_number_of_masks_that_does_not_fit(refused_images, rows):
    match = f"holds {rows} masks, and there are 4 cameras: use the same cameras"
    refused_images(match, IMAGES, torch.ones((rows, 1, 64, 64)), panoramas=2)


@pytest.mark.parametrize("panoramas", [1, 2])
def test_given_images_of_more_panoramas_than_are_sampled(refused_images, panoramas):
    match = f"the given images of 3 panoramas, and {panoramas} are sampled: set panoramas to 3"
    refused_images(match, torch.zeros((12, 4, 8, 8)), MASKS, panoramas=panoramas)


def test_masks_of_more_panoramas_than_are_sampled(refused_images):
    refused_images("the masks of 2 panoramas, and 1 are sampled", IMAGES, torch.ones((8, 1, 64, 64)))


def test_masks_that_leave_nothing_to_generate(refused_images):
    refused_images("masks in the positive conditioning are 0 everywhere", IMAGES, torch.zeros_like(MASKS))


def test_noise_mask_that_leaves_nothing_to_sample(refused):
    latent = zeros(4, 8, 8) | {"noise_mask": torch.zeros((4, 64, 64))}
    refused("noise mask of the LATENT is 0 everywhere", latent_image=latent)


def masked(masks: torch.Tensor, panoramas: int = 1) -> dict:
    """Empty latents with a noise mask, by the host's node."""
    import nodes

    return nodes.SetLatentNoiseMask().set_mask(zeros(4 * panoramas, 8, 8), masks)[0]


@pytest.mark.parametrize(
    ("masks", "panoramas", "fit"), [(3, 1, "1 or 4"), (2, 2, "1 or 4 or 8"), (12, 2, "1 or 4 or 8")]
)
def test_number_of_noise_masks_that_does_not_fit(refused, masks, panoramas, fit):
    match = f"noise mask of latent_image holds {masks} masks, and 4 cameras need {fit}: put Equirect to Views on"
    refused(match, latent_image=masked(torch.ones((masks, 64, 64)), panoramas))


def test_noise_mask_of_a_panorama_is_not_squeezed_onto_views(refused):
    match = "noise mask of latent_image is 512 x 256, and the views are 64 x 64: .* put Equirect to Views on"
    refused(match, latent_image=masked(torch.ones((1, 256, 512))))


@pytest.mark.parametrize("masks", [1, 4, 8])
@pytest.mark.parametrize("side", [8, 64])
def test_noise_masks_for_all_views_each_view_or_each_row_are_taken(demo, masks, side):
    mask = torch.ones((masks, side, side))
    mask[..., : side // 2] = 0
    result = demo.sample(latent_image=masked(mask, 2))
    assert result[..., :4].abs().max() < 1e-4 and result[..., 4:].std() > 0.1


def test_given_images_in_one_conditioning_alone(outpainting, refused_images, refused):
    refused_images("negative conditioning holds no given images.*connect negative of InpaintModel", IMAGES, MASKS)
    text, options = outpainting.negative[0]
    negative = [[text, options | {"concat_latent_image": IMAGES, "concat_mask": MASKS}]]
    refused("positive conditioning holds no given images", model=outpainting.model, negative=negative)


def test_given_images_in_the_positive_conditioning_are_enough_at_cfg_1(outpainting):
    """The host does not read the negative one then."""
    given = {"concat_latent_image": IMAGES + 1, "concat_mask": MASKS}
    positive, negative = ([[c[0][0], c[0][1] | given]] for c in (outpainting.positive, outpainting.negative))
    alone = outpainting.sample(positive=positive, cfg=1.0)
    assert torch.equal(alone, outpainting.sample(positive=positive, negative=negative, cfg=1.0))


def test_given_images_in_the_negative_conditioning_are_never_enough(outpainting, refused):
    text, options = outpainting.negative[0]
    negative = [[text, options | {"concat_latent_image": IMAGES, "concat_mask": MASKS}]]
    match = "positive conditioning holds no given images"
    refused(match, model=outpainting.model, negative=negative, cfg=1.0)


def test_negative_conditioning_that_is_read_at_cfg_1_needs_given_images(outpainting, refused_images):
    match = "negative conditioning holds no given images"
    refused_images(match, IMAGES, MASKS, cfg=1.0, sampler_name="euler_cfg_pp")
    model = outpainting.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"], disable_cfg1_optimization=True)
    refused_images(match, IMAGES, MASKS, cfg=1.0, model=model)


def test_guiders_of_their_own_need_given_images_everywhere(outpainting):
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    text, options = outpainting.positive[0]
    given = [[text, options | {"concat_latent_image": IMAGES, "concat_mask": MASKS}]]
    model, latent = ApplyCameras.execute(outpainting.model, outpainting.cameras, 1).args
    conds = dict(cond1=given, cond2=given, negative=outpainting.negative)
    guider = comfy_nodes.host_node(
        custom.DualCFGGuider, model=model, **conds, cfg_conds=1.0, cfg_cond2_negative=3.0, style="regular"
    )
    with pytest.raises(ValueError, match="negative conditioning holds no given images"):
        guider.sample(latent["samples"], latent["samples"], None, torch.tensor([1.0, 0.0]))


def test_latents_of_fewer_panoramas_than_asked_for(refused):
    match = "panoramas is 3, but latent_image holds the views of 2: put Repeat Latent Batch before it"
    refused(match, latent_image=zeros(8, 8, 8), panoramas=3)


def test_given_images_of_another_size(refused_images):
    match = "given images in the positive conditioning are 64 x 128 pixels, and the cameras' views 64 x 64"
    refused_images(match, torch.zeros((4, 4, 16, 8)), MASKS)


def test_given_images_of_another_vae(refused_images):
    match = "latents of 16 channels, and this MODEL's have 4: use the VAE that was loaded"
    refused_images(match, torch.zeros((4, 16, 8, 8)), MASKS)


def test_masks_of_other_proportions(refused_images):
    match = "masks in the positive conditioning are 32 x 64 pixels, and the views are 64 x 64"
    refused_images(match, IMAGES, torch.ones((4, 1, 64, 32)))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_nan_in_given_images_and_masks(refused_images, place, number):
    given = [IMAGES.clone(), MASKS.clone()]
    given[place][1, 0, 0, 0] = number
    refused_images("given images or masks in the positive conditioning hold NaN", *given)
