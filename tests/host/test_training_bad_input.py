"""What Train CAA refuses, each in one sentence that names the node, before any long work."""

from __future__ import annotations

from dataclasses import replace

import comfy_nodes
import pytest
import small_bases
import torch
from train_node import picture, train, without_validation

from mvdiffusion_pack.geometry.layouts import cube, ring

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def refused(demo, tmp_path, monkeypatch):
    """`refused(match, **changes)`: Train CAA with these changes says `match`, before anything is encoded or written."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(type(demo.vae), "encode", lambda *_: pytest.fail("a picture was encoded"))

    def refused(match: str, one=demo, **changes) -> None:
        with pytest.raises(ValueError, match=match) as raised:
            train(one, **changes)
        text = str(raised.value)
        assert text.startswith("Train CAA: ") and text.endswith(".") and "\n" not in text
        assert list(tmp_path.iterdir()) == []

    return refused


def test_pictures_that_are_not_2_to_1_are_named(refused):
    refused(r"image 2 \(64 x 64\) is not twice as wide", images=[picture(0), torch.zeros(1, 64, 64, 3)])


def test_pictures_that_hold_nan_are_named(refused):
    refused("image 1 is no picture: it holds NaN", images=[picture(0) * torch.nan], captions=["a"])


def test_no_pictures(refused):
    refused("images is empty", images=None, captions=None)


def test_empty_captions_are_named(refused):
    refused("image 2 is without a caption", captions=["a", " \n "])


def test_count_of_captions_that_fits_nothing(refused):
    refused("there are 3 captions for 2 images", captions=["a", "b", "c"])
    refused("there are 0 captions for 2 images", captions=None)


def test_lines_of_a_caption_that_fit_nothing(refused):
    refused(r"image 1 \(3\) is captioned in a number of lines", captions=["a\nb\nc", "d"])


def test_unet_without_places(refused, demo):

    model = demo.without_blocks.clone()
    model.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    refused("model has a Linear, which has no places", replace(demo, model=model))


def test_unet_without_cross_attention(refused, demo):
    levels = {"transformer_depth": [0] * 8, "transformer_depth_middle": -1, "transformer_depth_output": [0] * 12}
    bare = small_bases.base("SD15", **levels)
    refused("UNet without cross-attention", replace(demo, model=bare))


def test_kind_that_the_unet_has_no_inputs_for(refused):
    refused("kind is outpainting, which needs a UNet with 9 input channels", kind="outpainting")


def test_model_on_several_cards(refused, demo):
    model = demo.without_blocks.clone()
    model.set_additional_models("multigpu", [demo.without_blocks])
    refused("model is split over several cards", replace(demo, model=model))


def test_noise_levels_that_are_no_table(refused, demo):
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    model = ModelSamplingContinuousEDM().patch(demo.without_blocks, "edm", 120.0, 0.002)[0]
    refused("model samples by", replace(demo, model=model))


def test_cameras_that_cannot_be_sampled(refused):
    refused("the cameras are a cube's", cameras=cube(64, 64))
    refused("multiples of 64", cameras=ring(8, 90.0, 72, 72))
    refused("overlaps no other", cameras=ring(4, 60.0, 64, 64))
    refused("there is one camera", cameras=ring(1, 90.0, 64, 64), captions=["a", "b"])


def test_cameras_of_another_kind(refused):
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras

    refused("kind is panorama, and the cameras are a sequence's", cameras=walk_cameras(2, 64, 64), **frames(2))


def frames(count: int) -> dict:
    return {"images": [torch.zeros(count, 64, 64, 3)], "captions": ["a"]}


def test_frames_that_are_not_those_of_the_cameras(refused):
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras

    refused("there are 3 images for 2 cameras", cameras=walk_cameras(2, 64, 64), **frames(3), kind="depth")


@pytest.mark.parametrize("run", ["", "../other", "a/b", ".hidden", "C:\\x", "%date:yyyy%"])
def test_run_that_is_no_plain_name(refused, run):
    refused("must be a plain name", run=run)


def test_start_that_is_not_there(refused, demo):
    refused("there is no such file in models/mvdiffusion", start="gone.safetensors")
    refused("this MODEL has none", replace(demo, model=demo.without_blocks), start="those of the MODEL")


def test_start_of_another_base(refused, demo, monkeypatch, tmp_path_factory):
    import folder_paths

    from mvdiffusion_pack.caa.weights.checkpoint import write_slim
    from mvdiffusion_pack.caa.weights.kinds import OUTPAINTING, PANORAMA, Widths
    from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
    from mvdiffusion_pack.host.inject import unet_widths

    path = tmp_path_factory.mktemp("start") / "other.safetensors"
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda *_: ["other"])
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: str(path))
    write_slim(path, fresh_weights(PANORAMA, Widths((32, 32), 32, (32, 32))), torch.float32)
    refused(r"start is other, panorama blocks \(32, 32\) wide", start="other")
    widths = unet_widths(demo.model.get_model_object("diffusion_model"))
    write_slim(path, fresh_weights(OUTPAINTING, widths), torch.float32)
    refused("start is other, outpainting blocks", start="other")


def test_settings_that_cannot_be_right(refused):
    refused("batch is 3 and must be a multiple of accumulation", batch=3, accumulation=2)
    refused("dtype is 'fp8'", dtype="fp8")


def test_unet_steps_where_the_unet_stays(refused):
    refused("unet_steps is 5", unet_steps=5)


def test_missing_clip_and_vae(refused, demo):
    refused("clip is empty", replace(demo, clip=None))
    refused("vae is empty", replace(demo, vae=None))


def test_resuming_with_another_configuration_names_what_differs(demo, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    without_validation(monkeypatch)
    train(demo, steps=1)
    changes = {"seed": 5, "prefix": "x ", "cameras": ring(4, 110.0, 64, 64)}
    with pytest.raises(ValueError, match=r"Train CAA: the run in .*\(seed was 0 and is 5; cameras was .*; prefix was"):
        train(demo, steps=1, **changes)


def test_names_that_come_by_a_link_and_are_none_of_the_list(refused):
    refused("source must be one of images, rendered rooms .*, not 'photos'", source="photos")
    refused("latents must be one of auto, cut anew, keep a few, not 'all'", latents="all")
