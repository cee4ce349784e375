"""The depth weights' own UNet, put over that of another SD 2 depth MODEL."""

from __future__ import annotations

import pytest
import torch
from golden_model import golden_caa, golden_model
from published_files import golden_weights, write_published

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The recorded depth model in the authors' layout."""
    path = tmp_path_factory.mktemp("weights") / "depth_gen.ckpt"
    write_published(path, golden_weights("depth"))
    return path


@pytest.fixture(scope="module")
def expected(comfy):
    """The recorded depth UNet's output."""
    return output(golden_model("depth", 5))


def other_model():
    """A MODEL of the same structure with other weights."""
    model = golden_model("depth", 5)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.model.parameters():
        parameter.data = parameter + 0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    return model


def output(model) -> torch.Tensor:
    """What the MODEL's UNet answers to a fixed input, patches applied as for sampling and taken off again."""
    x = torch.randn((2, 5, 16, 16), generator=torch.Generator().manual_seed(3))
    context = torch.randn((2, 7, 32), generator=torch.Generator().manual_seed(4))
    model.patch_model()
    try:
        with torch.inference_mode():
            return model.model.diffusion_model(x, torch.full((2,), 500), context)
    finally:
        model.unpatch_model()


def lora(model) -> dict:
    """A change of one layer as the host's LoRA loader makes it."""
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    return {key: ("diff", (torch.full_like(model.model_state_dict()[key], 0.05),))}


def with_lora(model):
    model = model.clone()
    model.add_patches(lora(model))
    return model


def tuned(model, path):
    from mvdiffusion_pack.caa.weights.tensor_files import TensorFile
    from mvdiffusion_pack.host.weights import with_tuned_unet

    return with_tuned_unet(model, TensorFile(path))


def test_files_unet_takes_the_place_of_the_models(file, expected):
    model = other_model()
    before = output(model)
    assert torch.equal(output(tuned(model, file)), expected)
    assert torch.equal(output(model), before)  # the MODEL given is untouched
    assert not torch.equal(before, expected)


def test_lora_before_or_after_gives_one_picture(file, expected):
    model = other_model()
    before, after = output(tuned(with_lora(model), file)), output(with_lora(tuned(model, file)))
    assert torch.equal(before, after)
    assert torch.equal(before, output(with_lora(golden_model("depth", 5))))
    assert not torch.equal(before, expected)


def test_second_file_takes_the_place_of_the_first(file, expected, tmp_path):
    write_published(tmp_path / "other.ckpt", golden_weights("depth", seed=9))
    twice = tuned(tuned(other_model(), tmp_path / "other.ckpt"), file)
    assert torch.equal(output(twice), expected)
    assert all(len(patches) == 1 for patches in twice.patches.values())


def test_panorama_weights_leave_the_unet_as_it_is(comfy, tmp_path):
    write_published(tmp_path / "pano.ckpt", golden_weights("pano"))
    model = golden_model("pano")
    assert tuned(model, tmp_path / "pano.ckpt") is model


def test_slim_file_leaves_the_unet_as_it_is_and_says_so(comfy, tmp_path, caplog):
    from mvdiffusion_pack.caa.weights.checkpoint import write_slim

    write_slim(tmp_path / "slim.safetensors", golden_caa("depth"), torch.float32)
    model = golden_model("depth", 5)
    assert tuned(model, tmp_path / "slim.safetensors") is model
    assert "holds no UNet" in caplog.text


def test_unet_of_another_structure_is_refused(comfy, tmp_path):
    weights = golden_weights("depth")
    lost = next(key for key in weights if key.endswith("mid_block.resnets.0.conv1.weight"))
    del weights[lost]
    write_published(tmp_path / "broken.ckpt", weights)
    with pytest.raises(ValueError, match=r"1 missing .* as diffusion_model\.middle_block\.0\.in_layers\.2\.weight"):
        tuned(other_model(), tmp_path / "broken.ckpt")


def test_unet_that_reads_other_texts_is_refused(comfy, tmp_path):
    weights = golden_weights("depth")
    key = next(key for key in weights if key.endswith("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"))
    weights[key] = weights[key][:, :16].clone()
    write_published(tmp_path / "broken.ckpt", weights)
    with pytest.raises(ValueError, match=r"1 missing or of another size, such as .*attn2\.to_k\.weight"):
        tuned(other_model(), tmp_path / "broken.ckpt")


def test_a_load_reads_the_files_index_once(file, monkeypatch):
    from mvdiffusion_pack.caa.weights import tensor_files
    from mvdiffusion_pack.nodes import loaders

    opened, dump = [], tensor_files.Dump
    monkeypatch.setattr(tensor_files, "Dump", lambda path: opened.append(path) or dump(path))
    monkeypatch.setattr(loaders, "_path", lambda _: file)
    loaders.LoadMVDiffusion.execute(other_model(), "depth.ckpt", 1.0)
    assert opened == [file]
