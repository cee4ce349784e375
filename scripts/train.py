"""Trains MVDiffusion's blocks on any Stable Diffusion checkpoint, alone or on many cards.

    python scripts/train.py FOLDER --model sd.safetensors --output runs/mine
    torchrun --nproc-per-node 4 scripts/train.py FOLDER --model sd.safetensors --output runs/mine --batch 8
    python scripts/train.py --rooms --demo --output runs/trial --size 64 --steps 100

FOLDER holds panoramas, each NAME.png (.jpg, .webp) with NAME.txt beside it: its caption, 1 line or one per view.
--rooms renders furnished rooms in their place; --sequences takes folders in ScanNet's layout, for --kind depth.
Ctrl-C saves; the same command goes on. In the end the run's folder holds blocks.safetensors, for models/mvdiffusion.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path

import in_process
from comfy_host import HOW_TO_GET_COMFYUI, checked_host, find_comfyui
from environment import SetUpError, enter, run_script

NEEDED = "torch", "safetensors", "einops", "PIL"
EVERY = 10  # seconds between two lines where no terminal shows the progress


# torchrun reads abbreviations of its own options behind the script's name, too: --run and --start are such.
def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    data = parser.add_argument_group("what to learn from")
    data.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="panoramas with captions")
    data.add_argument("--rooms", nargs="?", type=int, const=0, metavar="N", help="rendered rooms; N different ones")
    data.add_argument("--sequences", nargs="+", type=Path, default=[], metavar="FOLDER", help="in ScanNet's layout")
    data.add_argument("--prefix", default="", metavar="TEXT", help="set before each caption")
    data.add_argument("--latents", choices=["auto", "cut anew", "keep a few"], default="auto")

    base = parser.add_argument_group("what to train on")
    base.add_argument("--model", type=Path, metavar="FILE", help="a checkpoint with UNet, text encoder and VAE")
    base.add_argument("--demo", action="store_true", help="the pack's own small model, which needs no download")
    base.add_argument("--blocks", type=Path, metavar="FILE", help="blocks to go on from, such as pano.ckpt")
    base.add_argument("--host", type=Path, metavar="FOLDER", help="the ComfyUI to use, instead of a found one")
    base.add_argument("--cpu", action="store_true", help="leave the graphics cards alone")

    views = parser.add_argument_group("the views")
    views.add_argument("--views", type=int, metavar="N", help="of a ring (8); depth: of each sample (12)")
    views.add_argument("--fov", type=float, default=90.0, help="horizontal, degrees")
    views.add_argument("--size", type=int, default=512, help="width of a view in pixels")
    views.add_argument("--height", type=int, metavar="PIXELS", help="if it is another than the width")

    run = parser.add_argument_group("the run")
    run.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where it is saved, and goes on from")
    run.add_argument("--kind", choices=["panorama", "outpainting", "depth"], default="panorama")
    run.add_argument("--steps", type=int, default=1000)
    run.add_argument("--batch", type=int, default=1, help="panoramas per step, over all processes")
    run.add_argument("--learning-rate", type=float, default=2e-4)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--dtype", choices=["fp32", "bf16", "fp16"], default="bf16", help="what the UNet computes in")
    run.add_argument("--accumulation", type=int, default=1, help="passes of a step")
    run.add_argument("--warm-up", type=int, default=0, metavar="STEPS")
    run.add_argument("--ema", type=float, default=0.0, metavar="SHARE", help="such as 0.999")
    run.add_argument("--dropout", type=float, default=0.1, metavar="SHARE", help="panoramas without their captions")
    run.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    run.add_argument("--validate-every", type=int, default=500, metavar="STEPS")
    run.add_argument("--validated", type=int, default=1, metavar="N", help="panoramas sampled at a validation")
    run.add_argument("--save-every", type=int, default=500, metavar="STEPS")
    run.add_argument("--unet-steps", type=int, default=0, metavar="STEPS", help="depth: of the UNet alone, first")
    args = parser.parse_args(given)
    if args.views is None:
        args.views = 12 if args.kind == "depth" else 8
    return args


def check(args: argparse.Namespace) -> None:
    """Raises SetUpError for the first argument that cannot be right."""
    if bool(args.model) == args.demo:
        raise SetUpError("give either --model FILE, a Stable Diffusion checkpoint, or --demo")
    given = [bool(args.folders), args.rooms is not None, bool(args.sequences)]
    if sum(given) != 1:
        raise SetUpError("give one of: folders of panoramas, --rooms, --sequences FOLDER ...")
    if args.folders and args.kind == "depth":
        raise SetUpError("depth blocks learn nothing from panoramas: give --sequences FOLDER ..., or --rooms")
    for name in ("model", "blocks"):
        path = getattr(args, name)
        if path and not path.is_file():
            raise SetUpError(f"there is no file {path} for --{name}")


class Terminal:
    """What the run prints and writes; Ctrl-C and SIGTERM stop it after the step."""

    def __init__(self, folder: Path, main: bool) -> None:
        self.stopped = False
        self._folder, self._main = folder, main
        self._said = 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def say(self, text: str) -> None:
        if self._main:
            print(f"\r{text}" if sys.stdout.isatty() else text, flush=True)

    def progress(self, progress) -> None:
        from mvdiffusion_pack.host.training.showing import described

        last = progress.step == progress.steps
        if sys.stdout.isatty():
            print(f"\r{described(progress):100}", end="\n" if last else "", flush=True)
        elif last or time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            print(described(progress), flush=True)

    def validated(self, validated) -> None:
        from mvdiffusion_pack.host.training.showing import described_validation, joined

        self.say(described_validation(validated))
        joined(validated).save(self._folder / f"validation_{validated.step:08}.png")
        with open(self._folder / "validation.csv", "a", encoding="utf-8") as file:
            print(validated.step, validated.loss, validated.psnr, sep=",", file=file)

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        self.say("stopping after this step, with the state saved ...")


def base_models(args: argparse.Namespace):
    """MODEL, CLIP, VAE; and blocks to go on from, with their name."""
    import comfy.sd

    from mvdiffusion_pack.caa.weights.checkpoint import read_caa
    from mvdiffusion_pack.caa.weights.kinds import KINDS
    from mvdiffusion_pack.host.demo import demo_models

    start = (args.blocks.name, read_caa(args.blocks)) if args.blocks else None
    if args.demo:
        return *demo_models(KINDS[args.kind]), start
    try:
        loaded = comfy.sd.load_checkpoint_guess_config(str(args.model), output_vae=True, output_clip=True)
    except (RuntimeError, ValueError, OSError) as error:  # how ComfyUI says that it knows no such file
        said = " ".join(str(error).split())
        raise SetUpError(f"{args.model} is no checkpoint that ComfyUI knows ({said})") from None
    if loaded[0] is None:
        raise SetUpError(f"{args.model} holds no UNet that ComfyUI knows")
    return *loaded[:3], start


def data_of(args: argparse.Namespace, say):
    """What the arguments say to learn from."""
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.training.collecting import panoramas_in_folder
    from mvdiffusion_pack.training.collecting_sequences import sequences_in_folders, walk_cameras
    from mvdiffusion_pack.training.data import Data

    size = args.size, args.height or args.size
    if args.sequences:
        sequences = sequences_in_folders(args.sequences, *size, say)
        return Data(sequences[0].cameras, sequences=sequences, views=args.views)
    if args.kind == "depth":
        return Data(walk_cameras(args.views, *size), rooms=args.rooms, views=args.views)
    cameras = ring(args.views, args.fov, *size)
    if args.rooms is not None:
        return Data(cameras, rooms=args.rooms)
    found = [panorama for folder in args.folders for panorama in panoramas_in_folder(folder, args.views, say)]
    return Data(cameras, panoramas=tuple(found))


def train(args: argparse.Namespace, host: Path) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads spin else, and stand in each other's way
    import torch

    on_cpu = args.cpu or not torch.accelerator.is_available()  # ComfyUI wants to be told, also where there is no card
    in_process.start_host(host, *(["--cpu"] if on_cpu else []))
    in_process.load_pack()
    import comfy.sd

    from mvdiffusion_pack.caa.weights.checkpoint import write_slim
    from mvdiffusion_pack.geometry.input_error import InputError
    from mvdiffusion_pack.host.training.session import Onlooker, Training
    from mvdiffusion_pack.host.training.session import train as train_blocks
    from mvdiffusion_pack.training.distributed import world
    from mvdiffusion_pack.training.settings import Settings
    from mvdiffusion_pack.training.state import SaveError
    from mvdiffusion_pack.training.trainer import LossError

    with world(on_cards=not on_cpu) as here:
        terminal = Terminal(args.output, here.main)
        try:
            given = vars(args)
            settings = Settings(**{field.name: given[field.name] for field in fields(Settings) if field.name in given})
            model, clip, vae, start = base_models(args)
            data = data_of(args, terminal.say)
            args.output.mkdir(parents=True, exist_ok=True)
            training = Training(
                model,
                clip,
                vae,
                data,
                settings,
                args.output,
                start,
                args.prefix,
                args.unet_steps,
                args.latents,
                args.validated,
            )
            onlooker = Onlooker(terminal.say, terminal.progress, terminal.validated, lambda: terminal.stopped)
            trained = train_blocks(training, here, onlooker)
        except InputError as error:
            from mvdiffusion_pack.nodes.remedies import said

            raise SetUpError(said(error).rstrip(".")) from None
        except (LossError, SaveError) as error:
            raise SetUpError(str(error).rstrip(".")) from None
        if here.main and trained.steps == settings.steps:
            write_slim(args.output / "blocks.safetensors", trained.weights, torch.float32)
            terminal.say(f"wrote {args.output / 'blocks.safetensors'}: put it into ComfyUI/models/mvdiffusion")
            if args.unet_steps:
                comfy.sd.save_checkpoint(str(args.output / "checkpoint.safetensors"), trained.model, clip, vae)
                terminal.say(f"wrote {args.output / 'checkpoint.safetensors'}: the base with the UNet that was tuned")


def main() -> int:
    args = arguments()
    check(args)
    host = checked_host(args.host, "--host") if args.host else find_comfyui()
    if host is None:
        raise SetUpError(f"no ComfyUI found: {HOW_TO_GET_COMFYUI}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and "RANK" in os.environ:
        raise SetUpError(f"torchrun's Python has no {', '.join(missing)}: start it from ComfyUI's own environment")
    if missing:
        enter(host)
    train(args, host)
    return 0


if __name__ == "__main__":
    run_script(main)
