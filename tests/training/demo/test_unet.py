"""The UNet's training inside of the host's classes: one body for all kinds, resumed bit by bit."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.training.demo import config, files, unet
from mvdiffusion_pack.training.demo.fresh import fresh
from mvdiffusion_pack.training.demo.fused import fuse
from mvdiffusion_pack.training.demo.kinds import CHANNELS
from mvdiffusion_pack.training.demo.latents import Latents
from mvdiffusion_pack.training.demo.loop import Pace, train
from mvdiffusion_pack.training.demo.machine import this_machine
from mvdiffusion_pack.training.demo.text import TextEncoder, Words
from mvdiffusion_pack.training.demo.unet import Shared, UnetTask

pytestmark = [pytest.mark.host, pytest.mark.once]

SMALL = {**config.UNET, "model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": [1, 1]}
SMALL |= {"transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
WORDS = Words([500, 600])
ROOMS = 3


@pytest.fixture(scope="module")
def host(comfy):
    import host_modules

    return host_modules.HostModules()


def data() -> Latents:
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(len(WORDS), (ROOMS, 16, 2, 77), generator=random).short()
    return Latents(
        torch.randn(ROOMS, 16, 4, 8, 8, generator=random).half(),
        torch.rand(ROOMS, 16, 8, 8, generator=random).half(),
        torch.randn(ROOMS, 4, 4, 8, 8, generator=random).half(),
        torch.randint(2, (ROOMS, 4, 8, 8), generator=random).to(torch.uint8),
        torch.tensor([[0, 4, 8, 12]] * ROOMS),
        rows,
    )


def task(host, monkeypatch, drawn: list | None = None) -> UnetTask:
    for name, value in {"BATCH": 8, "HELD_OUT_VIEWS": 16, "SAMPLER_STEPS": 2}.items():
        monkeypatch.setattr(unet, name, value)
    torch.manual_seed(0)
    shared = Shared(fresh(host.unet(SMALL), 1))
    text = TextEncoder(len(WORDS), **config.TEXT)
    captions = [["a room"] * 16] * ROOMS
    drawn = [] if drawn is None else drawn
    grey, empty = torch.zeros(4, 8, 8), [1] * 77
    draw = lambda *given: drawn.append(given)  # noqa: E731
    return UnetTask(shared, text, WORDS, this_machine(), data(), data(), grey, empty, captions, draw)


def test_training_computes_what_the_host_does(host):
    plain = fresh(host.unet(SMALL), 1)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    other = fresh(host.unet(SMALL), 1)
    other.load_state_dict(plain.state_dict())
    shared = Shared(other)
    shared.first["panorama"].load_state_dict(plain.input_blocks[0][0].state_dict())
    fuse(shared)
    x, timesteps, context = torch.randn(2, 4, 8, 8), torch.tensor([5, 700]), torch.randn(2, 77, 64)
    with torch.no_grad():
        expected = plain(x, timesteps, context)
        assert torch.allclose(shared("panorama", x, timesteps, context), expected, atol=1e-4)
        half = shared.bfloat16()("panorama", x.bfloat16(), timesteps, context.bfloat16()).float()
    assert (half - expected).norm() < 0.03 * expected.norm()


def test_names_of_the_body_are_the_hosts(host):
    names = set(host.unet(SMALL).state_dict())
    shared = fuse(Shared(fresh(host.unet(SMALL), 1)))
    assert set(shared.body.state_dict()) == names - {"input_blocks.0.0.weight", "input_blocks.0.0.bias"}
    assert {kind: layer.in_channels for kind, layer in shared.first.items()} == CHANNELS


def test_it_paints_nothing_but_noise_at_first(host, monkeypatch):
    of = task(host, monkeypatch)
    with torch.no_grad():
        noise = of._noise("depth", torch.randn(2, 5, 8, 8), torch.tensor([3, 900]), of.empty.expand(2, -1))
    assert (noise == 0).all()


def test_resumed_runs_go_on_bit_by_bit(host, monkeypatch, tmp_path):
    whole, first, second = (task(host, monkeypatch) for _ in range(3))
    train(whole, tmp_path / "whole.pt", Pace(6, 2), seed=1)
    train(first, tmp_path / "parts.pt", Pace(4, 2), seed=1)
    state = files.load(tmp_path / "parts.pt")
    assert state["optimiser"]["steps"] == 4

    # The cosine knows the end: the first part has to be told of the same.
    first = task(host, monkeypatch)
    loss, losses = first.loss, []

    def stopping(random, step):
        if step == 4:
            raise KeyboardInterrupt
        losses.append(step)
        return loss(random, step)

    first.loss = stopping
    with pytest.raises(KeyboardInterrupt):
        train(first, tmp_path / "stopped.pt", Pace(6, 2), seed=1)
    train(second, tmp_path / "stopped.pt", Pace(6, 2), seed=1)
    assert losses == [0, 1, 2, 3]
    pairs = zip(whole.optimiser.masters, second.optimiser.masters, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_figures_and_a_contact_sheet(host, monkeypatch):
    drawn = []
    of = task(host, monkeypatch, drawn)
    said = of.look(7)
    assert "panorama" in said and "depth" in said
    ((step, latents, captions),) = drawn
    assert step == 7
    assert latents.shape == (ROOMS, 4, 8, 8)
    assert captions == ["a room"] * ROOMS
