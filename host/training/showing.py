"""How a training is followed in the graph: progress, time left and validation panoramas in the node itself."""

from __future__ import annotations

import logging
import sys

import comfy.model_management
import comfy.utils
from PIL import Image

from ...training.trainer import Progress
from ...training.validation import Validated
from ..preview import view_joiner
from .session import Onlooker

MOST = 512  # pixels, the longer side of a preview
logger = logging.getLogger("MVDiffusion")


class NodeView:
    """What the node shows. Stop interrupts: the state is saved, and the run goes on when the graph is queued again."""

    def __init__(self, node_id: str | None, steps: int) -> None:
        self._node_id, self._bar = node_id, comfy.utils.ProgressBar(steps)
        self._line, self._validated = "", ""

    @property
    def onlooker(self) -> Onlooker:
        """What the training tells it to."""
        poll = comfy.model_management.throw_exception_if_processing_interrupted
        return Onlooker(self.say, self.progress, self.validated, poll=poll)

    def say(self, text: str) -> None:
        """A sentence for the log, and for the node until the first step is done."""
        logger.info("Train CAA: %s", text)
        self._send(text)

    def progress(self, progress: Progress) -> None:
        """One step is done."""
        self._line = described(progress)
        self._bar.update_absolute(progress.step, progress.steps)
        self._send("\n".join(filter(None, (self._line, self._validated))))
        comfy.model_management.throw_exception_if_processing_interrupted()

    def validated(self, validated: Validated) -> None:
        """A validation is done: its first scene is the preview."""
        self._validated = described_validation(validated)
        logger.info("Train CAA: %s", self._validated)
        picture = joined(validated)
        self._bar.update_absolute(self._bar.current, preview=("JPEG", picture, MOST))
        self._send("\n".join(filter(None, (self._line, self._validated))))

    def _send(self, text: str) -> None:
        server = sys.modules.get("server")  # the host's; not there where nodes run without it
        if server is not None and self._node_id is not None:
            server.PromptServer.instance.send_progress_text(text, self._node_id)


def described(progress: Progress) -> str:
    """'step 20 of 1000, loss 0.1234, 1.2 s per step, 19 min left'"""
    return (
        f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}, {progress.seconds:.2f} s per step, "
        f"{_duration(progress.left)} left"
    )


def described_validation(validated: Validated) -> str:
    """'after step 500: validation loss 0.1234, Overlap PSNR 15.20 dB'"""
    psnr = "" if validated.psnr is None else f", Overlap PSNR {validated.psnr:.2f} dB"
    return f"after step {validated.step}: validation loss {validated.loss:.4f}{psnr}"


def joined(validated: Validated) -> Image.Image:
    """The first scene that was sampled: a panorama, or a sheet of frames."""
    cameras, pictures = validated.scenes[0]
    images = [Image.fromarray((picture * 255).round().byte().numpy()) for picture in pictures]
    return view_joiner(cameras, images[0].size)(images)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
