"""What CAA costs: one UNet step of all views with the blocks, against the same step without them.

    python benchmarks/sampling.py            a ring of 8 views of 64 x 64 latents
    python benchmarks/sampling.py sphere     14 views all around, of 32 x 32 latents
    python benchmarks/sampling.py depth      12 views of 24 x 32 latents with depth
    python benchmarks/sampling.py growth     rings of 8 to 64 views of 8 x 8 latents
    python benchmarks/sampling.py windows    150 views of 24 x 32 latents with depth, 12 at once: memory alone

At SD 2's widths, with random weights. The steps of the ways are timed in turns in one process, and the ratio of medians
counts: machines differ and are shared. `published` is the published attention written directly, view by view
(tests/published_block.py), with its geometry made once: the published code makes it anew in each step.

Set-up is what a first step takes longer: of a first queue, and of a second one over the same cameras. Memory is the
peak of a first and a second step, with what stays for the run, beyond that of the UNet alone; the blocks' weights are
there in both. On a card the ratio of the time that it is busy stands beside the other: a quick card waits for the
processor to ask for the next small kernel, slower ones do not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measuring import PeakMemory, busy_seconds, seconds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import comfy_host
import in_process

WIDTHS = (320, 640, 1280, 1280)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WAYS = "published", "plain", "torch", "auto"


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Small random weights: what the layers were created with is uninitialised memory."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return module.requires_grad_(False)


class Steps:
    """One UNet, its CAA blocks, and a scene: what a step of each way is made of."""

    def __init__(self, arguments, kind, cameras, latent: tuple[int, int]) -> None:
        import comfy.ops
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        from mvdiffusion_pack.caa.attention.codes import frequencies
        from mvdiffusion_pack.caa.blocks import CAA
        from mvdiffusion_pack.caa.weights.kinds import Widths
        from mvdiffusion_pack.host.inject import inject

        device, dtype = arguments.device, DTYPES[arguments.dtype]
        self.device, self.cameras = device, cameras
        operations = comfy.ops.disable_weight_init
        from mvdiffusion_pack.host.sd2 import SD2_UNET

        unet = UNetModel(**SD2_UNET, in_channels=kind.in_channels, dtype=dtype, device=device, operations=operations)
        self.unet = randomise(unet)
        widths = Widths(WIDTHS, WIDTHS[-1], WIDTHS[::-1])
        bands = {name: frequencies(width, kind.code_dims) for name, width in widths.by_block().items()}
        self.caa = randomise(CAA(kind, widths, bands, comfy.ops.manual_cast, dtype, device))
        holder = type("Holder", (), {"model": None, "diffusion_model": self.unet})()
        holder.model = holder
        inject(holder)
        self.batch = cameras.views * (2 if arguments.guidance else 1)
        self.x = torch.randn((self.batch, kind.in_channels, *latent), device=device, dtype=dtype)
        self.context = torch.randn((self.batch, 77, 1024), device=device, dtype=dtype)
        self.timesteps = torch.full((self.batch,), 500, device=device)

    def without(self) -> torch.Tensor:
        """A step of the UNet alone."""
        return self.unet(self.x, self.timesteps, self.context, transformer_options={})

    def of(self, way: str) -> Callable[[], torch.Tensor]:
        """A step with the blocks, which attend in one of WAYS."""
        from mvdiffusion_pack.host.inject import RUN

        options = self.options() | {RUN: self._run(way)}
        return lambda: self.unet(self.x, self.timesteps, self.context, transformer_options=dict(options))

    def options(self) -> dict:
        """Transformer options by which the UNet comes to its sites."""
        from mvdiffusion_pack.host.inject import Site, run_site

        return {"patches": {"forward_timestep_embed_patch": [(Site, run_site)]}}

    def first_two(self, way: str) -> None:
        """The first two steps of a run."""
        step = self.of(way)
        step()
        step()

    def _run(self, way: str):
        from published_block import published_block

        from mvdiffusion_pack.host.run import Run

        class BenchmarkRun(Run):
            """A run that knows the published block, too."""

            def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
                if way != "published" or self.caa.at_site(name) is None:
                    return super().apply(name, x)
                block, bands = self.caa.at_site(name)
                corr = self.tables(*x.shape[-2:], x.device).correspondences
                return torch.cat([published_block(block, views, corr, bands) for views in x.split(self.cameras.views)])

        return BenchmarkRun(self.cameras, self.caa, 1.0, "auto" if way == "published" else way)


def measure(name: str, steps: Steps, arguments) -> float:
    """Warms up, then times all ways in turns and prints a row for each. Returns the seconds of a step of the last."""
    from comfy.model_management import get_free_memory

    from mvdiffusion_pack.caa.attention.kept import KEPT

    calls = {"UNet alone": steps.without} | {way: steps.of(way) for way in arguments.ways}
    seconds(steps.without, steps.device)
    first = {way: seconds(call, steps.device) for way, call in calls.items()}
    turns = [{way: seconds(call, steps.device) for way, call in calls.items()} for _ in range(arguments.repeats)]
    median = {way: statistics.median(turn[way] for turn in turns) for way in calls}
    again = {}
    for way in arguments.ways:
        KEPT.rest(get_free_memory(torch.device("cpu")))
        again[way] = seconds(steps.of(way), steps.device)
    del calls
    alone, taken = median.pop("UNet alone"), PeakMemory(steps.device).of(steps.without)
    on_card = steps.device.type == "cuda"
    busy = busy_seconds(steps.without, steps.device) if on_card else 0
    for way, time_of_step in median.items():
        peak = PeakMemory(steps.device).of(lambda way=way: steps.first_two(way))
        ratio = f"{time_of_step / alone:.2f}"
        ratio += f", busy {busy_seconds(steps.of(way), steps.device) / busy:.2f}" if on_card else ""
        row = f"| {name} | {way} | {alone:.3f} s | {time_of_step:.3f} s | {ratio} "
        setups = [max(0.0, took[way] - time_of_step) for took in (first, again)]
        print(row + f"| {setups[0]:.2f} s, {setups[1]:.2f} s | {(peak - taken) / 2**20:+.0f} MB |", flush=True)
    return time_of_step


def measure_windows(steps: Steps, views: int, window: int, shared: int) -> None:
    """Prints the seconds and the peak memory of two steps of `views` views in windows."""
    from mvdiffusion_pack.geometry.sequence.windows import sliding_windows
    from mvdiffusion_pack.host.run import WINDOWS, Allowance, Run, Windows, predict

    cameras, allowance = wall(views, 256, 192), Allowance()
    runs = [
        (part, Run(cameras.subset(part), steps.caa, 1.0, allowance=allowance))
        for part in sliding_windows(views, window, shared)
    ]
    options = steps.options() | {WINDOWS: Windows(views, runs, own_inputs=True)}
    x = torch.randn((views, 4, *steps.x.shape[2:]), device=steps.device, dtype=steps.x.dtype)
    context, timesteps = (part[:1].repeat(views, *[1] * (part.ndim - 1)) for part in (steps.context, steps.timesteps))

    def unet(x, t, c_concat, c_crossattn, control, transformer_options):
        return steps.unet(torch.cat((x, c_concat.to(x)), 1), t, c_crossattn, transformer_options=transformer_options)

    def first_two() -> None:
        for _ in range(2):
            predict(unet, x, timesteps, None, context, None, dict(options))

    start = time.perf_counter()
    peak = PeakMemory(steps.device).of(first_two)
    took = time.perf_counter() - start
    print(f"{views} views in {len(runs)} windows of {window}: two steps {took:.0f} s, peak {peak / 2**20:+.0f} MB")


def wall(views: int, width: int, height: int):
    """Cameras that step sideways before a wall three metres away: two neighbours on either side."""
    from mvdiffusion_pack.geometry.cameras import intrinsics_from_fov
    from mvdiffusion_pack.geometry.posed import PosedViews

    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    cam_to_world[:, 0, 3] = torch.arange(views) * 1.2
    intrinsics = intrinsics_from_fov(60, width, height).repeat(views, 1, 1)
    return PosedViews(intrinsics, cam_to_world, width, height, depth=torch.full((views, height, width), 3.0))


def live_preview(cameras, side: int, step: float) -> None:
    """Times what a live preview costs beyond decoding: joining pictures of latents (latent2rgb) or pixels (TAESD)."""
    from PIL import Image

    from mvdiffusion_pack.host.preview import view_joiner

    for name, size in (("latent2rgb", side), ("TAESD", 8 * side)):
        images = [Image.effect_noise((size, size), 50).convert("RGB") for _ in range(cameras.views)]
        join = view_joiner(cameras, (size, size))
        times = [seconds(lambda join=join, images=images: join(images), torch.device("cpu")) for _ in range(10)]
        cost = statistics.median(times)
        print(f"live preview, {name}: {1000 * cost:.1f} ms, {cost / step:.2%} of a step")


def scenes(arguments) -> Iterator[tuple[str, Steps]]:
    """The scenes to be measured, with their names."""
    from mvdiffusion_pack.caa.weights.kinds import DEPTH, PANORAMA
    from mvdiffusion_pack.geometry.layouts import ring, sphere

    if arguments.scene == "sphere":
        side = arguments.latent or 32
        views = arguments.views or 8
        cameras = sphere(views, 90, 8 * side, 8 * side)
        yield f"sphere, {cameras.views} views of {side} x {side}", Steps(arguments, PANORAMA, cameras, (side, side))
        return
    if arguments.scene == "depth":
        views = arguments.views or 12
        yield f"depth, {views} views of 24 x 32", Steps(arguments, DEPTH, wall(views, 256, 192), (24, 32))
        return
    growth = arguments.scene == "growth"
    side = arguments.latent or (8 if growth else 64)
    for views in (8, 16, 32, 64) if growth else (arguments.views or 8,):
        cameras = ring(views, 90, 8 * side, 8 * side)
        yield f"ring, {views} views of {side} x {side}", Steps(arguments, PANORAMA, cameras, (side, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", nargs="?", choices=("ring", "sphere", "depth", "growth", "windows"), default="ring")
    parser.add_argument("--latent", type=int, help="latent height and width of a view: pixels / 8, a multiple of 8")
    parser.add_argument("--views", type=int)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["published", "auto"], help="how blocks attend")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--guidance", action="store_true", help="a batch with and without the prompt, as with cfg > 1")
    arguments = parser.parse_args()
    if arguments.latent and arguments.latent % 8:
        parser.error(f"--latent must be a multiple of 8, not {arguments.latent}")
    arguments.dtype = arguments.dtype or ("fp32" if arguments.device.type == "cpu" else "fp16")
    host = comfy_host.find_comfyui(in_process.ROOT)
    if host is None:
        parser.error(comfy_host.HOW_TO_GET_COMFYUI)
    in_process.start_host(host, *(["--cpu"] if arguments.device.type == "cpu" else []))
    in_process.load_pack()
    print(f"{arguments.dtype}, {arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if arguments.scene != "windows":
        print("| | attention | UNet alone | with CAA | ratio | set-up, again | memory |\n|---|---|---|---|---|---|---|")
    with torch.inference_mode():
        if arguments.scene == "windows":
            from mvdiffusion_pack.caa.weights.kinds import DEPTH

            steps = Steps(arguments, DEPTH, wall(12, 256, 192), (24, 32))
            steps.without()
            for views in (12, arguments.views or 150):
                measure_windows(steps, views, 12, 2)
            return
        for name, steps in scenes(arguments):
            step = measure(name, steps, arguments)
        if arguments.scene == "ring":
            live_preview(steps.cameras, steps.x.shape[-1], step)


if __name__ == "__main__":
    main()
