"""What depth sequences must not be sampled with, refused before a step."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from wall import along_a_wall

pytestmark = pytest.mark.host
KEYFRAMES = (0, 2, 4)
SETTINGS = {"seed": 7, "steps": 2, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}


@pytest.fixture(scope="module")
def depth(comfy):
    demo = comfy_nodes.demo("depth")
    demo.cameras = along_a_wall(5, keyframes=KEYFRAMES)
    return demo


@pytest.fixture(scope="module")
def panorama(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def between_refused(depth, monkeypatch):
    """`refused(match, **changes)`: Interpolate Keyframes with these changes says `match`, before the UNet runs."""
    from mvdiffusion_pack.nodes.sampling import InterpolateKeyframes

    def no_step(*args, **kwargs):
        pytest.fail("a step was sampled")

    monkeypatch.setattr(type(depth.model.model), "apply_model", no_step)
    inputs = {
        "model": depth.model,
        "cameras": depth.cameras,
        "keyframes": comfy_nodes.zeros(3, 8, 8),
        "positive": depth.positive,
        "negative": depth.negative,
        **SETTINGS,
    }

    def refused(match: str, **changes) -> None:
        with pytest.raises(ValueError, match=match):
            InterpolateKeyframes.execute(**(inputs | changes))

    return refused


def rows(conditioning: list, count: int) -> list:
    return [[conditioning[0][0].repeat(count, 1, 1), {}]]


def test_panorama_weights_with_depth_cameras(panorama, depth, refused):
    refused("panorama weights, which know nothing of depth", cameras=depth.cameras)


def test_depth_weights_with_panorama_cameras(panorama, depth):
    with pytest.raises(ValueError, match="depth weights, which need a depth map per view"):
        depth.sample(cameras=panorama.cameras)


def test_four_channel_model_with_depth_cameras(panorama, depth, refused):
    refused("5 input channels in all, and this one has 4", model=panorama.without_blocks, cameras=depth.cameras)


def test_four_channel_model_with_depth_weights(panorama, depth):
    from mvdiffusion_pack.host.setup import KEY
    from mvdiffusion_pack.host.weights import attach_weights

    read = depth.model.get_additional_models_with_key(KEY)[0].model.read
    with pytest.raises(ValueError, match="made for a UNet with 5 input channels, and this MODEL has 4"):
        attach_weights(panorama.without_blocks, read, 1.0)


def test_overlap_that_would_leave_views_out(refused, depth):
    refused("overlap must be 0 or more, not -1", cameras=depth.cameras, window=3, overlap=-1)


@pytest.mark.parametrize("overlap", [2, 3])
def test_window_not_larger_than_its_overlap(refused, depth, overlap):
    expected = f"a window of 2 views that shares {overlap} .* window must be {overlap + 1} or more"
    refused(expected, cameras=depth.cameras, window=2, overlap=overlap)


def test_window_over_a_panorama(refused):
    refused(r"window is 3, but a panorama's 4 views .* set window to 0", window=3)


def test_sizes_that_are_no_multiple_of_64(depth):
    with pytest.raises(ValueError, match=r"Depth Cameras: .* not 96 x 64"):
        depth.sample(cameras=along_a_wall(2, 96, 64))


def test_given_images_with_depth_weights(depth):
    given = [
        [depth.positive[0][0], {"concat_latent_image": torch.zeros(1, 4, 8, 8), "concat_mask": torch.ones(1, 1, 8, 8)}]
    ]
    with pytest.raises(ValueError, match="5 input channels and would ignore them"):
        depth.sample(positive=given, negative=given)


def test_prompts_of_other_frames(depth):
    with pytest.raises(ValueError, match="holds 4 prompts: 5 cameras"):
        depth.sample(positive=rows(depth.positive, 4))


def test_window_too_small_to_make_anything_between(between_refused):
    between_refused("Interpolate Keyframes: a window of 2 views .* window must be 3 or more", window=2, overlap=0)


def test_cameras_of_a_panorama(panorama, between_refused):
    between_refused("those of a panorama", cameras=panorama.cameras)


def test_cameras_of_the_key_frames_alone(depth, between_refused):
    between_refused("connect `cameras` of Depth Cameras", cameras=depth.cameras.subset(KEYFRAMES))


@pytest.mark.parametrize("shape", [(4, 4, 8, 8), (3, 4, 8, 16), (3, 16, 8, 8)])
def test_latents_of_other_key_frames(between_refused, shape):
    between_refused(r"these cameras need \(3, 4, 8, 8\)", keyframes={"samples": torch.zeros(shape)})


def test_latents_that_are_not_finite(between_refused):
    keyframes = comfy_nodes.zeros(3, 8, 8)
    keyframes["samples"][1, 0, 0, 0] = torch.nan
    between_refused("keyframes holds NaN", keyframes=keyframes)


def test_prompts_for_neither_frames_nor_key_frames(depth, between_refused):
    between_refused(
        "positive conditioning holds 4 prompts, and it takes 1, 3 .* or 5", positive=rows(depth.positive, 4)
    )


def test_weights_that_know_nothing_between(panorama, depth, between_refused):
    between_refused("this MODEL holds panorama weights", model=panorama.model)
    between_refused("this MODEL holds no MVDiffusion weights", model=depth.without_blocks)


def test_easy_cache_in_windows(depth, refused):
    from comfy_extras import nodes_easycache

    (model,) = nodes_easycache.EasyCacheNode.execute(depth.model, 0.2, 0.15, 0.95, False).args
    refused("use LazyCache instead, or set window to 0", model=model, cameras=depth.cameras, window=3)
