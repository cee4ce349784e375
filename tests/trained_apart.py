"""A run of the small UNet in processes of its own: to be killed, or started several times by torchrun.

    python tests/trained_apart.py FOLDER RESULT name=value ...

Trains in FOLDER with changed settings; writes the gradients of the last step, the weights and the losses to RESULT.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import in_process  # noqa: E402

if in_process.PACKAGE not in sys.modules:  # tests, which have it, run trainings here too
    in_process.load_pack()

import stand_in  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from mvdiffusion_pack.training.distributed import World, world  # noqa: E402
from mvdiffusion_pack.training.trainer import Progress, Watch  # noqa: E402


def told(progress: Progress) -> None:
    sys.stdout.write(f"{progress.step}\n")
    sys.stdout.flush()


def main(folder: str, result: str, *changes: str) -> None:
    torch.set_num_threads(1)
    settings = {name: json.loads(value) for name, _, value in (change.partition("=") for change in changes)}
    with world() as here:
        train(here, folder, result, settings)


def train(here: World, folder: str, result: str, settings: dict) -> None:
    """A function of its own, so that nothing holds the processes' group when it ends."""
    one = stand_in.trainer(folder, watch=Watch(after_step=told), world=here, **settings)
    one.run()
    if here.main:
        gradients = [weight.grad.flatten() for weight in one.learner.module.parameters() if weight.grad is not None]
        losses = torch.tensor(one.losses, dtype=torch.float64)
        parts = {"weights": stand_in.weights(one), "losses": losses, "step": torch.tensor(one.step)}
        save_file(parts | ({"gradients": torch.cat(gradients)} if gradients else {}), result)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is written, and torch's threads now and then abort a process that takes itself apart
