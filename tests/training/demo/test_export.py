"""What is shipped of a training, and a training that goes on from it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from mvdiffusion_pack.caa.weights.checkpoint import read_caa
from mvdiffusion_pack.caa.weights.kinds import KINDS
from mvdiffusion_pack.training.demo import adopt, config, export, files, parts
from mvdiffusion_pack.training.demo.context import Context
from mvdiffusion_pack.training.demo.fresh import fresh
from mvdiffusion_pack.training.demo.kinds import CHANNELS
from mvdiffusion_pack.training.demo.machine import this_machine
from mvdiffusion_pack.training.demo.optimiser import Optimiser
from mvdiffusion_pack.training.demo.text import TextEncoder, Words

pytestmark = [pytest.mark.host, pytest.mark.once]

SMALL = {**config.UNET, "model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": [1, 1]}
SMALL |= {"transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
WORDS = Words([500, 600])


@pytest.fixture
def run(comfy, monkeypatch, tmp_path) -> Context:
    """A training whose autoencoder is sealed."""
    import host_modules

    monkeypatch.setattr(config, "UNET", SMALL)
    given = Context(tmp_path / "run", this_machine(), host_modules.HostModules(), {})
    module = fresh(given.host.autoencoder(config.AUTOENCODER), 1)
    files.save(given.folder / "autoencoder.sealed.pt", module.state_dict())
    (given.folder / "words.json").write_text(json.dumps(WORDS.tokens), encoding="utf-8")
    return given


def train(run: Context, stage: str, parameters: list, seed: int) -> None:
    """Leaves a stage's state behind, in which all weights are drawn anew."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    files.save(run.folder / f"{stage}.pt", {"optimiser": Optimiser(parameters, 1e-3, 0.9).state_dict()})


def train_unet(run: Context) -> None:
    shared, text = parts.base_models(run)
    train(run, "unet", [*shared.parameters(), *text.parameters()], 1)


def train_together(run: Context) -> tuple:
    shared, text = parts.base_models(run)
    blocks = parts.begun_blocks(run, shared.body)
    train(run, "together", parts.learning_together(shared, text, blocks), 2)
    return shared, text, blocks


def assert_rounded(found: torch.nn.Module, exact: torch.nn.Module) -> None:
    """To fp16, and nothing else."""
    for (key, one), other in zip(found.state_dict().items(), exact.state_dict().values(), strict=True):
        assert torch.equal(one, other.half().float()), key


def test_the_hosts_classes_take_what_is_exported(run):
    train_unet(run)
    export.export(run)
    folder = run.folder / "export"
    body = load_file(folder / "unet.safetensors")
    assert all(value.dtype is torch.float16 for value in body.values())
    first = {key: body.pop(key) for key in list(body) if key.startswith("first.")}
    assert len(first) == 2 * len(CHANNELS)
    for kind, channels in CHANNELS.items():
        weight, bias = first[f"first.{kind}.weight"], first[f"first.{kind}.bias"]
        assert weight.shape[1] == channels
        loaded = run.host.unet({**SMALL, "in_channels": channels})
        loaded.load_state_dict({**body, "input_blocks.0.0.weight": weight, "input_blocks.0.0.bias": bias})
    text = load_file(folder / "text.safetensors")
    assert text.pop(export.TOKENS).tolist() == WORDS.tokens
    TextEncoder(len(WORDS), **config.TEXT).load_state_dict(text)
    run.host.autoencoder(config.AUTOENCODER).load_state_dict(load_file(folder / "autoencoder.safetensors"))
    assert json.loads((folder / "demo.json").read_text(encoding="utf-8"))["channels"] == CHANNELS


def test_before_blocks_are_trained_they_change_nothing(run):
    train_unet(run)
    export.export(run)
    for name, kind in KINDS.items():
        blocks = read_caa(run.folder / "export" / f"{name}.safetensors")
        assert blocks.kind is kind
        assert not any(value.any() for key, value in blocks.tensors.items() if ".attn1.to_out." in key)


def test_what_was_trained_together_is_exported_and_taken_over(run, tmp_path):
    train_unet(run)
    shared, text, blocks = train_together(run)
    export.export(run)
    for name in KINDS:
        read = read_caa(run.folder / "export" / f"{name}.safetensors")
        assert read.kind is KINDS[name] and read.base != "untrained"
        for key, value in blocks[name].state_dict().items():
            assert torch.equal(read.tensors[key], value.half())

    later = Context(tmp_path / "later", run.machine, run.host, {})
    assert adopt.adopt(later, run.folder / "export")
    assert not adopt.adopt(later, run.folder / "export")  # it has an autoencoder of its own now
    assert parts.words(later).tokens == WORDS.tokens
    found = parts.trained_parts(later)
    assert_rounded(found[0], shared)
    assert_rounded(found[1], text)
    for name in KINDS:
        assert_rounded(found[2][name], blocks[name])


def test_there_is_nothing_to_go_on_from_without_a_unet(run):
    with pytest.raises(ValueError, match="run the stage 'unet' first"):
        parts.trained_base(run)
