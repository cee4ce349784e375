"""CAA weights from published and slim files: nothing lost, nothing half-written, every fault named."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from in_process import ROOT
from published_files import frozen_weights, golden_weights, manifest, published_frequencies, write_published
from safetensors import safe_open
from safetensors.torch import save_file

from mvdiffusion_pack.caa.weights.checkpoint import CAAWeights, read_caa, write_slim
from mvdiffusion_pack.caa.weights.kinds import KINDS, PANORAMA, Widths
from mvdiffusion_pack.caa.weights.shapes import expected_shapes
from mvdiffusion_pack.geometry.input_error import InputError

NAMES = {"pano": "panorama", "outpaint": "outpainting", "depth": "depth"}
PREFIX = "mv_base_model."
TO_Q = "mv_base_model.cp_blocks_mid.transformer.attn1.to_q.weight"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("published")
    for name in NAMES:
        write_published(folder / f"{name}.ckpt", golden_weights(name))
    return {name: folder / f"{name}.ckpt" for name in NAMES}


def blocks(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The keys and values that `CAAWeights` takes from a published file."""
    chosen = {key.removeprefix(PREFIX): tensor for key, tensor in weights.items() if ".unet." not in key}
    return {key.removeprefix("cp_blocks_"): tensor for key, tensor in chosen.items() if "freq_bands" not in key}


def assert_same(one: CAAWeights, other: CAAWeights) -> None:
    assert one.kind is other.kind
    assert one.widths == other.widths
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(tensor, other.tensors[key]) for key, tensor in one.tensors.items())
    assert one.frequencies.keys() == other.frequencies.keys()
    assert all(torch.equal(bands, other.frequencies[block]) for block, bands in one.frequencies.items())


@pytest.mark.parametrize("name", NAMES)
def test_published_files_are_read_whole(files, name):
    weights = read_caa(files[name])
    expected = blocks(golden_weights(name))
    assert weights.kind is KINDS[NAMES[name]]
    assert weights.widths == Widths(encoder=(32, 64, 64, 64), mid=64, decoder=(64, 64, 64, 32))
    assert weights.tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in weights.tensors.items())


@pytest.mark.parametrize(("name", "dims"), [("pano", 2), ("depth", 1)])
def test_frequencies_come_by_block(files, name, dims):
    weights = read_caa(files[name])
    for block, width in weights.widths.by_block().items():
        assert torch.equal(weights.frequencies[block], published_frequencies(width // (2 * dims)))


@pytest.mark.parametrize("name", NAMES)
def test_files_of_torch_before_1_6_are_read_too(files, name, tmp_path):
    write_published(tmp_path / "old.ckpt", golden_weights(name), legacy=True)
    assert_same(read_caa(tmp_path / "old.ckpt"), read_caa(files[name]))


@pytest.mark.parametrize("name", NAMES)
def test_slim_files_round_trip(files, name, tmp_path):
    weights = dataclasses.replace(read_caa(files[name]), base="a base of mine")
    write_slim(tmp_path / "slim.safetensors", weights, torch.float32)
    again = read_caa(tmp_path / "slim.safetensors")
    assert_same(again, weights)
    assert again.base == "a base of mine"


def test_slim_files_have_the_asked_dtype_and_exact_frequencies(tmp_path):
    widths = Widths(encoder=(320,), mid=320, decoder=(320,))
    shapes = expected_shapes(PANORAMA, widths)
    tensors = {key: tensor for key, tensor in frozen_weights(shapes, 0).items() if "freq_bands" not in key}
    bands = {block: published_frequencies(80) for block in widths.by_block()}
    write_slim(tmp_path / "slim.safetensors", CAAWeights(PANORAMA, widths, tensors, bands), torch.float16)
    again = read_caa(tmp_path / "slim.safetensors")
    assert {tensor.dtype for tensor in again.tensors.values()} == {torch.float16}
    assert {bands.dtype for bands in again.frequencies.values()} == {torch.float32}
    assert again.frequencies["encoder.0"][-1] == 2.0**79


def test_slim_files_say_what_they_are(files, tmp_path):
    write_slim(tmp_path / "slim.safetensors", read_caa(files["outpaint"]), torch.float16)
    with safe_open(tmp_path / "slim.safetensors", framework="pt") as file:
        metadata, keys = file.metadata(), set(file.keys())
    widths = {"encoder": [32, 64, 64, 64], "mid": 64, "decoder": [64, 64, 64, 32]}
    assert json.loads(metadata.pop("widths")) == widths
    assert metadata == {
        "format": "mvdiffusion",
        "kind": "outpainting",
        "base": "Stable Diffusion 2",
        "prediction": "eps",
    }
    published = {key.removeprefix(PREFIX) for key in manifest("outpaint") if ".unet." not in key}
    assert keys == published


def test_a_failed_save_leaves_the_old_file_and_nothing_else(files, tmp_path):
    path = tmp_path / "slim.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_slim(path, dataclasses.replace(read_caa(files["pano"]), base=3), torch.float16)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps mapped files from being replaced")
def test_a_file_can_be_saved_over_itself(files, tmp_path):
    path = tmp_path / "slim.safetensors"
    write_slim(path, read_caa(files["pano"]), torch.float32)
    write_slim(path, read_caa(path), torch.float32)
    assert_same(read_caa(path), read_caa(files["pano"]))


@pytest.mark.parametrize("prefix", ["", "model.mv_base_model.", "module."])
def test_other_prefixes_are_accepted(files, prefix, tmp_path):
    weights = {prefix + key.removeprefix(PREFIX): tensor for key, tensor in golden_weights("depth").items()}
    save_file(weights, tmp_path / "renamed.safetensors")
    assert_same(read_caa(tmp_path / "renamed.safetensors"), read_caa(files["depth"]))


def test_frequencies_lost_in_half_precision_are_made_anew(files, tmp_path):
    weights = {key: tensor.half() for key, tensor in golden_weights("depth").items()}
    assert any(tensor.isinf().any() for tensor in weights.values())
    write_published(tmp_path / "half.ckpt", weights)
    frequencies = read_caa(tmp_path / "half.ckpt").frequencies
    assert all(torch.equal(bands, frequencies[block]) for block, bands in read_caa(files["depth"]).frequencies.items())


def test_missing_keys_are_named(tmp_path):
    weights = {key: tensor for key, tensor in golden_weights("pano").items() if "mid.transformer.attn1" not in key}
    write_published(tmp_path / "part.ckpt", weights)
    with pytest.raises(InputError, match=r"part\.ckpt: .*missing keys: cp_blocks_mid\.[^\n]* and 2 more\)"):
        read_caa(tmp_path / "part.ckpt")


def test_missing_blocks_are_named(tmp_path):
    weights = {key: tensor for key, tensor in golden_weights("pano").items() if "cp_blocks_encoder.2" not in key}
    write_published(tmp_path / "part.ckpt", weights)
    with pytest.raises(InputError, match=r"the blocks cp_blocks_encoder\.2 are missing"):
        read_caa(tmp_path / "part.ckpt")


def test_unexpected_keys_are_named(tmp_path):
    weights = golden_weights("pano") | {f"{PREFIX}cp_blocks_mid.gate": torch.zeros(1)}
    write_published(tmp_path / "more.ckpt", weights)
    with pytest.raises(InputError, match=r"unexpected keys: cp_blocks_mid\.gate"):
        read_caa(tmp_path / "more.ckpt")


def test_wrong_shapes_are_named(tmp_path):
    write_published(tmp_path / "odd.ckpt", golden_weights("pano") | {TO_Q: torch.zeros(32, 64)})
    with pytest.raises(
        InputError, match=r"mid\.transformer\.attn1\.to_q\.weight is \[32, 64\] and should be \[64, 64\]"
    ):
        read_caa(tmp_path / "odd.ckpt")


def test_other_files_are_refused_by_name(tmp_path):
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(4, 4)}, tmp_path / "style.safetensors")
    with pytest.raises(InputError, match=r"style\.safetensors: the file is a LoRA"):
        read_caa(tmp_path / "style.safetensors")


MEASURE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import in_process
in_process.load_pack()
from mvdiffusion_pack.caa.weights.checkpoint import read_caa
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = read_caa(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_trainer_state_costs_no_memory(tmp_path):
    """Half a gigabyte of optimizer state in the file: reading takes a few megabytes."""
    write_published(tmp_path / "big.ckpt", golden_weights("pano"), extra=torch.zeros(2**27))
    command = [sys.executable, "-c", MEASURE, str(ROOT / "scripts"), str(tmp_path / "big.ckpt")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 50_000  # kilobytes
