"""The autoencoder's training: pictures to latents of 4 channels, 8 times smaller, and back.

It starts from what is best linearly: for its first steps the encoder learns the principal components of 8 x 8 blocks
and the decoder to paint from them; only then are both trained as one. From nothing, both stand still for long.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .config import SCALE
from .fused import fuse
from .machine import Machine
from .optimiser import Optimiser
from .rooms import Rooms

BATCH, LARGE_BATCH, LARGE_SHARE = 4, 1, 0.15  # of the steps that see views of 256 pixels
GUIDED = 300  # steps that start from principal components
RATE, MEAN_DECAY = 2e-3, 0.995
KL = 2e-5
QUIET = -6.0


class AutoencoderTask:
    """Trains the host's AutoencoderKL `module` on views of 128 and, now and then, 256 pixels."""

    def __init__(
        self,
        module: nn.Module,
        machine: Machine,
        rooms: dict[int, Rooms],
        held_out: dict[int, Rooms],
        draw: Callable[[int, torch.Tensor, torch.Tensor], None],
        decoder_only: bool = False,
    ) -> None:
        """rooms, held_out: by the views' size. draw: makes the contact sheet of a step from views before and after.

        decoder_only: latents stay what they are; the module is one that was trained.
        """
        self.machine, self.rooms, self.draw, self.decoder_only = machine, rooms, draw, decoder_only
        self.module = machine.place(fuse(module))
        self.optimiser = Optimiser(trained(self.module, decoder_only), RATE, MEAN_DECAY)
        self.components = _Components(rooms[128])
        self.held_out = {size: spread(of, 40 if size == 128 else 8) for size, of in held_out.items()}

    def loss(self, random: torch.Generator, step: int) -> torch.Tensor:
        large = 256 in self.rooms and _uniform(random) < LARGE_SHARE
        x = self._views(256 if large else 128, LARGE_BATCH if large else BATCH, random)
        with torch.set_grad_enabled(not self.decoder_only):
            mean, log_variance = encode(self.module, self.machine.tensor(x))
        noise = torch.randn(mean.shape, generator=random).to(mean) * (log_variance / 2).exp()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        if step < GUIDED and not self.decoder_only:
            codes = self.components.codes(x).to(mean)
            y = decode(self.module, self.machine.tensor(codes + noise))
            return difference(y, x.to(y)) + (mean - codes).square().mean() + KL * kl
        y = decode(self.module, self.machine.tensor(mean + noise))
        return difference(y, x.to(y)) + KL * kl

    def look(self, step: int) -> str:
        said = []
        for size, x in self.held_out.items():
            with torch.no_grad():
                y = torch.cat([self._round_trip(part) for part in x.split(4)])
            said.append(f"{psnr(y, x):.2f} dB at {size}")
            if size == 128:
                self.draw(step, x[:8], y[:8])
        return "held-out views " + ", ".join(said)

    def _round_trip(self, x: torch.Tensor) -> torch.Tensor:
        mean, _ = encode(self.module, self.machine.tensor(x))
        return decode(self.module, self.machine.tensor(mean)).float().cpu().clamp(-1, 1)

    def _views(self, size: int, count: int, random: torch.Generator) -> torch.Tensor:
        rooms = self.rooms[size]
        room = torch.randint(len(rooms), (count,), generator=random)
        x = rooms.views(room, torch.randint(rooms.pictures.shape[1], (count,), generator=random))
        return x.flip(-1) if _uniform(random) < 0.5 else x


def begin(module: nn.Module) -> None:
    """Sets the log variance of latents to QUIET everywhere: what is drawn would drown them in noise for long."""
    with torch.no_grad():
        channels = module.quant_conv.out_channels // 2
        module.quant_conv.weight[channels:] = 0
        module.quant_conv.bias[channels:] = QUIET


def trained(module: nn.Module, decoder_only: bool) -> list[nn.Parameter]:
    """The parameters that a training changes, in its order."""
    parts = (module.post_quant_conv, module.decoder) if decoder_only else (module,)
    return [parameter for part in parts for parameter in part.parameters()]


def encode(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 mean and log variance (N, 4, H / 8, W / 8) of pictures (N, 3, H, W)."""
    mean, log_variance = module.quant_conv(module.encoder(x)).float().chunk(2, 1)
    return mean, log_variance.clamp(-20, 10)


def decode(module: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 3, H, W) of the encoder's latents."""
    return module.decoder(module.post_quant_conv(latents))


def difference(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How far pictures are from each other: colours, edges, and both seen from farther away."""
    error = y.float() - x.float()
    total = error.abs().mean() + 4 * error.square().mean()
    for shrunk in (1, 2, 4):
        seen = error if shrunk == 1 else F.avg_pool2d(error, shrunk)
        total = total + 0.3 * (seen.diff(dim=-1).abs().mean() + seen.diff(dim=-2).abs().mean())
        if shrunk > 1:
            total = total + 0.3 * seen.abs().mean()
    return total


def psnr(y: torch.Tensor, x: torch.Tensor) -> float:
    """dB of pictures in -1..1, over all of their pixels."""
    return -10 * math.log10(((y - x) / 2).square().mean().item())


def seal(module: nn.Module, latents: torch.Tensor) -> None:
    """Makes latents have mean 0 and deviation 1 in each channel once they are scaled; pictures stay as they are.

    latents: (N, 4, h, w) of the module before. Its last layer before the latents and its first after them take it up.
    """
    mean, deviation = latents.mean((0, 2, 3)).double(), latents.std((0, 2, 3)).double()
    factor = 1 / (SCALE * deviation)
    with torch.no_grad():
        quant, post = module.quant_conv, module.post_quant_conv
        channels = len(mean)
        weight, bias = quant.weight.double(), quant.bias.double()
        weight[:channels] *= factor[:, None, None, None]
        bias[:channels] = (bias[:channels] - mean) * factor
        bias[channels:] += 2 * factor.log()
        quant.weight.copy_(weight)
        quant.bias.copy_(bias)
        weight, bias = post.weight.double(), post.bias.double()
        post.bias.copy_(bias + (weight[:, :, 0, 0] @ mean))
        post.weight.copy_(weight / factor[None, :, None, None])


class _Components:
    """The first principal components of 8 x 8 blocks of pictures, as many as latents have channels."""

    def __init__(self, rooms: Rooms, channels: int = 4, views: int = 256) -> None:
        blocks = F.unfold(spread(rooms, views), 8, stride=8).movedim(1, 2).flatten(0, 1).double()
        self.mean = blocks.mean(0)
        values, vectors = torch.linalg.eigh((blocks - self.mean).T @ (blocks - self.mean) / len(blocks))
        self.weight = (vectors[:, -channels:] / values[-channels:].sqrt()).T.float().view(channels, 3, 8, 8)
        self.bias = -(self.weight.flatten(1).double() @ self.mean).float()

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, H / 8, W / 8) of (N, 3, H, W), each with mean 0 and deviation 1."""
        return F.conv2d(x, self.weight, self.bias, stride=8)


def spread(rooms: Rooms, count: int) -> torch.Tensor:
    """(count, 3, size, size) views spread over rooms."""
    each = max(1, -(-count // len(rooms)))
    places = [(room, view) for room in range(len(rooms)) for view in range(0, 16, max(1, 16 // each))][:count]
    return rooms.views(*zip(*places, strict=True))


def _uniform(random: torch.Generator) -> float:
    return torch.rand((), generator=random).item()
