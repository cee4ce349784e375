"""What rendering rooms costs on one CPU core: panoramas of 8 views by each engine, and what is made for them.

    python benchmarks/rendering.py                    128 x 128 at 2 x 2 samples
    python benchmarks/rendering.py --size 256 --samples 3

Rays are those to each sample, from there to the lamp, and through the pixels' middles. Seconds are the process's own:
medians over rooms, after one room to warm up, which is when numba compiles unless it did before. Needs no ComfyUI.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import in_process

VIEWS = 8


def seconds(call: Callable, arguments: Iterable[tuple]) -> float:
    """The median of the processor time that calls take."""
    taken = []
    for each in arguments:
        start = time.process_time()
        call(*each)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="of the views, in pixels")
    parser.add_argument("--samples", type=int, default=2, help="along either side of a pixel")
    parser.add_argument("--rooms", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    in_process.load_pack()
    from mvdiffusion_pack.scenes.captions import captions_of
    from mvdiffusion_pack.scenes.paths import walk
    from mvdiffusion_pack.scenes.render import render
    from mvdiffusion_pack.scenes.room import random_room
    from mvdiffusion_pack.scenes.viewpoints import panorama_cameras

    size, samples = arguments.size, arguments.samples
    rooms = [(random_room(seed), seed) for seed in range(arguments.rooms)]
    panoramas = [(room, panorama_cameras(room, seed, VIEWS, 90.0, size, size)) for room, seed in rooms]
    rays = VIEWS * size**2 * (2 * samples**2 + 1 - samples % 2)
    print("engine | CPU seconds | million rays a second | panoramas a second")
    for engine in ("torch", "numba"):
        render(*panoramas[0], samples, engine=engine)
        taken = seconds(lambda *scene: render(*scene, samples, engine=engine), panoramas)  # noqa: B023
        print(f"{engine} | {taken:.4f} | {rays / taken / 1e6:.1f} | {1 / taken:.1f}")
    things = render(*panoramas[0], samples).things
    others = {
        "random_room": seconds(random_room, [(seed,) for _, seed in rooms]),
        "panorama_cameras": seconds(panorama_cameras, rooms),
        f"walk of {VIEWS} views": seconds(lambda room, seed: walk(room, seed, VIEWS, size, size), rooms),
        f"captions of {VIEWS} views": seconds(captions_of, [(rooms[0][0], things)] * 10),
    }
    print(", ".join(f"{name} {taken * 1000:.1f} ms" for name, taken in others.items()))


if __name__ == "__main__":
    main()
