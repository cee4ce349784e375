"""The pack as the host loads it."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import comfy_nodes
import in_process
import pytest
import torch
from golden_model import golden_caa, golden_model

pytestmark = pytest.mark.host

NODES = {
    "MVDiffusionLoad": "Load MVDiffusion",
    "MVDiffusionLoadCheckpoint": "Load MVDiffusion Checkpoint",
    "MVDiffusionLoadDemo": "Load Demo Model",
    "MVDiffusionPanoramaCameras": "Panorama Cameras",
    "MVDiffusionDepthCameras": "Depth Cameras",
    "MVDiffusionSourceImage": "Source Image to Views",
    "MVDiffusionTextEncode": "Multi-View Text Encode",
    "MVDiffusionApplyCameras": "Apply Cameras",
    "MVDiffusionFuse": "Fuse Views",
    "MVDiffusionKSampler": "Multi-View KSampler",
    "MVDiffusionInterpolate": "Interpolate Keyframes",
    "MVDiffusionStitchEquirect": "Stitch Equirect",
    "MVDiffusionEquirectToViews": "Equirect to Views",
    "MVDiffusionLoadPanorama": "Load Panorama",
    "MVDiffusionRotatePanorama": "Rotate Panorama",
    "MVDiffusionPreviewPanorama": "Preview Panorama",
    "MVDiffusionSavePanorama": "Save Panorama",
    "MVDiffusionSaveSequence": "Save Posed Views",
    "MVDiffusionOverlapPSNR": "Overlap PSNR",
    "MVDiffusionSave": "Save MVDiffusion",
    "MVDiffusionTrain": "Train CAA",
}


@pytest.fixture(scope="module")
def loaded(comfy):
    """The host's nodes module after it has loaded the pack from its folder."""
    import nodes

    assert asyncio.run(nodes.load_custom_node(str(in_process.ROOT)))
    return nodes


def test_the_host_lists_every_node_under_its_public_name(loaded):
    found = {name: loaded.NODE_DISPLAY_NAME_MAPPINGS[name] for name in loaded.NODE_CLASS_MAPPINGS if "MVDiff" in name}
    assert found == NODES


@pytest.mark.parametrize("node_id", NODES)
def test_every_input_and_output_is_explained(loaded, node_id):
    schema = loaded.NODE_CLASS_MAPPINGS[node_id].GET_SCHEMA()
    assert schema.description and schema.category == "MVDiffusion"
    assert all(part.tooltip for part in (*schema.inputs, *schema.outputs))
    assert all(output.display_name for output in schema.outputs)


def test_help_page_of_every_node(loaded):
    pages = {page.stem for page in (in_process.ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(NODES)


def test_models_folder_lists_weights_only(loaded, tmp_path):
    import folder_paths

    folders, extensions = folder_paths.folder_names_and_paths["mvdiffusion"]
    assert folders[0].endswith("mvdiffusion")
    assert {".ckpt", ".safetensors"} <= set(extensions) and "" not in extensions


@pytest.mark.parametrize(("name", "said"), [("(no file in models/mvdiffusion)", "no file"), ("x.ckpt", "no 'x.ckpt'")])
def test_absent_files_are_said_with_where_to_put_them(loaded, name, said):
    sentence = loaded.NODE_CLASS_MAPPINGS["MVDiffusionLoad"].validate_inputs(name)
    assert sentence.startswith(f"There is {said} in models/mvdiffusion: put the authors' pano.ckpt")


def test_a_users_own_models_folder_stays(loaded, tmp_path):
    import folder_paths

    from mvdiffusion_pack.nodes.loaders import register_models_folder

    folder_paths.add_model_folder_path("mvdiffusion", str(tmp_path))
    register_models_folder()
    try:
        assert str(tmp_path) in folder_paths.get_folder_paths("mvdiffusion")
    finally:
        folder_paths.folder_names_and_paths["mvdiffusion"][0].remove(str(tmp_path))


def test_nodes_load_where_opencv_and_kornia_do_not(comfy, monkeypatch):
    for name in ("cv2", "kornia"):
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)
    pack = in_process.load_pack("mvdiffusion_without_extras")
    extension = asyncio.run(pack.comfy_entrypoint())
    assert len(asyncio.run(extension.get_node_list())) == len(NODES)


def test_save_keeps_digits_that_the_models_precision_has_not(comfy, tmp_path):
    from mvdiffusion_pack.caa.weights.checkpoint import read_caa
    from mvdiffusion_pack.host import setup, weights

    model = weights.attach_weights(golden_model(dtype=torch.float16), golden_caa, 1.0)
    kept = model.get_additional_models_with_key(setup.KEY)[0].model.state_dict()
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    weights.save_weights(model, str(tmp_path / "a.safetensors"), torch.float32)
    saved = read_caa(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(saved[key], tensor) for key, tensor in golden_caa().tensors.items())


def test_blocks_of_an_fp8_model_are_kept_in_fp16(comfy):
    from mvdiffusion_pack.host import setup, weights

    plain = golden_model()
    plain.model.diffusion_model.dtype = torch.float8_e4m3fn  # what such a MODEL says of itself
    plain.model.model_config.unet_config["dtype"] = torch.float8_e4m3fn
    assert plain.model_dtype() == torch.float8_e4m3fn
    model = weights.attach_weights(plain, golden_caa, 1.0)
    kept = model.get_additional_models_with_key(setup.KEY)[0].model.state_dict()
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}


def test_save_writes_a_slim_file_that_loads_again(comfy, tmp_path, monkeypatch):
    import folder_paths

    from mvdiffusion_pack.caa.weights.checkpoint import read_caa
    from mvdiffusion_pack.host.weights import attach_weights
    from mvdiffusion_pack.nodes.loaders import SaveMVDiffusion

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    demo = comfy_nodes.demo()
    SaveMVDiffusion.execute(demo.model, "caa/demo", "fp32")
    (path,) = (tmp_path / "caa").glob("*.safetensors")
    again = attach_weights(demo.without_blocks, lambda: read_caa(path), 1.0)
    assert torch.equal(demo.sample(again), demo.sample())


def test_save_fills_in_tokens_and_leaves_out_those_of_the_page(comfy, tmp_path, monkeypatch):
    import folder_paths

    from mvdiffusion_pack.nodes.loaders import SaveMVDiffusion

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    (path,) = SaveMVDiffusion.execute(comfy_nodes.demo().model, "caa/%year%:%date:dd%", "fp16").ui["text"]
    assert Path(path) == tmp_path / "caa" / f"{time.strftime('%Y')}__00001_.safetensors"
    assert Path(path).is_file()
