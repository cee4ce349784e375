"""What OpenCV and kornia do as the pack does it, by time and by difference: why neither is required.

    python benchmarks/libraries.py

Needs both, and no ComfyUI. One thread: how work is shared out is another question.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import kornia
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import in_process

REPEATS = 7
HEIGHT, WIDTH = 1024, 2048
SCALE = np.linspace(40, 255, 256).astype(np.uint8)  # the part of the colour map that depth pictures have


def milliseconds(call: Callable) -> float:
    """The least of several calls, after one to warm up."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds[1:])


def compared(what: str, **calls: Callable) -> None:
    """Prints a line of the table."""
    times = " | ".join(f"{name} {milliseconds(call):.2f} ms" for name, call in calls.items())
    print(f"{what} | {times}")


def colour_maps() -> None:
    """Viridis of a depth map, and how far the tables are from OpenCV's."""
    from mvdiffusion_pack.geometry.figures.depth_picture import _colours_without_opencv

    opencv = cv2.applyColorMap(SCALE[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].astype(float)
    theirs = kornia.color.ColorMap("viridis", 256)
    table, depth = _colours_without_opencv(), (255 * np.random.rand(480, 640)).astype(np.uint8)
    tensor = torch.from_numpy(depth)[None, None].float()
    compared(
        "colours of 640 x 480 depths",
        own=lambda: table[depth],
        opencv=lambda: cv2.applyColorMap(depth, cv2.COLORMAP_VIRIDIS),
        kornia=lambda: kornia.color.apply_colormap(tensor, theirs),
    )
    off = [np.abs(colours - opencv).max() for colours in (table, 255 * theirs.colors.T.numpy()[SCALE])]
    print(f"largest difference from OpenCV's colours, of 255 | own {off[0]:.1f} | kornia {off[1]:.1f}")


def pyramids() -> None:
    """A step down and a step up, of a panorama 2048 x 1024."""
    from mvdiffusion_pack.geometry.panorama.multiband import _enlarged, _reduced
    from mvdiffusion_pack.geometry.pictures import halved

    large, small = torch.rand(3, HEIGHT + 2, WIDTH + 2), torch.rand(3, HEIGHT // 2 + 2, WIDTH // 2 + 2)
    arrays = [picture.movedim(0, -1)[1:-1, 1:-1].contiguous().numpy() for picture in (large, small)]
    compared(
        "half of 2048 x 1024, smoothed",
        own=lambda: _reduced(large),
        opencv=lambda: cv2.pyrDown(arrays[0]),
        kornia=lambda: kornia.geometry.pyrdown(large[None, :, 1:-1, 1:-1]),
    )
    compared(
        "twice 1024 x 512",
        own=lambda: _enlarged(small),
        opencv=lambda: cv2.pyrUp(arrays[1]),
        kornia=lambda: kornia.geometry.pyrup(small[None, :, 1:-1, 1:-1]),
    )
    compared(
        "half of 2048 x 1024, averaged",
        own=lambda: halved(large[None, :, 1:-1, 1:-1], 1),
        opencv=lambda: cv2.resize(arrays[0], (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA),
        kornia=lambda: kornia.geometry.rescale(large[None, :, 1:-1, 1:-1], 0.5, antialias=True),
    )


def metrics() -> None:
    """Of two pictures 512 x 512."""
    one, other = torch.rand(1, 3, 512, 512), torch.rand(1, 3, 512, 512)
    compared(
        "PSNR of 512 x 512",
        own=lambda: -10 * torch.log10(torch.mean((one - other) ** 2)),
        kornia=lambda: kornia.metrics.psnr(one, other, 1.0),
    )
    compared("SSIM of 512 x 512", kornia=lambda: kornia.metrics.ssim(one, other, 11))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    in_process.load_pack()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    colour_maps()
    pyramids()
    metrics()
