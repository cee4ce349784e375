"""What joining and cutting cost: 512 x 512 views to a panorama by every blend, and back; a photo in and over it.

    python benchmarks/stitching.py --layout sphere --width 4096

Views and photo are rendered exactly from a known sphere; dB is the PSNR against it, of the panorama inside |latitude| <
34 degrees. Needs no ComfyUI. Where pytorch360convert is installed, its cutting is timed in turns with ours.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import in_process

PHOTO = 6000, 4000  # width and height


def measure(call: Callable, device: torch.device, repeats: int) -> tuple[torch.Tensor, str]:
    """The first result of the call, and its median and least time after one call to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        picture, _ = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return picture.cpu(), f"{statistics.median(seconds[1:]):.3f} s | {min(seconds[1:]):.3f} s"


def cut_by_peer(equirect: torch.Tensor, cameras) -> tuple[torch.Tensor, None]:
    """What `equirect_to_views` does of one (H, 2 H, 3) panorama, by pytorch360convert, bilinearly."""
    from pytorch360convert import e2p

    right, down, forward = cameras.rotation[..., 2].T
    angles = zip(torch.atan2(right, forward).rad2deg().tolist(), torch.asin(-down).rad2deg().tolist(), strict=True)
    fov = math.degrees(2 * math.atan(cameras.width / 2 / cameras.intrinsics[0, 0, 0].item()))
    size = cameras.height, cameras.width
    return torch.stack([e2p(equirect, fov, *at, size, mode="bilinear", channels_first=False) for at in angles]), None


def compare(ours: Callable, theirs: Callable, device: torch.device, repeats: int) -> None:
    """Prints how long `theirs` takes, and `ours` over it, of both the least time, called in turns."""
    least = [math.inf, math.inf]
    for _ in range(repeats + 1):
        for number, call in enumerate((ours, theirs)):
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            least[number] = min(least[number], time.perf_counter() - start)
    print(f"equirect to views: {least[0]:.3f} s, {least[0] / least[1]:.2f} of pytorch360convert's {least[1]:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--layout", choices=("ring", "sphere"), default="ring", help="8 or 14 views")
    parser.add_argument("--width", type=int, default=4096, help="of the panorama, in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    in_process.load_pack()
    from sphere import detailed, psnr, view_directions

    from mvdiffusion_pack.geometry import layouts
    from mvdiffusion_pack.geometry.panorama.blends import BLENDS
    from mvdiffusion_pack.geometry.panorama.equirect import equirect_angles, equirect_directions, equirect_to_views
    from mvdiffusion_pack.geometry.panorama.source import source_camera, source_to_views
    from mvdiffusion_pack.geometry.panorama.stitch import Overlay, stitch

    device, width, height = arguments.device, arguments.width, arguments.width // 2
    cameras = getattr(layouts, arguments.layout)(8, 90, 512, 512)
    views = detailed(view_directions(cameras)).float()
    sphere = detailed(equirect_directions(width, height)).float()
    inside = equirect_angles(width, height)[1].abs() < math.radians(34)
    threads = torch.get_num_threads()
    print(f"{cameras.views} views of 512 x 512, a panorama of {width} x {height}, {device}, {threads} threads")
    print("| | median | least | PSNR |\n|---|---|---|---|")
    for blend in BLENDS:
        call = partial(stitch, views.to(device), cameras, width, blend)
        equirect, seconds = measure(call, device, arguments.repeats)
        print(f"| {blend} | {seconds} | {psnr(equirect[0, inside], sphere[inside]):.1f} dB |")
    darker = views.to(device) * torch.linspace(0.8, 1, cameras.views, device=device)[:, None, None, None]
    for name, level in (("feather, views darker by up to 20 %", False), ("the same with level", True)):
        equirect, seconds = measure(partial(stitch, darker, cameras, width, level=level), device, arguments.repeats)
        print(f"| {name} | {seconds} | {psnr(equirect[0, inside], 0.9 * sphere[inside]):.1f} dB |")
    call = partial(equirect_to_views, sphere[None].to(device), cameras)
    cut, seconds = measure(call, device, arguments.repeats)
    print(f"| equirect to views | {seconds} | {psnr(cut, views):.1f} dB |")

    camera = source_camera(*PHOTO, cameras, yaw_deg=20, pitch_deg=10, fov_deg=70)
    photo = detailed(view_directions(camera)).float().to(device)
    call = partial(source_to_views, photo, cameras, camera)
    _, seconds = measure(call, device, arguments.repeats)
    print(f"| photo of {PHOTO[0]} x {PHOTO[1]} to views | {seconds} | |")
    call = partial(stitch, views.to(device), cameras, width, "feather", None, Overlay(photo, camera))
    equirect, seconds = measure(call, device, arguments.repeats)
    print(f"| feather, that photo laid over | {seconds} | {psnr(equirect[0, inside], sphere[inside]):.1f} dB |")

    if find_spec("pytorch360convert"):
        sphere = sphere.to(device)
        theirs = partial(cut_by_peer, sphere, cameras)
        compare(partial(equirect_to_views, sphere[None], cameras), theirs, device, arguments.repeats)
        print(f"{psnr(cut, views):.1f} dB, pytorch360convert {psnr(theirs()[0].cpu(), views):.1f} dB")


if __name__ == "__main__":
    main()
