"""Do the demo model's views agree, and do they show what was asked for? Figures over rooms that it has never seen.

    python benchmarks/consistency.py [--panoramas 64] [--size 128] [--steps 30] [--cfg 2] [--fused] [--sheet FILE.png]

Of each room its own views ("rendered"), these through the autoencoder ("decoded"), and what the model paints of their
captions, without its blocks and with them. Overlap PSNR in dB, also of the pair that closes the circle and of all
others; sharpness: the variance of the Laplacian; colours: the share of views whose wall, floor and largest thing are
classified as captioned (compare them with the rendered views'; a plain wall is neither striped nor of brick).
Outpainting: how far the given view is from itself decoded, and its two pairs. Depth: the same along walks through the
rooms, with the rendered depth. Sphere: the same all around, up and down too, colours aside. With --fused: panoramas
alone, also by Fuse Views, without a VAE and with it, on the model without its blocks and with them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import comfy_host
import in_process
from environment import SetUpError, run_script

VIEWS = 8
# What is compared with --fused: its name, strength of the blocks, from which share of the schedule on views fuse (None:
# not at all), and whether the last steps share pictures.
FUSED = (
    ("without CAA", 0.0, None, False),
    ("fused", 0.0, 0.0, False),
    ("fused, with VAE", 0.0, 0.0, True),
    ("with CAA", 1.0, None, False),
    ("CAA, fused", 1.0, 0.0, False),
    ("CAA, fused, with VAE", 1.0, 0.0, True),
    ("CAA, fused from 0.8, with VAE", 1.0, 0.8, True),
)


@dataclass(frozen=True)
class Room:
    """A room that the model has not seen: its cameras, (V, h, w, 3) views, and a caption per view."""

    cameras: object
    images: object
    captions: list[str]


def main() -> int:
    arguments = _arguments()
    host = comfy_host.find_comfyui()
    if host is None:
        raise SetUpError(f"no ComfyUI found: {comfy_host.HOW_TO_GET_COMFYUI}")
    in_process.start_host(host, "--cpu")
    if in_process.PACKAGE not in sys.modules:
        in_process.load_pack()
    import torch
    from consistency_measures import Colours

    with torch.inference_mode():
        rooms = [panorama_room(seed, arguments.size) for seed in range(arguments.panoramas)]
        colours = Colours.of([panorama_room(seed, arguments.size, every=4) for seed in range(2000, 2000 + 96)])
        shown = (compare_fused if arguments.fused else compare_kinds)(rooms, colours, arguments)
        if arguments.sheet:
            sheet(shown, rooms, arguments.sheet)
    return 0


def compare_kinds(rooms: list[Room], colours, arguments: argparse.Namespace) -> dict[str, list]:
    """Says how panoramas, outpainting, depth and spheres agree; the views of all rooms by what they are."""
    shown = ways("panorama", rooms, arguments)
    say(shown, rooms, colours)
    model, clip, vae = loaded("outpainting")
    outpaintings = [outpainted(model, clip, vae, room, arguments, i) for i, room in enumerate(rooms)]
    say({"outpainted": outpaintings}, rooms, colours, given=shown["decoded"])
    fewer = range(max(1, arguments.panoramas // 4))
    walks = [walk_room(seed, arguments.size) for seed in fewer]
    along = ways("depth", walks, arguments)
    say({f"depth, {name}": views for name, views in along.items()}, walks, colours)
    spheres = [sphere_room(seed, arguments.size) for seed in fewer]
    around = ways("panorama", spheres, arguments)
    say({f"sphere, {name}": views for name, views in around.items()}, spheres, None)
    return shown | {"outpainted": outpaintings}


def compare_fused(rooms: list[Room], colours, arguments: argparse.Namespace) -> dict[str, list]:
    """The same of panoramas by each of FUSED."""
    model, clip, vae = loaded("panorama")
    shown = {}
    for name, strength, start, pictures in FUSED:
        one = model if start is None else fusing(model, rooms[0], start, vae if pictures else None)
        shown[name] = [painted(one, clip, vae, room, arguments, i, strength) for i, room in enumerate(rooms)]
        say({name: shown[name]}, rooms, colours)
    return shown


def say(shown: dict[str, list], rooms: list[Room], colours, given: list | None = None) -> None:
    """Prints the figures of each way."""
    from consistency_measures import figures, table

    print(table({name: figures(views, rooms, colours, given) for name, views in shown.items()}), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--panoramas", type=int, default=64)
    parser.add_argument("--size", type=int, default=128, help="pixels of a view's side")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cfg", type=float, default=2.0)
    parser.add_argument("--fused", action="store_true", help="panoramas alone, also by Fuse Views")
    parser.add_argument("--sheet", type=Path, help="a picture of the first rooms' panoramas")
    return parser.parse_args()


def panorama_room(seed: int, size: int, every: int = 1) -> Room:
    """The held-out room of a seed as a ring of views, or as every n-th of them."""
    from mvdiffusion_pack.geometry.layouts import ring

    cameras = ring(VIEWS, 90.0, size, size)
    return _seen(seed, cameras, cameras.subset(range(0, VIEWS, every)) if every > 1 else cameras)


def sphere_room(seed: int, size: int) -> Room:
    """The held-out room of a seed, seen all around, up and down too."""
    from mvdiffusion_pack.geometry.layouts import sphere

    cameras = sphere(VIEWS, 90.0, size, size)
    return _seen(seed, cameras, cameras)


def _seen(seed: int, cameras, seen) -> Room:
    """What the views `seen` of a panorama's cameras see from the viewpoint of the seed's room."""
    from mvdiffusion_pack.scenes.captions import captions_of
    from mvdiffusion_pack.scenes.render import render
    from mvdiffusion_pack.scenes.room import random_room
    from mvdiffusion_pack.scenes.viewpoints import at_viewpoint

    room = random_room(seed)
    rendering = render(room, at_viewpoint(seen, room, seed), 2)
    return Room(cameras, rendering.images, captions_of(room, rendering.things))


def walk_room(seed: int, size: int) -> Room:
    """A walk through the held-out room of a seed, with its depth."""
    from mvdiffusion_pack.geometry.posed import PosedViews
    from mvdiffusion_pack.scenes.captions import captions_of
    from mvdiffusion_pack.scenes.paths import walk
    from mvdiffusion_pack.scenes.render import render
    from mvdiffusion_pack.scenes.room import random_room

    room = random_room(seed)
    cameras = walk(room, seed, VIEWS, size, size, 75.0)
    rendering = render(room, cameras, 2)
    posed = PosedViews(cameras.intrinsics, cameras.cam_to_world, size, size, depth=rendering.depth)
    return Room(posed, rendering.images, captions_of(room, rendering.things))


def loaded(kind: str):
    """MODEL, CLIP and VAE of the demo model."""
    from mvdiffusion_pack.nodes.loaders import LoadDemoModel

    return LoadDemoModel.execute(kind).args


def ways(kind: str, rooms: list[Room], arguments: argparse.Namespace) -> dict[str, list]:
    """Rooms' views, as they are, through the autoencoder, and as the demo model paints them without CAA and with it."""
    model, clip, vae = loaded(kind)
    return {
        "rendered": [room.images for room in rooms],
        "decoded": [through(vae, room.images) for room in rooms],
        "without CAA": [painted(model, clip, vae, room, arguments, i, 0.0) for i, room in enumerate(rooms)],
        "with CAA": [painted(model, clip, vae, room, arguments, i) for i, room in enumerate(rooms)],
    }


def fusing(model, room: Room, start: float, vae=None):
    """The MODEL with Fuse Views; rooms' cameras differ in their place alone."""
    from mvdiffusion_pack.nodes.fusing import FuseViews

    return FuseViews.execute(model, room.cameras, 1, 1.0, start, 1.0, vae=vae).args[0]


def through(vae, images):
    """(V, h, w, 3) views encoded and decoded."""
    return vae.decode(vae.encode(images))


def painted(model, clip, vae, room: Room, arguments: argparse.Namespace, seed: int, strength: float | None = None):
    """(V, h, w, 3) what the MODEL paints of a room's captions; `strength` of its blocks, 1 unless given."""
    return _sampled(model, vae, room, arguments, seed, *_prompts(clip, room), strength)


def outpainted(model, clip, vae, room: Room, arguments: argparse.Namespace, seed: int):
    """The same around the first view, which is given."""
    import nodes
    import torch

    given, mask = torch.full_like(room.images, 0.5), torch.ones(room.images.shape[:3])
    given[0], mask[0] = room.images[0], 0
    conditionings = nodes.InpaintModelConditioning().encode(*_prompts(clip, room), given, vae, mask, noise_mask=False)
    return _sampled(model, vae, room, arguments, seed, *conditionings[:2], None)


def _prompts(clip, room: Room) -> tuple[list, list]:
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    texts = "\n".join(room.captions), ""
    return tuple(MultiViewTextEncode.execute(clip, room.cameras, text, "").args[0] for text in texts)


def _sampled(model, vae, room: Room, arguments, seed: int, positive, negative, strength: float | None):
    from mvdiffusion_pack.host.begin import change_setup
    from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

    if strength is not None:
        model = model.clone()
        change_setup(model, strength=strength)
    latent = MultiViewKSampler.execute(
        model, room.cameras, positive, negative, seed, arguments.steps, arguments.cfg, "ddim", "ddim_uniform", 1.0, 1
    ).args[0]
    return vae.decode(latent["samples"])


def sheet(shown: dict, rooms: list[Room], path: Path, first: int = 6) -> None:
    """One row a room and way: the panorama's middle."""
    import torch
    from PIL import Image

    from mvdiffusion_pack.geometry.panorama.stitch import stitch

    rows = []
    for number, room in enumerate(rooms[:first]):
        for images in shown.values():
            panorama, _ = stitch(images[number], room.cameras, 1024)
            rows.append(panorama[0, 128:384])
    Image.fromarray((torch.cat(rows).clamp(0, 1) * 255).to(torch.uint8).numpy()).save(path)
    print(f"wrote {path}: of each room {', '.join(shown)}")


if __name__ == "__main__":
    run_script(main)
