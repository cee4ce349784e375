"""Makes the weights of the demo model from nothing: rooms, autoencoder, UNet, blocks; each stage goes on where it was.

    python scripts/train_demo.py [STAGE ...] [--hours H] [--state FOLDER]

Without a stage all of them run, in their order, and the weights are written to FOLDER/export. Ctrl-C saves.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import in_process
from comfy_host import HOW_TO_GET_COMFYUI, find_comfyui
from environment import ROOT, SetUpError, run_script

SHIPPED = ROOT / "demo"  # weights that an earlier run came to
TRAINED = {"autoencoder": 0.15, "unet": 0.2, "together": 0.5, "decoder": 0.15}  # shares of the time for all


def main() -> int:
    arguments = _arguments()
    # Set before torch is imported: on cores that others use, threads that wait for each other lose most of their time.
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    host = find_comfyui()
    if host is None:
        raise SetUpError(f"no ComfyUI found: {HOW_TO_GET_COMFYUI}")
    in_process.start_host(host, *([] if _has_gpu() else ["--cpu"]))
    if in_process.PACKAGE not in sys.modules:  # the tests have it already
        in_process.load_pack()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    _run(arguments)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    stages = "rooms, autoencoder, latents, unet, walks, together, decoder, export"
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=stages)
    parser.add_argument("--state", type=Path, default=ROOT / ".training", help="where everything is kept (.training)")
    parser.add_argument("--hours", type=float, help="for all trainings together, or for the one that is named")
    parser.add_argument("--steps", type=int, help="of the training that is named, in all")
    parser.add_argument("--rooms", type=int, help="rooms to render (6000)")
    parser.add_argument("--anew", action="store_true", help="do not go on from the weights that the pack has (demo)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    return parser.parse_args()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _run(arguments: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(arguments.threads)
    from host_modules import HostModules

    from mvdiffusion_pack.training.demo.adopt import adopt
    from mvdiffusion_pack.training.demo.context import SIZE, Context
    from mvdiffusion_pack.training.demo.export import export
    from mvdiffusion_pack.training.demo.machine import keep_memory, this_machine
    from mvdiffusion_pack.training.demo.stages import ROOMS, STAGES, estimate

    stages = {**STAGES, "export": export}
    wanted = arguments.stages or list(stages)
    unknown = [name for name in wanted if name not in stages]
    if unknown:
        raise SetUpError(f"there is no stage '{unknown[0]}': the stages are {', '.join(stages)}")
    keep_memory()
    machine = this_machine()
    logging.info("%s; computing in %s; state in %s", machine.words, machine.dtype, arguments.state)
    rooms = {**ROOMS, SIZE: arguments.rooms or ROOMS[SIZE]}
    if not arguments.anew and adopt(Context(arguments.state, machine, HostModules(), rooms), SHIPPED):
        logging.info("going on from the weights in %s, without their moments; --anew begins from nothing", SHIPPED)
    for name in wanted:
        share = TRAINED.get(name, 0) if len(wanted) > 1 else 1
        seconds = arguments.hours * 3600 * share if arguments.hours else None
        context = Context(arguments.state, machine, HostModules(), rooms, arguments.steps, seconds)
        logging.info("stage %s: %s", name, estimate(name, context) or "moments")
        stages[name](context)


if __name__ == "__main__":
    run_script(main)
