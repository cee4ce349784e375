"""Train CAA with the real host's UNet."""

from __future__ import annotations

import time
import weakref

import comfy_nodes
import pytest
import torch
from train_node import picture, train, without_validation

from mvdiffusion_pack.caa.weights.checkpoint import read_caa
from mvdiffusion_pack.training.validation import Validated

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch, comfy):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def unvalidated(monkeypatch):
    without_validation(monkeypatch)


def state(demo) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in demo.model.model.state_dict().items()}


def run_folder(output):
    return output / "mvdiffusion" / "training" / "trial"


def test_node_trains_and_leaves_the_model_as_it_was(demo):
    before, options = state(demo), demo.model.model_options["transformer_options"]["mvdiffusion"]
    model, losses, steps = train(demo)
    assert steps == len(losses["loss"]) == 3
    assert demo.model.model_options["transformer_options"]["mvdiffusion"] is options
    for name, weight in state(demo).items():
        assert torch.equal(weight, before[name])
    latents = demo.sample(model)
    assert torch.isfinite(latents).all()


def test_trained_blocks_are_saved_and_loaded_and_sample_the_same(demo, monkeypatch, unvalidated):
    import folder_paths

    from mvdiffusion_pack.nodes.loaders import LoadMVDiffusion, SaveMVDiffusion

    model, *_ = train(demo)
    (path,) = SaveMVDiffusion.execute(model, "saved", "fp32").ui["text"]
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: path)
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda *_: ["saved"])
    loaded = LoadMVDiffusion.execute(demo.without_blocks, "saved", 1.0).args[0]
    assert torch.equal(demo.sample(loaded), demo.sample(model))


def test_run_has_its_tokens_filled_in(demo, output, unvalidated):
    train(demo, steps=1, run="rooms_%width%_%year%%date:dd%")
    width, year = demo.cameras.width, time.strftime("%Y")
    assert [folder.name for folder in run_folder(output).parent.iterdir()] == [f"rooms_{width}_{year}"]


def test_more_steps_go_on_from_a_finished_run(demo, output, unvalidated):
    train(demo)
    _, losses, steps = train(demo, steps=5)
    assert steps == len(losses["loss"]) == 5
    (saved,) = run_folder(output).glob("step_*/blocks.safetensors")
    assert read_caa(saved).base == "Stable Diffusion 2"


def test_stop_saves_and_the_same_graph_goes_on_bit_by_bit(demo, output, monkeypatch, unvalidated):
    import comfy.model_management as management

    from mvdiffusion_pack.training.run import Run

    _, whole, _ = train(demo, run="whole")
    apply, places = Run.apply, []

    def in_the_middle_of_a_step(self, name, x):
        places.append(name)
        if places.count("mid_inside") == 3:
            management.interrupt_current_processing()
        return apply(self, name, x)

    monkeypatch.setattr(Run, "apply", in_the_middle_of_a_step)
    with pytest.raises(management.InterruptProcessingException):
        train(demo)
    monkeypatch.setattr(Run, "apply", apply)
    assert [path.name for path in run_folder(output).iterdir()] == ["step_00000002"]
    _, parts, _ = train(demo)
    assert parts == whole


def test_training_unet_predicts_what_the_host_samples_with(demo):
    from mvdiffusion_pack.host.training.unet import TrainingUNet, normal_mode

    x, sigma = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([2.0, 2.0])
    tokens = demo.positive[0][0].repeat(2, 1, 1)
    model = demo.without_blocks
    with torch.inference_mode():
        denoised = model.model.apply_model(x, sigma, c_crossattn=tokens)
        with normal_mode():
            unet = TrainingUNet(model, torch.float32, torch.device("cpu"))
            level = model.model.model_sampling.timestep(sigma)
            predicted = unet((x / 5**0.5).clone(), level.clone(), tokens.clone(), {}, None)
        torch.testing.assert_close(x - 2 * predicted, denoised, rtol=1e-4, atol=1e-4)


def test_training_unet_has_the_loras_of_the_model(demo):
    from mvdiffusion_pack.host.training.unet import normal_mode, patched_weights

    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    model = demo.without_blocks.clone()
    change = torch.full(model.model.state_dict()[key].shape, 0.5)
    model.add_patches({key: ("diff", (change,))}, 0.5)
    with torch.inference_mode(), normal_mode():
        weights = patched_weights(model, torch.float32, torch.device("cpu"))
    name = key.removeprefix("diffusion_model.")
    torch.testing.assert_close(weights[name], model.model.state_dict()[key] + 0.25)
    assert not any(weight.is_inference() for weight in weights.values())


def test_rooms_are_rendered_where_no_images_are_connected(demo, unvalidated):
    from mvdiffusion_pack.nodes.training import ROOMS

    _, losses, _ = train(demo, images=None, captions=None, source=ROOMS, rooms=2, steps=2)
    assert len(losses["loss"]) == 2


def test_validation_samples_a_panorama_and_measures_its_agreement(demo, monkeypatch):
    from mvdiffusion_pack.host.training import showing

    seen: list[Validated] = []
    monkeypatch.setattr(showing.NodeView, "validated", lambda self, validated: seen.append(validated))
    train(demo, steps=2, validate_every=1)
    assert [one.step for one in seen] == [0, 1, 2]
    for one in seen:
        assert one.loss > 0 and 0 < one.psnr < 100
        assert showing.joined(one).size == (512, 256) or showing.joined(one).width == 2 * showing.joined(one).height


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_and_all_the_rest_at_once(demo, dtype, unvalidated):
    rest = {"ema": 0.9, "batch": 2, "accumulation": 2, "checkpointing": True, "warm_up": 1, "latents": "keep a few"}
    model, losses, _ = train(demo, dtype=dtype, steps=2, **rest)
    assert all(0 < loss < 100 for loss in losses["loss"])
    assert torch.isfinite(demo.sample(model)).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_going_on_from_the_models_own_blocks(demo, unvalidated, checkpointing):
    model, *_ = train(demo, start="those of the MODEL", steps=1, learning_rate=1e-7, checkpointing=checkpointing)
    before, after = (blocks_of(one) for one in (demo.model, model))
    for name, tensor in before.items():  # fp16, as they are shipped
        torch.testing.assert_close(after[name], tensor.float(), rtol=0, atol=1e-5)


def test_batch_of_images_is_a_list_too(demo, unvalidated):
    images = torch.cat([picture(0), picture(1)])
    _, as_batch, _ = train(demo, images=[images], run="batch")
    _, as_list, _ = train(demo, run="list")
    assert as_batch == as_list


def test_nothing_of_a_training_stays_but_its_result(demo, monkeypatch, unvalidated):
    from mvdiffusion_pack.host.training import session

    made, unet_class = [], session.TrainingUNet

    def watched(*args, **options):
        unet = unet_class(*args, **options)
        made.extend(weakref.ref(part) for part in (unet, unet.unet, next(unet.unet.parameters())))
        return unet

    monkeypatch.setattr(session, "TrainingUNet", watched)
    train(demo, checkpointing=True)
    assert len(made) == 3 and [part() for part in made] == [None] * 3


def test_going_on_from_a_file(demo, monkeypatch, tmp_path, unvalidated):
    import folder_paths

    from mvdiffusion_pack.nodes.loaders import SaveMVDiffusion

    model, *_ = train(demo, run="first")
    (path,) = SaveMVDiffusion.execute(model, "first", "fp32").ui["text"]
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: path)
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda *_: ["first.safetensors"])
    again, *_ = train(demo, run="second", start="first.safetensors", steps=1, learning_rate=1e-7)
    before, after = (blocks_of(one) for one in (model, again))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)


def blocks_of(model) -> dict[str, torch.Tensor]:
    from mvdiffusion_pack.host.setup import KEY

    return model.get_additional_models_with_key(KEY)[0].model.read().tensors
