"""The autoencoder's training: how it starts, and how its latents get the deviation that the UNet expects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvdiffusion_pack.training.demo import autoencoder
from mvdiffusion_pack.training.demo.autoencoder import AutoencoderTask, begin, decode, encode, psnr, seal
from mvdiffusion_pack.training.demo.config import SCALE
from mvdiffusion_pack.training.demo.machine import Machine
from mvdiffusion_pack.training.demo.rooms import VIEWS, as_picture

CPU = Machine(torch.device("cpu"), torch.float32, "this one")


class Small(nn.Module):
    """As the host's AutoencoderKL: 8 times smaller latents, with a layer either side of them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 8, 8, stride=8), nn.ConvTranspose2d(4, 3, 8, stride=8)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)


class Painted:
    """Rooms of smooth colours."""

    def __init__(self, size: int) -> None:
        random = torch.Generator().manual_seed(size)
        coarse = torch.rand(3 * VIEWS, 3, 4, 4, generator=random)
        pictures = nn.functional.interpolate(coarse, size=size, mode="bilinear")
        self.pictures = (pictures.movedim(1, -1) * 255).byte().unflatten(0, (3, VIEWS)).numpy()

    def __len__(self) -> int:
        return len(self.pictures)

    def views(self, rooms, views) -> torch.Tensor:
        return as_picture(torch.from_numpy(self.pictures[torch.as_tensor(rooms), torch.as_tensor(views)]))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Small()


def task(module: nn.Module, **options) -> AutoencoderTask:
    rooms = {128: Painted(128), 256: Painted(256)}
    return AutoencoderTask(module, CPU, rooms, rooms, lambda *_: None, **options)


def test_sealed_latents_are_of_one_deviation_and_mean_the_same_pictures(module):
    x = torch.rand(16, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before, quiet = encode(module, x)
        pictures = decode(module, before)
        seal(module, before)
        after, scaled_quiet = encode(module, x)
        assert torch.allclose(decode(module, after), pictures, atol=1e-4)
    latents = after * SCALE
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    # What the encoder says of noise is in the new unit, too.
    growth = (after[0] - after[1]).std((1, 2)) / (before[0] - before[1]).std((1, 2))
    assert torch.allclose(scaled_quiet - quiet, 2 * growth.log()[:, None, None].expand_as(quiet), atol=1e-3)


def test_latents_begin_nearly_without_noise(module):
    begin(module)
    _, log_variance = encode(module, torch.rand(1, 3, 64, 64))
    assert (log_variance == autoencoder.QUIET).all()


def test_components_are_what_a_linear_code_keeps(module):
    of = task(module)
    x = Painted(128).views(range(3), [0, 5, 9])
    codes = of.components.codes(x)
    assert codes.shape == (3, 4, 16, 16)
    weight, bias = of.components.weight.flatten(1), of.components.bias
    pixels = torch.linalg.pinv(weight) @ (codes.flatten(2) - bias[:, None])
    back = nn.functional.fold(pixels, x.shape[-2:], 8, stride=8)
    assert psnr(back, x) > 20


def test_a_step_of_either_size_is_finite(module):
    of, random = task(module), torch.Generator().manual_seed(1)
    before = [parameter.clone() for parameter in module.parameters()]
    for step in (0, autoencoder.GUIDED):
        loss = of.loss(random, step)
        loss.backward()
        of.optimiser.step(1.0)
        assert loss.isfinite()
    assert any(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))
    assert "dB at 128" in of.look(2) and "dB at 256" in of.look(2)


def test_the_decoder_alone_leaves_latents_as_they_are(module):
    of, x = task(module, decoder_only=True), torch.rand(2, 3, 64, 64)
    before = encode(module, x)[0].clone()
    of.loss(torch.Generator().manual_seed(1), 0).backward()
    of.optimiser.step(1.0)
    assert torch.equal(encode(module, x)[0], before)
