"""Blocks are trained on every base whose UNet has places for them, and refused on all others before any work."""

from __future__ import annotations

from dataclasses import replace

import comfy_nodes
import pytest
import small_bases
import torch
from train_node import train, without_validation

from mvdiffusion_pack.caa.weights.checkpoint import read_caa
from mvdiffusion_pack.caa.weights.kinds import DEPTH, OUTPAINTING, PANORAMA

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch, comfy):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    without_validation(monkeypatch)
    return tmp_path


def blocks_file(output):
    (path,) = (output / "mvdiffusion" / "training" / "trial").glob("step_*/blocks.safetensors")
    return path


@pytest.mark.parametrize(
    ("name", "called", "levels"), [("SD15", "Stable Diffusion 1.5", 4), ("SDXL", "Stable Diffusion XL", 3)]
)
def test_base_trains_and_its_saved_blocks_sample_the_same(demo, output, name, called, levels):
    from mvdiffusion_pack.host.weights import attach_weights

    model = small_bases.base(name)
    one = replace(demo, model=model)
    trained, losses, _ = train(one, steps=6)
    saved = read_caa(blocks_file(output))
    assert saved.kind == PANORAMA and saved.base == called and len(saved.widths.encoder) == levels
    loaded = attach_weights(model, lambda: read_caa(blocks_file(output)), 1.0)
    latents = one.sample(loaded)
    assert torch.equal(latents, one.sample(trained))
    assert not torch.equal(latents, one.sample(model))
    assert all(0 < loss < 100 for loss in losses["loss"])


def test_outpainting_has_one_given_view_and_grey_ones(demo, output, monkeypatch):
    from mvdiffusion_pack.host.training.unet import TrainingUNet

    fed, call = [], TrainingUNet.__call__

    def watched(self, x, levels, tokens, further, run):
        fed.append(x.detach().clone())
        return call(self, x, levels, tokens, further, run)

    monkeypatch.setattr(TrainingUNet, "__call__", watched)
    one = comfy_nodes.demo("outpainting")
    model, *_ = train(one, kind="outpainting", steps=1)
    assert read_caa(blocks_file(output)).kind == OUTPAINTING
    x = fed[-1]
    assert x.shape[1] == 9
    assert x[:, 4].flatten(1).amax(1).tolist() == [0.0, 1.0, 1.0, 1.0] == x[:, 4].flatten(1).amin(1).tolist()
    assert torch.equal(x[1, 5:], x[2, 5:]) and not torch.equal(x[0, 5:], x[1, 5:])
    grey = one.model.model.process_latent_in(one.vae.encode(torch.full((1, 64, 64, 3), 0.5)))
    torch.testing.assert_close(x[1:2, 5:], grey)
    assert model is not one.model


def test_v_prediction_trains_and_its_file_fits_such_bases_only(demo, output):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    from mvdiffusion_pack.host.weights import attach_weights

    model = ModelSamplingDiscrete().patch(demo.without_blocks, "v_prediction", False)[0]
    one = replace(demo, model=model)
    trained, *_ = train(one)
    saved = read_caa(blocks_file(output))
    assert saved.prediction == "v"
    assert torch.equal(one.sample(attach_weights(model, lambda: saved, 1.0)), one.sample(trained))
    with pytest.raises(ValueError, match="trained on a base that predicts v, and this MODEL predicts the noise"):
        attach_weights(comfy_nodes.demo().without_blocks, lambda: saved, 1.0)
    with pytest.raises(ValueError, match="768-v"):
        attach_weights(model, lambda: replace(saved, prediction="eps"), 1.0)


def test_depth_blocks_and_image_condition_train_on_rendered_walks(output):
    from mvdiffusion_pack.host.setup import KEY
    from mvdiffusion_pack.nodes.training import ROOMS
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras

    one = replace(comfy_nodes.demo("depth"), cameras=walk_cameras(3, 64, 64))
    model, losses, _ = train(one, kind="depth", images=None, captions=None, source=ROOMS, steps=2)
    before, after = (at.get_additional_models_with_key(KEY)[0].model.read().tensors for at in (one.model, model))
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items() if "condition" in name)
    assert len(losses["loss"]) == 2


@pytest.mark.parametrize("name", ["SD15", "SDXL"])
def test_depth_trains_on_other_bases(demo, output, name):
    from mvdiffusion_pack.nodes.training import ROOMS
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras

    one = replace(demo, model=small_bases.base(name, in_channels=5), cameras=walk_cameras(3, 64, 64))
    _, losses, _ = train(one, kind="depth", images=None, captions=None, source=ROOMS, steps=2)
    assert all(0 < loss < 100 for loss in losses["loss"])  # one without known ends, one with them
    saved = read_caa(blocks_file(output))
    assert saved.kind == DEPTH
    branches = [tensor for name, tensor in saved.tensors.items() if "condition" in name]
    assert branches and all(torch.isfinite(tensor).all() for tensor in branches)


def test_depths_first_stage_tunes_the_unet_of_the_result_alone(output):
    from mvdiffusion_pack.host.setup import KEY
    from mvdiffusion_pack.nodes.training import ROOMS
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras

    one = replace(comfy_nodes.demo("depth"), cameras=walk_cameras(2, 64, 64))
    before = {name: weight.clone() for name, weight in one.model.model.state_dict().items()}
    inputs = {"kind": "depth", "images": None, "captions": None, "source": ROOMS, "steps": 1, "unet_steps": 2}
    model, *_ = train(one, **inputs)
    assert len(model.patches) == len(model.model_state_dict("diffusion_model."))
    key = "diffusion_model.input_blocks.0.0.weight"
    ((_, patch, *_),) = model.patches[key]
    assert 0 < (patch[1][0] - before[key]).abs().max() < 1e-3  # a hundredth of the rate, two steps
    for name, weight in one.model.model.state_dict().items():
        assert torch.equal(weight, before[name])
    assert (output / "mvdiffusion" / "training" / "trial" / "unet").is_dir()
    again, *_ = train(one, **inputs)  # both stages are done: nothing is left
    ((_, same, *_),) = again.patches[key]
    assert torch.equal(same[1][0], patch[1][0])
    assert again.get_additional_models_with_key(KEY)


def test_blocks_wait_for_the_end_of_depths_first_stage(output):
    from mvdiffusion_pack.host.training.session import Onlooker, Training
    from mvdiffusion_pack.host.training.session import train as train_blocks
    from mvdiffusion_pack.training.collecting_sequences import walk_cameras
    from mvdiffusion_pack.training.data import Data
    from mvdiffusion_pack.training.distributed import World
    from mvdiffusion_pack.training.settings import Settings

    one = comfy_nodes.demo("depth")
    data = Data(walk_cameras(2, 64, 64), views=2)
    settings = Settings(kind="depth", steps=1, checkpointing=False)
    training = Training(one.model, one.clip, one.vae, data, settings, output / "run", unet_steps=2)
    stopped = train_blocks(training, World(), Onlooker(stopping=lambda: True))
    assert stopped.steps == 0 and stopped.model is one.model
    assert [path.name for path in (output / "run").rglob("step_*")] == ["step_00000001"]
    assert (output / "run" / "unet" / "step_00000001").is_dir()
    done = train_blocks(training, World(), Onlooker())
    assert done.steps == 1 and done.model.patches
