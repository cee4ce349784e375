"""The stages that make the demo model, in their order. Each goes on where it was left and does nothing once it is done.

A stage is a function of `Context`; others are added to STAGES.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from . import config, files
from .autoencoder import AutoencoderTask, begin, decode, seal, spread, trained
from .fresh import fresh
from .latents import Encoder, Latents, all_words, encode_rooms
from .loop import Pace, train
from .machine import Machine
from .optimiser import load_mean
from .rooms import FIRST_SEED, HELD_OUT, Rooms, render_rooms
from .sheets import save_sheet
from .text import TextEncoder, Words
from .unet import Shared, UnetTask

SEED = 14
SIZE, LARGE = 128, 256
ROOMS = {SIZE: 6000, LARGE: 300}
HELD_OUT_ROOMS = {SIZE: len(HELD_OUT), LARGE: 8}
STEPS = {"autoencoder": 8000, "decoder": 9000, "unet": 9000}
SEALING_VIEWS = 512

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the host gives: modules, as it builds them, and its tokenizer."""

    def autoencoder(self, arguments: dict) -> nn.Module: ...

    def unet(self, arguments: dict) -> nn.Module: ...

    def tokens(self, text: str) -> list[int]:
        """The 77 tokens that its SD 2 text model is fed of a prompt."""


@dataclass(frozen=True)
class Context:
    """folder: of all that stages keep. rooms: how many of either size are rendered and used.

    steps, seconds: how long a training goes on, where that was asked for; else as STEPS says.
    """

    folder: Path
    machine: Machine
    host: Host
    rooms: dict[int, int]
    steps: int | None = None
    seconds: float | None = None

    def pace(self, stage: str, warm_up: int, look_every: float) -> Pace:
        steps = self.steps or (None if self.seconds else STEPS[stage])
        return Pace(steps, warm_up, self.seconds, look_every=look_every)

    def of(self, name: str, size: int) -> Rooms:
        return Rooms(self.folder / f"{name}-{size}", size)


def rooms(context: Context) -> None:
    """Renders what is trained on, and what it is judged by."""
    for size in (SIZE, LARGE):
        seeds = {
            "held-out": HELD_OUT[: HELD_OUT_ROOMS[size]],
            "rooms": range(FIRST_SEED, FIRST_SEED + context.rooms[size]),
        }
        for name, of in seeds.items():
            render_rooms(
                context.folder / f"{name}-{size}", of, size, _every(100, f"{name}, {size} pixels: room %d of {len(of)}")
            )


def autoencoder(context: Context) -> None:
    """Trains the autoencoder and fixes its latents for good."""
    if (context.folder / "autoencoder.sealed.pt").exists():
        _log.info("the autoencoder is sealed")
        return
    module = fresh(context.host.autoencoder(config.AUTOENCODER), SEED)
    begin(module)
    task = _autoencoder_task(context, module, decoder_only=False)
    train(task, context.folder / "autoencoder.pt", context.pace("autoencoder", 50, 300), SEED)
    seal_now(context)


def seal_now(context: Context) -> None:
    """Makes the running mean of the autoencoder's weights, as they were last saved, what all later stages use."""
    module = fresh(context.host.autoencoder(config.AUTOENCODER), SEED)
    load_mean(trained(module, False), files.load(context.folder / "autoencoder.pt")["optimiser"])
    views = spread(context.of("rooms", SIZE), SEALING_VIEWS)
    seal(module, Encoder(_copy(context, module), context.machine)(views) / config.SCALE)
    files.save(context.folder / "autoencoder.sealed.pt", module.state_dict())


def decoder(context: Context) -> None:
    """Trains the decoder on, while latents stay what they are."""
    task = _autoencoder_task(context, sealed(context), decoder_only=True)
    train(task, context.folder / "decoder.pt", context.pace("decoder", 100, 600), SEED + 1)


def sealed(context: Context) -> nn.Module:
    """The autoencoder in fp32, its decoder as far as it has been trained."""
    state = files.load(context.folder / "autoencoder.sealed.pt")
    if state is None:
        raise ValueError("There is no autoencoder yet: run the stage 'autoencoder' first.")
    module = fresh(context.host.autoencoder(config.AUTOENCODER), SEED)
    module.load_state_dict(state)
    later = files.load(context.folder / "decoder.pt")
    if later is not None:
        load_mean(trained(module, True), later["optimiser"])
    return module


def latents(context: Context) -> None:
    """Encodes all rooms, and the words of their captions."""
    encoder, of = Encoder(sealed(context), context.machine), context.of("rooms", SIZE)
    path = context.folder / "words.json"
    if not path.exists():
        path.write_text(json.dumps(all_words(of, context.host.tokens).tokens), encoding="utf-8")
    for name in ("held-out", "rooms"):
        folder = context.folder / f"latents-{name}-{SIZE}"
        said = _every(1, f"{name}: room %d of {len(context.of(name, SIZE))} is encoded")
        encode_rooms(folder, context.of(name, SIZE), encoder, words(context), context.host.tokens, said)


def words(context: Context) -> Words:
    return Words(json.loads((context.folder / "words.json").read_text(encoding="utf-8")))


def unet(context: Context) -> None:
    """Trains the UNet and the text encoder on single views."""
    shared, text = base_models(context)
    module = sealed(context)
    of, decoding = words(context), context.machine.place(module)

    def draw(step: int, latents: torch.Tensor, captions: list[str]) -> None:
        with torch.no_grad():
            parts = [decode(decoding, context.machine.tensor(part / config.SCALE)).float() for part in latents.split(8)]
        save_sheet(context.folder / "sheets" / f"unet-{step:06d}.png", torch.cat(parts).cpu(), captions)

    task = UnetTask(
        shared,
        text,
        of,
        context.machine,
        Latents.read(context.folder / f"latents-rooms-{SIZE}"),
        Latents.read(context.folder / f"latents-held-out-{SIZE}"),
        grey=Encoder(module, context.machine)(torch.zeros(1, 3, SIZE, SIZE))[0],
        empty=of.rows(context.host.tokens("")),
        captions=context.of("held-out", SIZE).captions,
        draw=draw,
    )
    train(task, context.folder / "unet.pt", context.pace("unet", 200, 1200), SEED + 2)


def base_models(context: Context) -> tuple[Shared, TextEncoder]:
    """UNet and text encoder in fp32, with their first weights."""
    torch.manual_seed(SEED)
    shared = Shared(fresh(context.host.unet(config.UNET), SEED))
    return shared, TextEncoder(len(words(context)), **config.TEXT)


def trained_base(context: Context) -> tuple[Shared, TextEncoder]:
    """UNet and text encoder in fp32, as far as they have been trained."""
    shared, text = base_models(context)
    load_mean([*shared.parameters(), *text.parameters()], files.load(context.folder / "unet.pt")["optimiser"])
    return shared, text


STAGES: dict[str, Callable[[Context], None]] = {
    "rooms": rooms,
    "autoencoder": autoencoder,
    "latents": latents,
    "unet": unet,
    "decoder": decoder,
}


def _autoencoder_task(context: Context, module: nn.Module, decoder_only: bool) -> AutoencoderTask:
    def draw(step: int, before: torch.Tensor, after: torch.Tensor) -> None:
        name = "decoder" if decoder_only else "autoencoder"
        save_sheet(context.folder / "sheets" / f"{name}-{step:06d}.png", torch.cat((before, after)))

    of, held_out = ({size: context.of(name, size) for size in (SIZE, LARGE)} for name in ("rooms", "held-out"))
    return AutoencoderTask(module, context.machine, of, held_out, draw, decoder_only)


def _copy(context: Context, module: nn.Module) -> nn.Module:
    copy = context.host.autoencoder(config.AUTOENCODER)
    copy.load_state_dict(module.state_dict())
    return copy


def _every(count: int, words: str) -> Callable[[int], None]:
    return lambda number: _log.info(words, number) if number % count == 0 else None
