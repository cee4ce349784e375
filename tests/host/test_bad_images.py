"""Given images and masks that do not fit get one clear sentence, and no step is sampled."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from comfy_nodes import zeros

pytestmark = pytest.mark.host


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
    sampled = "1 is" if panoramas == 1 else f"{panoramas} are"
    match = f"the given images of 3 panoramas, and {sampled} sampled: set panoramas to 3"
    refused_images(match, torch.zeros((12, 4, 8, 8)), MASKS, panoramas=panoramas)


def test_masks_of_more_panoramas_than_are_sampled(refused_images):
    refused_images("the masks of 2 panoramas, and 1 is sampled", IMAGES, torch.ones((8, 1, 64, 64)))


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
    match = f"noise mask of latent_image holds {masks} masks, and 4 cameras need {fit}: .* with Equirect to Views"
    refused(match, latent_image=masked(torch.ones((masks, 64, 64)), panoramas))


def test_noise_mask_of_a_panorama_is_not_squeezed_onto_views(refused):
    match = (
        "noise mask of latent_image is 512 x 256, and the views are 64 x 64: .* cut a panorama with Equirect to Views"
    )
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
