"""What a queue of seeds costs over the API: one graph with one seed after another, and what of each run is not steps.

    python benchmarks/seeds.py                            the demo panorama
    python benchmarks/seeds.py --graph demo_depth_to_multiview
    python benchmarks/seeds.py --sd2 512 --layout sphere  Stable Diffusion 2 at its real size, random weights, 3 steps

`Set-up` is what the sampler takes before its first step, which counts as the median one, and after its last; `other
nodes` is the rest of the run. The first run loads models, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import comfy_host
from environment import ROOT, SetUpError, run_script

SAMPLER = "MVDiffusionKSampler"
AUTHORS_FILE = Path("models", "mvdiffusion", "pano.ckpt")


class Watch:
    """The times of a run's sampler: when it began and ended, and of each of its steps."""

    def __init__(self, sampler: str) -> None:
        self._sampler, self._running = sampler, False
        self.began = self.ended = 0.0
        self.steps: list[float] = []

    def on_event(self, event: dict) -> None:
        """Takes an event of the host's websocket."""
        now, data = time.perf_counter(), event["data"]
        if event["type"] == "executing":
            if self._running:
                self.ended = now
            self._running = data["node"] == self._sampler
            if self._running:
                self.began = now
        elif event["type"] == "progress" and data.get("node") == self._sampler:
            self.steps.append(now)

    @property
    def step(self) -> float:
        """Seconds of the median step."""
        return statistics.median(after - before for before, after in zip(self.steps, self.steps[1:], strict=False))

    @property
    def setup(self) -> float:
        """Seconds that the sampler took before its first step and after its last."""
        return self.steps[0] - self.step - self.began + self.ended - self.steps[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", default="demo_panorama", help="a file of workflows/api, without its ending")
    parser.add_argument("--sd2", type=int, metavar="SIZE", help="Stable Diffusion 2 instead, with views of this size")
    parser.add_argument("--layout", choices=("ring", "sphere"), default="ring", help="with --sd2: 8 or 14 views")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    host = comfy_host.find_comfyui()
    if host is None:
        raise SetUpError(f"no ComfyUI found: {comfy_host.HOW_TO_GET_COMFYUI}")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.sd2:
            graph = sd2(Path(folder) / AUTHORS_FILE, arguments.sd2, arguments.layout)
        else:
            graph = json.loads((ROOT / "workflows" / "api" / f"{arguments.graph}.json").read_text(encoding="utf-8"))
        (sampler,) = (node for node, what in graph.items() if what["class_type"] == SAMPLER)
        print("| run | whole | a step | set-up | other nodes |\n|---|---|---|---|---|")
        with comfy_host.Server(host, workdir=Path(folder)) as server:
            for seed in range(arguments.seeds):
                graph[sampler]["inputs"]["seed"] = seed
                watch, start = Watch(sampler), time.perf_counter()
                server.wait(server.queue(graph), watch.on_event, timeout=3600)
                whole = time.perf_counter() - start
                others = whole - (watch.ended - watch.began)
                print(
                    f"| {seed + 1} | {whole:.2f} s | {watch.step:.3f} s | {watch.setup:.2f} s | {others:.2f} s |",
                    flush=True,
                )
    return 0


def sd2(path: Path, size: int, layout: str) -> dict:
    """A graph of three steps up to the latents, whose weights are written to `path`."""
    import torch
    from published_files import full_size_weights, write_published

    path.parent.mkdir(parents=True)
    write_published(path, full_size_weights("pano_sd2", torch.float16))
    cameras = {"layout": layout, "views": 8, "fov": 90, "width": size, "height": size, "start_yaw": 0, "pitch": 0}
    text = {"clip": ["model", 1], "cameras": ["cameras", 0], "text": "a room", "prefix": ""}
    run = {"steps": 3, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": 1.0, "panoramas": 1}
    given = {"model": ["model", 0], "cameras": ["cameras", 0], "positive": ["text", 0], "negative": ["text", 0]}
    return {
        "model": {"class_type": "MVDiffusionLoadCheckpoint", "inputs": {"checkpoint": path.name, "strength": 1.0}},
        "cameras": {"class_type": "MVDiffusionPanoramaCameras", "inputs": cameras},
        "text": {"class_type": "MVDiffusionTextEncode", "inputs": text},
        "sampler": {"class_type": SAMPLER, "inputs": given | run},
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "seeds"}},
    }


if __name__ == "__main__":
    run_script(main)
