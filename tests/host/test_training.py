"""Train CAA with the real host's UNet, inside of inference mode as its executor runs nodes."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch

from mvdiffusion_pack.caa.weights.checkpoint import read_caa
from mvdiffusion_pack.nodes.training import ROOMS, TrainCAA

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def output(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def picture(seed: int) -> torch.Tensor:
    """(1, 64, 128, 3) soft colours."""
    small = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=(64, 128), mode="bilinear").movedim(1, -1)


def train(demo, **changes):
    """MODEL, LOSS_MAP and steps of the node, whose inputs all come as lists."""
    inputs = {
        "model": demo.model,
        "clip": demo.clip,
        "vae": demo.vae,
        "cameras": demo.cameras,
        "kind": "panorama",
        "steps": 3,
        "batch": 1,
        "learning_rate": 1e-3,
        "seed": 0,
        "dtype": "fp32",
        "run": "trial",
    }
    lists = {"images": [picture(0), picture(1)], "captions": ["one", "two"]}
    lists |= {name: changes.pop(name) for name in ("images", "captions") if name in changes}
    lists = {name: value for name, value in lists.items() if value is not None}
    with torch.inference_mode():
        return TrainCAA.execute(**lists, **{name: [value] for name, value in (inputs | changes).items()}).args


def state(demo) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in demo.model.model.state_dict().items()}


def test_node_trains_and_leaves_the_model_as_it_was(demo, output):
    before, options = state(demo), demo.model.model_options["transformer_options"]["mvdiffusion"]
    model, losses, steps = train(demo)
    assert steps == len(losses["loss"]) == 3
    assert demo.model.model_options["transformer_options"]["mvdiffusion"] is options
    for name, weight in state(demo).items():
        assert torch.equal(weight, before[name])
    latents = demo.sample(model)
    assert torch.isfinite(latents).all()


def test_trained_blocks_are_saved_and_loaded_and_sample_the_same(demo, output, monkeypatch):
    import folder_paths

    from mvdiffusion_pack.nodes.loaders import LoadMVDiffusion, SaveMVDiffusion

    model, *_ = train(demo)
    (path,) = SaveMVDiffusion.execute(model, "saved", "fp32").ui["text"]
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda *_: path)
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda *_: ["saved"])
    loaded = LoadMVDiffusion.execute(demo.without_blocks, "saved", 1.0).args[0]
    assert torch.equal(demo.sample(loaded), demo.sample(model))


def test_more_steps_go_on_from_a_finished_run(demo, output):
    train(demo)
    _, losses, steps = train(demo, steps=5)
    assert steps == len(losses["loss"]) == 5


def test_training_unet_predicts_what_the_host_samples_with(demo, output):
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


def test_rooms_are_rendered_where_no_images_are_connected(demo, output):
    _, losses, _ = train(demo, images=None, captions=None, source=ROOMS, rooms=2, steps=2)
    assert len(losses["loss"]) == 2


def test_run_is_a_folder_whose_blocks_load_as_they_are(demo, output):
    train(demo)
    (saved,) = (output / "mvdiffusion" / "training" / "trial").glob("step_*/blocks.safetensors")
    assert read_caa(saved).base == "Stable Diffusion 2"
