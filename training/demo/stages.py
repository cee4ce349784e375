"""The stages that make the demo model, in their order. Each goes on where it was left and does nothing once it is done.

A stage is a function of `Context`; others are added to STAGES.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from . import config, files
from .around import SORTS, Around, take_around
from .autoencoder import AutoencoderTask, begin, decode, seal, spread, trained
from .context import LARGE, SIZE, Context
from .fresh import fresh
from .latents import Encoder, Latents, all_words, encode_rooms
from .loop import train
from .optimiser import load_mean
from .parts import SEED, base_models, begun_blocks, sealed, trained_base, words
from .rooms import FIRST_SEED, HELD_OUT, render_rooms
from .sheets import save_sheet
from .taking import Eye, take_scenes
from .together import Together
from .unet import UnetTask
from .walks import Walks, take_walk

ROOMS = {SIZE: 6000, LARGE: 300}
HELD_OUT_ROOMS = {SIZE: len(HELD_OUT), LARGE: 8}
STEPS = {"autoencoder": 8000, "unet": 1400, "together": 5000, "decoder": 9000}
WALKS, HELD_OUT_SCENES = 700, 32
SEALING_VIEWS = 512
# Seconds a room or step, measured on one core with AMX.
EACH = {"rooms": 0.05, "autoencoder": 0.3, "latents": 0.16, "unet": 1.3, "walks": 0.2, "spheres": 0.15, "fine": 0.5}
EACH |= {"together": 2.0, "decoder": 0.25}
WITHOUT_BF16 = 8  # times as long

_log = logging.getLogger(__name__)


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
    train(task, context.folder / "autoencoder.pt", context.pace(STEPS["autoencoder"], 50, 300), SEED)
    seal_now(context)


def seal_now(context: Context) -> None:
    """Makes the running mean of the autoencoder's weights, as they were last saved, what all later stages use."""
    module = fresh(context.host.autoencoder(config.AUTOENCODER), SEED)
    load_mean(trained(module, False), files.load(context.folder / "autoencoder.pt")["optimiser"])
    views = spread(context.rooms_of("rooms", SIZE), SEALING_VIEWS)
    seal(module, Encoder(_copy(context, module), context.machine)(views) / config.SCALE)
    files.save(context.folder / "autoencoder.sealed.pt", module.state_dict())


def decoder(context: Context) -> None:
    """Trains the decoder on, while latents stay what they are."""
    task = _autoencoder_task(context, sealed(context), decoder_only=True)
    train(task, context.folder / "decoder.pt", context.pace(STEPS["decoder"], 100, 600), SEED + 1)


def latents(context: Context) -> None:
    """Encodes all rooms, and the words of their captions."""
    encoder, of = Encoder(sealed(context), context.machine), context.rooms_of("rooms", SIZE)
    path = context.folder / "words.json"
    if not path.exists():
        path.write_text(json.dumps(all_words(of, context.host.tokens).tokens), encoding="utf-8")
    for name in ("held-out", "rooms"):
        folder = context.folder / f"latents-{name}-{SIZE}"
        said = _every(1, f"{name}: room %d of {len(context.rooms_of(name, SIZE))} is encoded")
        encode_rooms(folder, context.rooms_of(name, SIZE), encoder, words(context), context.host.tokens, said)


def unet(context: Context) -> None:
    """Trains the UNet and the text encoder on single views."""
    shared, text = base_models(context)
    module, of = sealed(context), words(context)
    pictures = _decoder(context, module)

    def draw(step: int, latents: torch.Tensor, captions: list[str]) -> None:
        save_sheet(context.folder / "sheets" / f"unet-{step:06d}.png", pictures(latents), captions)

    task = UnetTask(
        shared,
        text,
        of,
        context.machine,
        Latents.read(context.folder / f"latents-rooms-{SIZE}"),
        Latents.read(context.folder / f"latents-held-out-{SIZE}"),
        grey=Encoder(module, context.machine)(torch.zeros(1, 3, SIZE, SIZE))[0],
        empty=of.rows(context.host.tokens("")),
        captions=context.rooms_of("held-out", SIZE).captions,
        draw=draw,
    )
    train(task, context.folder / "unet.pt", context.pace(STEPS["unet"], 200, 1200), SEED + 2)


def walks(context: Context) -> None:
    """Renders and encodes walks through rooms, for depth."""
    _take(context, "walks", take_walk, SIZE, WALKS)


def spheres(context: Context) -> None:
    """Renders and encodes full spheres."""
    _take_around(context, "spheres")


def fine(context: Context) -> None:
    """Renders and encodes rings of finer views."""
    _take_around(context, "fine")


def together(context: Context) -> None:
    """Trains UNet, text encoder and the blocks of all kinds."""
    shared, text = trained_base(context)
    blocks = begun_blocks(context, shared.body)
    module, of = sealed(context), words(context)

    def sheet(name: str, views: torch.Tensor, captions: Sequence[str]) -> None:
        save_sheet(context.folder / "sheets" / f"{name}.png", views, captions)

    task = Together(
        shared,
        text,
        of,
        context.machine,
        Latents.read(context.folder / f"latents-rooms-{SIZE}"),
        held_out=Latents.read(context.folder / f"latents-held-out-{SIZE}"),
        grey=Encoder(module, context.machine)(torch.zeros(1, 3, SIZE, SIZE))[0],
        empty=of.rows(context.host.tokens("")),
        captions=context.rooms_of("held-out", SIZE).captions,
        blocks=blocks,
        options=context.host.options,
        walks=Walks.read(context.folder / "walks-rooms"),
        held_out_walks=Walks.read(context.folder / "walks-held-out"),
        around={sort: Around.read(context.folder / f"{sort}-rooms", sort) for sort in SORTS},
        held_out_around={sort: Around.read(context.folder / f"{sort}-held-out", sort) for sort in SORTS},
        decode=_decoder(context, module),
        sheet=sheet,
    )
    train(task, context.folder / "together.pt", context.pace(STEPS["together"], 100, 1800), SEED + 3)


STAGES: dict[str, Callable[[Context], None]] = {
    "rooms": rooms,
    "autoencoder": autoencoder,
    "latents": latents,
    "unet": unet,
    "walks": walks,
    "spheres": spheres,
    "fine": fine,
    "together": together,
    "decoder": decoder,
}


def estimate(stage: str, context: Context) -> str:
    """What a stage will do if nothing of it is done yet, and how long that takes; empty for those that take no time."""
    if stage not in EACH:
        return ""
    rooms = stage not in STEPS
    scenes = {"walks": WALKS} | {sort: of.rooms for sort, of in SORTS.items()}
    count = scenes.get(stage, context.rooms[SIZE]) if rooms else context.steps or STEPS[stage]
    on_cpu = context.machine.device.type == "cpu"
    slower = WITHOUT_BF16 if not rooms and on_cpu and context.machine.dtype is torch.float32 else 1
    seconds = (not rooms and context.seconds) or count * EACH[stage] * slower
    less = "" if on_cpu or rooms else " on a CPU, and less here"
    noun = "walks" if stage == "walks" else "rooms" if rooms else "steps"
    return f"{count} {noun}, about {seconds / 60:.0f} min in all{less}"


def _take_around(context: Context, sort: str) -> None:
    of = SORTS[sort]
    _take(context, sort, lambda eye, seed: take_around(eye, of.cameras, seed), of.cameras.width, of.rooms)


def _take(context: Context, name: str, take: Callable[[Eye, int], dict], size: int, count: int) -> None:
    eye = Eye(size, Encoder(sealed(context), context.machine), words(context), context.host.tokens)
    for of, first, wanted in (("held-out", 0, HELD_OUT_SCENES), ("rooms", FIRST_SEED, count)):
        said = _every(1, f"{of}: %d of {wanted} {name} are encoded")
        take_scenes(context.folder / f"{name}-{of}", range(first, first + wanted), partial(take, eye), said)


def _autoencoder_task(context: Context, module: nn.Module, decoder_only: bool) -> AutoencoderTask:
    def draw(step: int, before: torch.Tensor, after: torch.Tensor) -> None:
        name = "decoder" if decoder_only else "autoencoder"
        save_sheet(context.folder / "sheets" / f"{name}-{step:06d}.png", torch.cat((before, after)))

    of, held_out = ({size: context.rooms_of(name, size) for size in (SIZE, LARGE)} for name in ("rooms", "held-out"))
    return AutoencoderTask(module, context.machine, of, held_out, draw, decoder_only)


def _decoder(context: Context, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """(N, 4, h, w) latents, as the UNet is fed them, to (N, 3, H, W) pictures on the CPU."""
    module = context.machine.place(module)

    def pictures(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            parts = [decode(module, context.machine.tensor(part / config.SCALE)).float() for part in latents.split(8)]
        return torch.cat(parts).cpu()

    return pictures


def _copy(context: Context, module: nn.Module) -> nn.Module:
    copy = context.host.autoencoder(config.AUTOENCODER)
    copy.load_state_dict(module.state_dict())
    return copy


def _every(count: int, words: str) -> Callable[[int], None]:
    return lambda number: _log.info(words, number) if number % count == 0 else None
