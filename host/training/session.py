"""A whole training: from MODEL, CLIP and VAE to a MODEL with the blocks. Both doors, node and script, end here."""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import torch

from ...caa.weights.checkpoint import CAAWeights
from ...caa.weights.random_weights import fresh_weights
from ...geometry.input_error import InputError, counted
from ...training.cache import Cache
from ...training.data import Data, check_data
from ...training.dearness import yaws_to_keep
from ...training.distributed import World
from ...training.encoding import Encoder
from ...training.learner import Blocks, TunedUNet
from ...training.objective import Objective
from ...training.panoramas import ANY, FEW
from ...training.samples import Source
from ...training.sequences import SingleViews
from ...training.settings import Settings
from ...training.state import States
from ...training.trainer import Progress, Trainer, Watch
from ...training.validation import Sampling, Validated, Validation
from ..inject import unet_widths
from ..weights import Tuned, attach_weights, with_trained_unet
from .base import base_name, check_base, schedule_of
from .codec import HostCodec
from .unet import TrainingUNet, normal_mode

UNET_RATE = 0.01  # of the blocks' learning rate: the published first stage of depth weights
YAWS = {"auto": None, "cut anew": ANY, "keep a few": FEW}


@dataclass(frozen=True)
class Training:
    """What is asked for.

    start: blocks to go on from, and what people know them by; None: new ones. folder: of the run's states.
    prefix: set before each caption. unet_steps: depth's first stage, of the UNet alone; 0: it stays as it is.
    yaws: a name in YAWS. validated: how many scenes are sampled at a validation.
    """

    model: Any
    clip: Any
    vae: Any
    data: Data
    settings: Settings
    folder: Path
    start: tuple[str, CAAWeights] | None = None
    prefix: str = ""
    unet_steps: int = 0
    yaws: str = "auto"
    validated: int = 1
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Onlooker:
    """Who is told how it goes. say: a sentence. stopping: whether to stop after this step. poll: raises to stop now."""

    say: Callable[[str], None] = lambda text: None
    progress: Callable[[Progress], None] = lambda progress: None
    validated: Callable[[Validated], None] = lambda validated: None
    stopping: Callable[[], bool] = lambda: False
    poll: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Trained:
    """What came of it. model: with the blocks. losses: of each step. steps: how many were done."""

    model: Any
    weights: CAAWeights
    losses: list[float]
    steps: int


def check_training(training: Training) -> None:
    """Raises InputError, one sentence, for the first thing that cannot be right: before any long work."""
    kind = training.settings.blocks_kind
    check_base(training.model, kind)
    check_data(training.data, kind)
    if training.clip is None or training.vae is None:
        missing = "clip" if training.clip is None else "vae"
        raise InputError(f"{missing} is empty: the checkpoint that was loaded has none, load one beside it.")
    if training.start:
        name, weights = training.start
        widths = unet_widths(training.model.get_model_object("diffusion_model"))
        if (weights.kind, weights.widths) != (kind, widths):
            raise InputError(
                f"start is {name}, {weights.kind.name} blocks {weights.widths.encoder} wide, and kind {kind.name} on "
                f"this model needs {kind.name} blocks {widths.encoder} wide: take others, or new ones."
            )
        if weights.prediction != schedule_of(training.model).prediction:
            raise InputError(f"start is {name}, trained on a base that predicts {weights.prediction}; model does not.")
    if training.unet_steps and not kind.tuned:
        raise InputError(
            f"unet_steps is {training.unet_steps}, but the UNet of {kind.name} blocks stays as it is: set 0."
        )
    if training.unet_steps and _other_patches(training.model):
        raise InputError("model carries LoRAs or other patches, which the UNet would learn twice: put them after.")


def train(training: Training, world: World, onlooker: Onlooker) -> Trained:
    """Trains, or goes on where the run in the folder was stopped.

    The user's MODEL stays as it is, and what training has put on the card is gone in the end.
    Raises InputError as `check_training` does, and for a folder with a run of another configuration; LossError;
    SaveError; and what `onlooker.poll` raises.
    """
    check_training(training)
    try:
        with normal_mode():
            session = _Session(training, world, onlooker)
            try:
                return session.run()
            finally:
                session.cache.close()
                del session
    finally:
        gc.collect()  # autograd's graphs and their UNet hold each other
        comfy.model_management.soft_empty_cache()


class _Session:
    """The parts of a training in progress."""

    def __init__(self, training: Training, world: World, onlooker: Onlooker) -> None:
        self.training, self.world, self.onlooker = training, world, onlooker
        self.kind, self.schedule = training.settings.blocks_kind, schedule_of(training.model)
        cameras = training.data.cameras
        self.codec = HostCodec(training.model, training.clip, training.vae, (cameras.width, cameras.height))
        self.cache = Cache(training.folder / f"cache_{world.rank}")
        self.encoder = Encoder(self.codec, self.cache, training.prefix)
        self.device = comfy.model_management.get_torch_device()
        comfy.model_management.unload_all_models()

    def run(self) -> Trained:
        training = self.training
        begun, tuned = self._begin(), None
        if training.unet_steps:
            tuned = self._tuned_unet()
            if tuned is None:
                return Trained(training.model, begun, [], 0)
        unet = TrainingUNet(
            training.model, training.settings.compute_dtype, self.device, training.settings.checkpointing
        )
        if tuned:
            unet.unet.load_state_dict(tuned)
        blocks = Blocks.of(begun, self.device)
        objective = Objective(blocks.module, unet, self.schedule, training.settings.checkpointing, self.onlooker.poll)
        trainer = self._trainer(blocks, objective, training.settings, training.folder, lambda source: source)
        trainer.run()
        weights = blocks.trained(trainer.trained)
        model = attach_weights(training.model, lambda: weights, 1.0)
        return Trained(with_trained_unet(model, tuned) if tuned else model, weights, trainer.losses, trainer.step)

    def _tuned_unet(self) -> Mapping[str, torch.Tensor] | None:
        """The first stage of depth weights: the UNet alone learns, on single views. Its weights, on the CPU.

        None where the run was told to stop before its end: blocks learn from nothing but the finished UNet.
        """
        training, settings = self.training, self.training.settings
        unet = TrainingUNet(training.model, settings.compute_dtype, self.device, settings.checkpointing, learns=True)
        rate = settings.learning_rate * UNET_RATE
        first = replace(
            settings,
            steps=training.unet_steps,
            learning_rate=rate,
            least_rate=min(settings.least_rate, rate),
            validate_every=0,
        )
        objective = Objective(unet.unet, unet, self.schedule)
        trainer = self._trainer(TunedUNet(unet.unet), objective, first, training.folder / "unet", SingleViews)
        if trainer.step < training.unet_steps:
            self.onlooker.say(
                f"the UNet learns first, alone, for {counted(training.unet_steps, 'step')}; then the blocks"
            )
        trainer.run()
        if trainer.step < training.unet_steps:
            return None
        return {name: weight.detach().to("cpu", copy=True) for name, weight in trainer.trained.items()}

    def _begin(self) -> CAAWeights:
        training = self.training
        if training.start:
            weights = training.start[1]
        else:
            widths = unet_widths(training.model.get_model_object("diffusion_model"))
            weights = fresh_weights(self.kind, widths, training.settings.seed)
        return replace(weights, base=base_name(training.model), prediction=self.schedule.prediction)

    def _trainer(
        self,
        learner: Blocks | TunedUNet,
        objective: Objective,
        settings: Settings,
        folder: Path,
        wrapped: Callable[[Source], Source],
    ) -> Trainer:
        states = States(folder)
        source = wrapped(self._source(objective, states))
        watch = Watch(self.onlooker.progress, self.onlooker.stopping)
        if isinstance(learner, Blocks) and self.training.validated:
            watch = replace(watch, validate=self._validation(objective, source, settings))
        trainer = Trainer(learner, objective, source, settings, states, self.world, watch, self._about())
        if trainer.step:
            self.onlooker.say(f"going on from step {trainer.step} of {settings.steps}")
        return trainer

    def _source(self, objective: Objective, states: States) -> Source:
        """What is learnt from; where it matters, whether encoding is dear is measured once for all resumed runs."""
        training, settings = self.training, self.training.settings

        def source(yaws: int) -> Source:
            return training.data.source(self.kind, self.encoder, settings.seed, yaws)

        chosen = YAWS[training.yaws]
        if chosen is not None or not training.data.yaws_matter:
            return source(chosen or ANY)
        info, told = states.info() if self.world.main else None, None
        if info is not None:
            told = info["about"].get("yaws kept of each", ANY), ""
        elif self.world.main:
            told = yaws_to_keep(source(ANY), objective, settings)
            self.onlooker.say(told[1])
        return source(self.world.told(told)[0])

    def _validation(self, objective: Objective, source: Source, settings: Settings) -> Callable[[int], None]:
        training, known = self.training, []

        def validate(step: int) -> None:
            if not known:
                samples = training.data.held_out(self.kind, self.encoder, settings.seed, training.validated)
                known.append(
                    Validation(objective, self.codec, samples, source.empty, training.sampling, self.onlooker.poll)
                )
            self.onlooker.validated(known[0](step))

        return validate

    def _about(self) -> dict[str, object]:
        """What a resumed run must have, too, besides settings and data."""
        training, cameras = self.training, self.training.data.cameras
        looking = (cameras.intrinsics, cameras.cam_to_world) if cameras.kind == "panorama" else ()
        geometry = _hash(*(tensor.round(decimals=6) for tensor in looking))
        patches = training.model.get_key_patches("diffusion_model.input_blocks.0.0.weight").values()
        first = [entry[0][0] for entry in patches]
        return {
            "model": f"{base_name(training.model)} ({_hash(*first)})",
            "cameras": f"{cameras.views} of {cameras.width} x {cameras.height} ({geometry})",
            "start": training.start[0] if training.start else "new blocks",
            "prefix": training.prefix,
            **({"unet_steps": training.unet_steps} if self.kind.tuned else {}),
        }


def _other_patches(model) -> bool:
    return any(not isinstance(patch[1], Tuned) for patches in model.patches.values() for patch in patches)


def _hash(*tensors: torch.Tensor) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
