"""Makes a panorama from nothing: finds or installs ComfyUI, runs the pack's graph in it, writes output/panorama.png.

    python scripts/demo.py [--checkpoint FILE] [--prompt TEXT] [--seed N] [--steps N] [--output FILE] [--cpu]

Without a checkpoint it runs the demo model, which needs no download and paints simple rooms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comfy_host import ExecutionError, PromptError, Server, checked_host, find_comfyui, host_version, install_comfyui
from environment import PYTHON, ROOT, SetUpError, enter, run_script

GRAPHS = ROOT / "workflows" / "api"
# Endings by which the host lists a file as a model; the authors' files end in .ckpt.
MODEL_FILES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
SAMPLER = "MVDiffusionKSampler"
# Nearly all of the time goes into sampling; every other node counts 1.
SAMPLER_WEIGHT = 20
HOURS = 3600


class ProgressBar:
    """The progress of a graph in one line that is drawn over and over; where that cannot be seen, a line each 10 %."""

    WIDTH = 40

    def __init__(self, graph: dict):
        self.names = {node_id: node["class_type"] for node_id, node in graph.items()}
        self.weights = {id: SAMPLER_WEIGHT if name == SAMPLER else 1 for id, name in self.names.items()}
        self.drawn = -1

    def on_event(self, event: dict) -> None:
        """Takes an event of the host's websocket."""
        if event["type"] != "progress_state":
            return
        states = {id: state for id, state in event["data"]["nodes"].items() if id in self.weights}
        done = sum(self.weights[id] * state["value"] / max(1, state["max"]) for id, state in states.items())
        running = [self.names[id] for id, state in states.items() if state["state"] == "running"]
        self.draw(int(99 * done / sum(self.weights.values())), running[-1] if running else "")

    def draw(self, percent: int, text: str) -> None:
        """Draws the bar at a percentage."""
        if sys.stdout.isatty():
            filled = percent * self.WIDTH // 100
            print(f"\r[{'#' * filled}{'.' * (self.WIDTH - filled)}] {percent:3} %  {text:28.28}", end="", flush=True)
        elif percent // 10 > self.drawn // 10:
            print(f"{percent:3} %  {text}", flush=True)
        self.drawn = percent

    def close(self) -> None:
        """Leaves the line, so that what is said next starts a new one."""
        if sys.stdout.isatty():
            print()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="the authors' MVDiffusion file (pano.ckpt)")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="for all views; given again, one per view")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "panorama.png", metavar="FILE")
    parser.add_argument("--cpu", action="store_true", help="leave the graphics card alone")
    parser.add_argument("--host", type=Path, metavar="FOLDER", help="the ComfyUI to use, instead of a found one")
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Raises SetUpError for the first argument that cannot be right, before anything is installed or started."""
    if args.checkpoint and not args.checkpoint.is_file():
        raise SetUpError(f"there is no file {args.checkpoint} for --checkpoint")
    if args.checkpoint and args.checkpoint.suffix.lower() not in MODEL_FILES:
        raise SetUpError(f"--checkpoint {args.checkpoint} must end in one of {', '.join(MODEL_FILES)}")
    if args.steps is not None and args.steps < 1:
        raise SetUpError(f"--steps must be at least 1, not {args.steps}")
    if args.seed is not None and not 0 <= args.seed < 2**64:
        raise SetUpError(f"--seed must be at least 0 and less than 2^64, not {args.seed}")
    if args.output.suffix.lower() != ".png":
        raise SetUpError(f"--output {args.output} must end in .png")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetUpError(f"the folder of --output {args.output} cannot be made: {error}") from None


def panorama_graph(args: argparse.Namespace) -> dict:
    """The pack's graph in API form with the arguments put into it."""
    name = "text_to_panorama.json" if args.checkpoint else "demo_full_sphere.json"
    graph = json.loads((GRAPHS / name).read_text(encoding="utf-8"))
    for node in list(graph.values()):
        inputs = node["inputs"]
        if node["class_type"] == "MVDiffusionLoadCheckpoint" and args.checkpoint:
            inputs["checkpoint"] = args.checkpoint.name
        if node["class_type"] == SAMPLER:
            if args.prompt:
                graph[inputs["positive"][0]]["inputs"]["text"] = "\n".join(args.prompt)
            inputs |= {name: value for name in ("seed", "steps") if (value := getattr(args, name)) is not None}
    return graph


def has_accelerator() -> bool:
    """Whether torch finds a device besides the CPU; asked in a process that ends, so that its memory is free again."""
    question = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    return subprocess.run([str(PYTHON), "-c", question], capture_output=True).returncode == 0


def weights_folder(checkpoint: Path, workdir: Path) -> Path:
    """A folder with the checkpoint and, where hard links can be made, nothing else for the host to list."""
    folder = workdir / "weights"
    folder.mkdir()
    try:
        os.link(checkpoint, folder / checkpoint.name)
    except OSError:
        return checkpoint.absolute().parent
    return folder


def run(host: Path, args: argparse.Namespace) -> None:
    graph = panorama_graph(args)
    cpu = args.cpu or not has_accelerator()
    print(f"starting ComfyUI {host_version(host)} in {host} on the {'CPU' if cpu else 'graphics card'} ...", flush=True)
    runs = ROOT / ".hosts"
    runs.mkdir(exist_ok=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="demo-", dir=runs, ignore_cleanup_errors=True) as folder:
        weights = weights_folder(args.checkpoint, Path(folder)) if args.checkpoint else None
        with Server(host, ROOT, workdir=Path(folder), cpu=cpu, weights=weights) as server:
            queued = time.monotonic()
            with contextlib.closing(ProgressBar(graph)) as bar:
                entry = server.wait(server.queue(graph), bar.on_event, timeout=24 * HOURS)
                bar.draw(100, "")
            images = [image for output in entry["outputs"].values() for image in output.get("images", [])]
            saved = next(image for image in images if image["type"] == "output")
            args.output.write_bytes(server.view(**saved))
            ended = time.monotonic()
    print(f"{args.output}: the run took {ended - queued:.1f} s, {ended - begin:.1f} s with the start of ComfyUI")


def main() -> int:
    args = arguments()
    check(args)
    host = checked_host(args.host, "--host") if args.host else find_comfyui() or install_comfyui()
    enter(host)
    try:
        run(host, args)
    except PromptError as error:
        raise SetUpError(f"ComfyUI refused the graph: {error}") from None
    except ExecutionError as error:
        raise SetUpError(f"the run failed in {error}") from None
    except TimeoutError as error:
        raise SetUpError(str(error)) from None
    return 0


if __name__ == "__main__":
    run_script(main)
