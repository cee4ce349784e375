"""What joining and cutting cost: 512 x 512 views to a panorama by every blend, and back; a photo in and over it.

    python benchmarks/stitching.py --layout sphere --width 4096

Views and photo are rendered exactly from a known sphere; dB is the PSNR against it, of the panorama inside |latitude| <
34 degrees. Needs no ComfyUI.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
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


if __name__ == "__main__":
    main()
