"""What follows from cameras alone, at SD 2's four levels: seconds, first and again.

    python benchmarks/cameras.py

Correspondences, reads and position codes of a ring of 8 views and of a sphere of 14, in fp32 on
the CPU. `Again` is a second queue over the same cameras, of which 512 MB may have been kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import in_process

WIDTHS = (320, 640, 1280, 1280)
FREE = 2**40  # bytes: memory is not what is measured


def seconds(scene, latent: tuple[int, int], store) -> float:
    """Of one queue, whose features are `latent` (height, width) large at the first level."""
    from mvdiffusion_pack.caa.attention.codes import frequencies
    from mvdiffusion_pack.caa.attention.memory import Memory

    start, memory = time.perf_counter(), Memory()
    for level, width in enumerate(WIDTHS):
        height, across = (side >> level for side in latent)
        tables = store.tables(scene, height, across, "auto", memory, torch.device("cpu"))
        like = torch.empty(1, height, across, width)
        tables.reads(like)
        tables.codes(frequencies(width, 2), like)
    return time.perf_counter() - start


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    in_process.load_pack()
    from mvdiffusion_pack.caa.attention.kept import Kept
    from mvdiffusion_pack.geometry.layouts import ring, sphere

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| | first | again |\n|---|---|---|")
    for side in (256, 512):
        scenes = {"ring, 8 views": ring(8, 90, side, side), "sphere, 14 views": sphere(8, 90, side, side)}
        for name, scene in scenes.items():
            store, latent = Kept(), (side // 8, side // 8)
            first = seconds(scene, latent, store)
            store.rest(FREE)
            print(f"| {name} of {side} x {side} | {first:.2f} s | {seconds(scene, latent, store):.2f} s |", flush=True)


if __name__ == "__main__":
    main()
