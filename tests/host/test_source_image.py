"""Photos through the nodes: into the views, into the host's own inpainting conditioning, and over the panorama."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.source import source_camera, source_to_views
from mvdiffusion_pack.geometry.panorama.stitch import Overlay, stitch

pytestmark = pytest.mark.host

RING = ring(4, 120, 64, 64)
PLACE = (-30.0, 20.0, 10.0, 70.0)  # yaw, pitch, roll and field of view, all different


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def into_views(image: torch.Tensor, place: tuple = (0.0, 0.0, 0.0, 0.0), **given) -> tuple[torch.Tensor, torch.Tensor]:
    from mvdiffusion_pack.nodes.panorama import SourceImageToViews

    return SourceImageToViews.execute(image, RING, *place, **given).args


def test_views_and_mask_are_those_of_the_photos_camera(comfy):
    photo = noise(1, 48, 64, 3)
    expected = source_to_views(photo, RING, source_camera(64, 48, RING, *PLACE))
    assert all(torch.equal(part, wanted) for part, wanted in zip(into_views(photo, PLACE), expected, strict=True))


def test_two_nodes_in_a_row_give_both_photos(comfy):
    first, second = noise(2, 64, 64, 3).split(1)
    views, mask = into_views(first)
    views, mask = into_views(second, (180.0, 0.0, 0.0, 60.0), views=views, mask=mask)
    assert torch.equal(views[0], first[0]) and mask[0].max() == 0
    assert mask[2].min() == 0 and views[2, 32, 32].tolist() != [0.5, 0.5, 0.5]


def test_inverted_mask_of_a_picture_turned_to_a_view_is_that_view_and_what_others_see_of_it(comfy):
    """As the help of Multi-View KSampler chooses a view to be made anew."""
    from comfy_extras.nodes_mask import InvertMask

    _, mask = into_views(torch.zeros(1, 64, 64, 3), (90.0, 0.0, 0.0, 0.0))
    chosen = comfy_nodes.host_node(InvertMask, mask=mask)
    assert chosen[1].min() == 1 and chosen[3].max() == 0
    assert 0 < chosen[0].mean() == chosen[2].mean() < 0.5


def test_a_cut_panorama_may_come_first(comfy):
    from mvdiffusion_pack.nodes.panorama import EquirectToViews

    views, masks = EquirectToViews.execute(noise(1, 128, 256, 3), RING, mask=torch.ones(1, 128, 256)).args
    placed, mask = into_views(noise(1, 64, 64, 3), views=views, mask=masks)
    assert torch.equal(placed[2], views[2]) and mask[2].min() > 0.999 and mask[0].max() == 0


def test_the_source_is_laid_over_the_panorama(comfy):
    from mvdiffusion_pack.nodes.panorama import StitchEquirect

    images, photo = noise(4, 64, 64, 3), noise(1, 96, 128, 3)
    yaw, pitch, roll, fov = PLACE
    placed = dict(source_yaw=yaw, source_pitch=pitch, source_roll=roll, source_fov=fov)
    result = StitchEquirect.execute(images, RING, 512, "feather", source=photo, **placed, border=8.0).args
    overlay = Overlay(photo, source_camera(128, 96, RING, *PLACE), 8.0)
    expected = stitch(images, RING, 512, "feather", overlay=overlay)
    assert all(torch.equal(part, wanted) for part, wanted in zip(result, expected, strict=True))


def test_a_second_photo_is_laid_over_as_the_help_says(comfy):
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras
    from mvdiffusion_pack.nodes.panorama import EquirectToViews, StitchEquirect

    cameras, _ = PanoramaCameras.execute("ring", 4, 120.0, 64, 64, 40.0, 10.0).args
    first, second = noise(2, 96, 128, 3).split(1)
    numbers = ("source_yaw", "source_pitch", "source_roll", "source_fov")
    places = (30.0, 5.0, 0.0, 50.0), (-80.0, 20.0, 10.0, 70.0)
    first_place, second_place = (dict(zip(numbers, place, strict=True)) for place in places)
    so_far, _ = StitchEquirect.execute(noise(4, 64, 64, 3), cameras, 512, "feather", None, first, **first_place).args

    small, _ = PanoramaCameras.execute("ring", 1, 1.0, 64, 64, 40.0, 10.0).args
    cut, _ = EquirectToViews.execute(so_far, small).args
    result, _ = StitchEquirect.execute(cut, small, 512, "feather", so_far, second, **second_place).args

    overlay = Overlay(second, source_camera(128, 96, cameras, *places[1]))
    over_black, over_white = (
        stitch(torch.full_like(cut, grey), small, 512, "feather", torch.full_like(so_far, grey), overlay)[0]
        for grey in (0.0, 1.0)
    )
    opacity = 1 - (over_white - over_black)
    assert 0.04 < (opacity > 0.99).float().mean() < 0.1
    torch.testing.assert_close(result, over_black + (1 - opacity) * so_far, rtol=0, atol=0.02)


def test_stitching_asks_no_more_of_saved_prompts_than_before(comfy):
    from mvdiffusion_pack.nodes.panorama import StitchEquirect

    inputs = StitchEquirect.INPUT_TYPES()
    assert list(inputs["required"]) == ["images", "cameras", "width", "blend"]
    added = ["source", "source_yaw", "source_pitch", "source_roll", "source_fov", "border", "level"]
    assert list(inputs["optional"]) == ["background", *added]
    images = noise(4, 64, 64, 3)
    assert torch.equal(StitchEquirect.execute(images, RING, 256, "feather").args[0], stitch(images, RING, 256)[0])


def test_optional_widgets_have_the_defaults_of_execute(comfy):
    import inspect

    from mvdiffusion_pack.nodes.panorama import StitchEquirect

    defaults = inspect.signature(StitchEquirect.execute).parameters
    widgets = {
        name: spec[1]["default"]
        for name, spec in StitchEquirect.INPUT_TYPES()["optional"].items()
        if "default" in spec[1]
    }
    assert len(widgets) == 6
    assert widgets == {name: defaults[name].default for name in widgets}


def test_views_and_source_are_levelled_where_it_is_asked_for(comfy):
    from mvdiffusion_pack.nodes.panorama import StitchEquirect

    images = torch.tensor([0.4, 0.5, 0.6, 0.5])[:, None, None, None].expand(-1, 64, 64, 3)
    photo, camera = torch.full((1, 48, 64, 3), 0.65), source_camera(64, 48, RING)
    equirect, _ = StitchEquirect.execute(images, RING, 256, "feather", source=photo, level=True).args
    expected, coverage = stitch(images, RING, 256, overlay=Overlay(photo, camera), level=True)
    assert torch.equal(equirect, expected)
    shown = equirect[coverage > 0]
    assert shown.max() - shown.min() < 0.005


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo("outpainting")


def inpainting(demo, views: torch.Tensor, mask: torch.Tensor) -> tuple[list, list, dict]:
    """What the host's InpaintModelConditioning makes of them: positive, negative and latent."""
    import nodes

    node, texts = nodes.InpaintModelConditioning(), dict(positive=demo.positive, negative=demo.negative)
    return node.encode(**texts, pixels=views, vae=demo.vae, mask=mask, noise_mask=False)


def test_the_given_views_latents_are_those_of_the_photo(demo):
    photo = noise(1, 64, 64, 3)
    given = inpainting(demo, *into_views(photo))[0][0][1]
    latents = given["concat_latent_image"]
    assert latents.shape == (4, 4, 8, 8)
    torch.testing.assert_close(latents[:1], demo.vae.encode(photo), rtol=1e-3, atol=1e-3)
    assert given["concat_mask"][0].max() == 0 and given["concat_mask"][2].min() == 1


def test_the_host_greys_just_what_the_node_has_left_grey(demo):
    views, mask = into_views(noise(1, 48, 64, 3), PLACE)
    assert 0 < mask.mean() < 1
    latents = inpainting(demo, views, mask)[0][0][1]["concat_latent_image"]
    torch.testing.assert_close(latents, demo.vae.encode(views), rtol=1e-3, atol=1e-3)


def test_sampling_keeps_to_the_photo(demo):
    """Other photos give other views everywhere: the given image reaches all of them."""
    results = []
    for photo in noise(2, 64, 64, 3).split(1):
        positive, negative, latent = inpainting(demo, *into_views(photo))
        results.append(demo.sample(positive=positive, negative=negative, latent_image=latent))
    assert ((results[0] - results[1]).abs().amax((1, 2, 3)) > 1e-4).all()


def test_a_source_that_touches_no_view_says_where_it_points(comfy):
    with pytest.raises(ValueError, match=r"touches no view\. It looks towards yaw 0\.0, pitch 85\.0 degrees"):
        into_views(noise(1, 64, 64, 3), (0.0, 85.0, 0.0, 10.0))
