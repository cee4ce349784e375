"""What joining and cutting cost: eight 512 x 512 views to a panorama by every blend, and back.

    python benchmarks/stitching.py --width 4096

The views are rendered exactly from a known sphere; dB is the panorama's PSNR inside |latitude| < 34 degrees against it.
Needs no ComfyUI.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
import in_process

in_process.load_pack()

from sphere import detailed, psnr, view_directions

from mvdiffusion_pack.geometry.equirect import equirect_angles, equirect_directions, equirect_to_views
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.stitch import BLENDS, stitch


def timed(call: Callable[[], tuple[torch.Tensor, torch.Tensor]], device: torch.device, repeats: int):
    """The call's result, and the median and least of its seconds after one call to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = call()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds[1:]), min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--width", type=int, default=4096, help="of the panorama, in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    height = args.width // 2

    cameras = ring(8, 90, 512, 512)
    views = detailed(view_directions(cameras)).float().to(args.device)
    sphere = detailed(equirect_directions(args.width, height)).float()
    inside = equirect_angles(args.width, height)[1].abs() < math.radians(34)
    print(f"8 views of 512 x 512 and a panorama of {args.width} x {height} on {args.device}, medians of {args.repeats}")
    for blend in BLENDS:
        call = lambda blend=blend: stitch(views, cameras, args.width, blend)
        (equirect, _), median, least = timed(call, args.device, args.repeats)
        quality = psnr(equirect[0, inside].cpu(), sphere[inside])
        print(f"stitch {blend:9}  {median:6.3f} s (least {least:.3f})  {quality:5.1f} dB")
    panorama = sphere[None].to(args.device)
    (cut, _), median, least = timed(lambda: equirect_to_views(panorama, cameras), args.device, args.repeats)
    print(f"equirect to views {median:6.3f} s (least {least:.3f})  {psnr(cut, views):5.1f} dB")


if __name__ == "__main__":
    main()
