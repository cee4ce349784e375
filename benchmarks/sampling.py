"""What CAA costs: one UNet step of eight views with the blocks, against the same step without them.

    python benchmarks/sampling.py --latent 32

At SD 2's widths, with random weights. Plain and multi-view steps alternate in one process, and the ratio of their
medians is what counts: machines differ and are shared. Without ComfyUI it times the blocks alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import comfy_host
import in_process

SD2_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": [2, 2, 2, 2],
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "num_head_channels": 64,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
    "legacy": False,
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PeakMemory:
    """Bytes that a call took at its peak beyond what was there before: of the GPU, or of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def of(self, call: Callable[[], object]) -> int:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            call()
            return torch.cuda.max_memory_allocated(self.device) - before
        import psutil

        process, running = psutil.Process(), True
        before = peak = process.memory_info().rss

        def watch() -> None:
            nonlocal peak
            while running:
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        call()
        running = False
        watcher.join()
        return peak - before


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue drained."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Small random weights: what the layers were created with is uninitialised memory."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return module.requires_grad_(False)


def make_caa(arguments, operations):
    """SD 2's panorama blocks and the cameras that they run with."""
    from mvdiffusion_pack.caa.blocks import CAA
    from mvdiffusion_pack.caa.codes import frequencies
    from mvdiffusion_pack.caa.kinds import PANORAMA, Widths
    from mvdiffusion_pack.geometry.layouts import ring

    widths = Widths((320, 640, 1280, 1280), 1280, (1280, 1280, 640, 320))
    bands = {name: frequencies(width, 2) for name, width in widths.by_block().items()}
    caa = CAA(PANORAMA, widths, bands, operations, DTYPES[arguments.dtype], arguments.device)
    return randomise(caa), ring(arguments.views, 90, 8 * arguments.latent, 8 * arguments.latent)


def report(name: str, plain: list[float], multi: list[float], first: float, memory: tuple[int, int]) -> None:
    plain_median, multi_median = statistics.median(plain), statistics.median(multi)
    print(f"| {name} | {plain_median:.3f} s | {multi_median:.3f} s | {multi_median / plain_median:.2f} |", end=" ")
    set_up = max(0.0, first - multi_median)
    print(f"{set_up:.2f} s | {(memory[1] - memory[0]) / 2**20:+.0f} MB |")


def step_with_host(arguments) -> None:
    """Times the host's UNetModel with and without CAA."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from mvdiffusion_pack.host.inject import RUN, Site, inject, run_site
    from mvdiffusion_pack.host.run import Run

    device, dtype = arguments.device, DTYPES[arguments.dtype]
    unet = randomise(UNetModel(**SD2_UNET, dtype=dtype, device=device, operations=comfy.ops.disable_weight_init))
    caa, cameras = make_caa(arguments, comfy.ops.manual_cast)
    holder = type("Holder", (), {"model": None, "diffusion_model": unet})()
    holder.model = holder
    inject(holder)
    batch = arguments.views * (2 if arguments.guidance else 1)
    x = torch.randn((batch, 4, arguments.latent, arguments.latent), device=device, dtype=dtype)
    context = torch.randn((batch, 77, 1024), device=device, dtype=dtype)
    timesteps = torch.full((batch,), 500, device=device)
    patches = {"forward_timestep_embed_patch": [(Site, run_site)]}
    options = {"patches": patches, RUN: Run(cameras, caa, 1.0)}

    def plain() -> torch.Tensor:
        return unet(x, timesteps, context, transformer_options={})

    def multi() -> torch.Tensor:
        return unet(x, timesteps, context, transformer_options=dict(options))

    step = measure(f"UNet, batch {batch}, {arguments.latent} x {arguments.latent}", plain, multi, arguments)
    live_preview(cameras, arguments, step)


def live_preview(cameras, arguments, step: float) -> None:
    """Times what a live preview costs beyond decoding: joining pictures of latents (latent2rgb) or pixels (TAESD)."""
    from PIL import Image

    from mvdiffusion_pack.host.preview import view_joiner

    for name, side in (("latent2rgb", arguments.latent), ("TAESD", 8 * arguments.latent)):
        images = [Image.effect_noise((side, side), 50).convert("RGB") for _ in range(arguments.views)]
        join = view_joiner(cameras, (side, side))
        times = [seconds(lambda join=join, images=images: join(images), torch.device("cpu")) for _ in range(10)]
        cost = statistics.median(times)
        print(f"live preview, {name}: {1000 * cost:.1f} ms, {cost / step:.2%} of a step")


def measure(name: str, plain: Callable, multi: Callable, arguments) -> float:
    """Warms up, then alternates the two and prints a row. Returns the seconds of a multi-view step."""
    device = arguments.device
    seconds(plain, device)
    first = seconds(multi, device)
    times = [(seconds(plain, device), seconds(multi, device)) for _ in range(arguments.repeats)]
    memory = tuple(PeakMemory(device).of(call) for call in (plain, multi))
    report(name, [a for a, _ in times], [b for _, b in times], first, memory)
    return statistics.median(b for _, b in times)


def blocks_alone(arguments) -> None:
    """Times each level's block against its feed-forward layer alone, which every transformer has."""
    from mvdiffusion_pack.caa.tables import Tables
    from mvdiffusion_pack.geometry.correspondence import panorama_correspondences

    caa, cameras = make_caa(arguments, torch.nn)
    for level, block in enumerate(caa.encoder):
        size = arguments.latent // 2**level
        width = caa.widths.encoder[level]
        x = torch.randn((1, arguments.views, width, size, size), device=arguments.device, dtype=DTYPES[arguments.dtype])
        tables = Tables(panorama_correspondences(cameras, size, size))
        layer, bands = block.transformer, caa.frequencies[f"encoder.{level}"]
        tokens = x[0].flatten(2).mT
        measure(
            f"block {width} wide, {size} x {size}, against its feed-forward",
            lambda layer=layer, tokens=tokens: layer.ff(layer.norm2(tokens)),
            lambda block=block, x=x, bands=bands, tables=tables: block(x, tables, bands),
            arguments,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", type=int, default=32, help="latent height and width: pixels / 8, a multiple of 8")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--guidance", action="store_true", help="a batch with and without the prompt, as with cfg > 1")
    arguments = parser.parse_args()
    if arguments.latent % 8:
        parser.error(f"--latent must be a multiple of 8, not {arguments.latent}")
    arguments.dtype = arguments.dtype or ("fp32" if arguments.device.type == "cpu" else "fp16")
    host = comfy_host.find_comfyui(in_process.ROOT)
    if host:
        in_process.start_host(host, *(["--cpu"] if arguments.device.type == "cpu" else []))
    in_process.load_pack()
    print(f"{arguments.views} views, {arguments.dtype}, {arguments.device}, torch {torch.__version__}")
    print("| | plain | multi-view | ratio | set-up | extra memory |\n|---|---|---|---|---|---|")
    with torch.inference_mode():
        step_with_host(arguments) if host else blocks_alone(arguments)


if __name__ == "__main__":
    main()
