"""MODEL, CLIP and VAE from the authors' single file, in the host."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from published_files import full_size_weights, golden_weights, write_published
from safetensors.torch import save_file

from mvdiffusion_pack.caa.weights.tensor_files import TensorFile

pytestmark = pytest.mark.host

UNET = "mv_base_model.unet."
RENAMED = {
    UNET + "conv_in.weight": "input_blocks.0.0.weight",
    UNET + "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
    UNET + "down_blocks.2.downsamplers.0.conv.weight": "input_blocks.9.0.op.weight",
    UNET + "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
    UNET + "up_blocks.2.attentions.2.transformer_blocks.0.attn2.to_k.weight": (
        "output_blocks.8.1.transformer_blocks.0.attn2.to_k.weight"
    ),
    UNET + "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
    UNET + "time_embedding.linear_2.weight": "time_embed.2.weight",
}


@pytest.fixture
def loading(comfy):
    from mvdiffusion_pack.host import loading

    return loading


@pytest.fixture(autouse=True)
def _inference_mode():
    """As the host's executor runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def full_size(tmp_path_factory) -> Path:
    """An authors' panorama file whose UNet the host takes for a v-prediction model."""
    path = tmp_path_factory.mktemp("full") / "pano.ckpt"
    write_published(path, full_size_weights("pano_sd2", torch.float16, v_like=True))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pano_sd2", "outpaint_sd2", "depth_sd2"])
def test_unets_of_all_kinds_are_loaded_whole(loading, name, tmp_path):
    weights = full_size_weights(name, torch.float16)
    write_published(tmp_path / "full.ckpt", weights)
    model = loading.load_base_patcher(tmp_path / "full.ckpt", "model").model
    loaded = model.diffusion_model.state_dict()
    assert model.model_type == type(model.model_type).EPS
    assert len(loaded) == sum(key.startswith(UNET) for key in weights)
    assert all(torch.equal(loaded[ours].half(), weights[theirs]) for theirs, ours in RENAMED.items())


@pytest.mark.slow
def test_the_model_predicts_noise_whatever_the_host_guesses(loading, full_size):
    from comfy import model_base, model_sampling

    model = loading.load_base_patcher(full_size, "model")
    assert model.model.model_type == model_base.ModelType.V_PREDICTION
    sampling = model.get_model_object("model_sampling")
    assert isinstance(sampling, model_sampling.EPS)
    assert not isinstance(sampling, model_sampling.V_PREDICTION)


@pytest.mark.slow
def test_vae_is_loaded(loading, full_size):
    weights = full_size_weights("pano_sd2", torch.float16, v_like=True)
    vae = loading.load_base_patcher(full_size, "vae").model.state_dict()
    query = weights["vae.decoder.mid_block.attentions.0.query.weight"]
    assert torch.equal(vae["decoder.mid.attn_1.q.weight"][..., 0, 0].half(), query)
    assert torch.equal(
        vae["decoder.up.3.upsample.conv.bias"].half(), weights["vae.decoder.up_blocks.0.upsamplers.0.conv.bias"]
    )


@pytest.mark.slow
def test_text_encoder_is_loaded_and_its_last_layer_adds_nothing(loading, full_size):
    clip = loading.load_base_patcher(full_size, "clip").model.state_dict()
    layers = "clip_h.transformer.text_model.encoder.layers."
    first = full_size_weights("pano_sd2", torch.float16)["text_encoder.text_model.encoder.layers.22.mlp.fc2.weight"]
    assert torch.equal(clip[layers + "22.mlp.fc2.weight"].half(), first)
    assert all(not tensor.any() for key, tensor in clip.items() if key.startswith(layers + "23."))


@pytest.mark.slow
def test_the_three_belong_together(loading, full_size):
    model, clip, vae = loading.load_base_models(TensorFile(full_size))
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a red house"))
    assert conditioning[0][0].shape == (1, 77, 1024)
    assert conditioning[0][1]["pooled_output"].isfinite().all()
    assert model.model.latent_format.latent_channels == vae.latent_channels
    for part, patcher in (("model", model), ("clip", clip.patcher), ("vae", vae.patcher)):
        assert patcher.cached_patcher_init == (loading.load_base_patcher, (full_size, part))


@pytest.mark.slow
def test_patchers_without_dynamic_memory_on_demand(loading, full_size):
    from comfy import model_patcher, sd

    if "disable_dynamic" not in inspect.signature(sd.load_state_dict_guess_config).parameters:
        pytest.skip("this ComfyUI has no dynamic memory")
    patcher = loading.load_base_patcher(full_size, "clip", disable_dynamic=True)
    assert type(patcher) is model_patcher.ModelPatcher


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "part", "named"),
    [
        (UNET + "mid_block.resnets.1.conv2.weight", "UNet", r"middle_block\.2"),
        ("vae.encoder.mid_block.attentions.0.query.weight", "VAE", r"encoder\.mid\.attn_1\.q"),
        ("text_encoder.text_model.encoder.layers.3.mlp.fc1.bias", "text encoder", r"layers\.3\.mlp\.fc1"),
    ],
)
def test_missing_weights_are_named(loading, tmp_path, key, part, named):
    weights = full_size_weights("pano_sd2", torch.float16)
    del weights[key]
    write_published(tmp_path / "part.ckpt", weights)
    with pytest.raises(ValueError, match=rf"part\.ckpt: 1 weights of the {part} are missing.*{named}"):
        loading.load_base_models(TensorFile(tmp_path / "part.ckpt"))


def test_missing_parts_are_named(loading, tmp_path):
    write_published(tmp_path / "bare.ckpt", golden_weights("pano"))
    with pytest.raises(ValueError, match=r"bare\.ckpt holds no VAE and no text encoder"):
        loading.load_base_models(TensorFile(tmp_path / "bare.ckpt"))


def test_the_node_says_its_title_and_what_to_do(loading, tmp_path, monkeypatch):
    from mvdiffusion_pack.nodes import loaders

    path = tmp_path / "bare.ckpt"
    write_published(path, golden_weights("pano"))
    monkeypatch.setattr(loaders, "_path", lambda _: path)
    with pytest.raises(ValueError) as raised:
        loaders.LoadMVDiffusionCheckpoint.execute("bare.ckpt", 1.0)
    assert str(raised.value) == (
        f"Load MVDiffusion Checkpoint: {path} holds no VAE and no text encoder: load SD 2 with Load Checkpoint, and "
        "pass its MODEL through Load MVDiffusion with this file."
    )


def test_slim_files_hold_no_base(loading, tmp_path):
    slim = {key: tensor for key, tensor in golden_weights("pano").items() if "cp_blocks" in key}
    save_file(slim, tmp_path / "slim.safetensors")
    with pytest.raises(ValueError, match=r"holds no UNet and no VAE and no text encoder"):
        loading.load_base_models(TensorFile(tmp_path / "slim.safetensors"))


def test_other_files_are_refused(loading, tmp_path):
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(4, 4)}, tmp_path / "style.safetensors")
    with pytest.raises(ValueError, match=r"style\.safetensors: the file is a LoRA"):
        loading.load_base_models(TensorFile(tmp_path / "style.safetensors"))


def with_stubs(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Complete as far as names go."""
    stubs = {"vae.quant_conv.bias": torch.zeros(8), "text_encoder.text_model.final_layer_norm.bias": torch.zeros(1024)}
    return weights | stubs


def test_unets_of_other_widths_are_refused(loading, tmp_path):
    write_published(tmp_path / "small.ckpt", with_stubs(golden_weights("pano")))
    with pytest.raises(ValueError, match=r"small\.ckpt: ComfyUI knows no UNet of these widths"):
        loading.load_base_models(TensorFile(tmp_path / "small.ckpt"))


def test_unets_of_another_structure_are_refused(loading, tmp_path):
    more = {UNET + "down_blocks.3.attentions.0.norm.weight": torch.ones(64)}
    write_published(tmp_path / "other.ckpt", with_stubs(golden_weights("pano") | more))
    with pytest.raises(ValueError, match=r"not SD 2's, it has 1 other keys such as down_blocks\.3\.attentions"):
        loading.load_base_models(TensorFile(tmp_path / "other.ckpt"))


@pytest.mark.parametrize("node", ["LoadMVDiffusion", "LoadMVDiffusionCheckpoint"])
def test_graphs_that_say_how_blocks_attend_stay_valid(comfy, node):
    from mvdiffusion_pack.nodes import loaders

    (attention,) = (one for one in getattr(loaders, node).define_schema().inputs if one.id == "attention")
    assert attention.options == ["auto", "torch", "plain"] and attention.default == "auto" and attention.optional
