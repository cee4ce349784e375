"""Renders the depth sequence that ships with the pack, in ScanNet's layout, to scenes/demo.

    python scripts/make_demo_sequence.py [FOLDER]

It is the same on every machine, up to the last bits of JPEG files.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import in_process
import torch
from environment import ROOT
from PIL import Image

if in_process.PACKAGE not in sys.modules:  # the tests have it already
    in_process.load_pack()

from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, rotation_from_angles
from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.geometry.sequence.scannet import write_sequence
from mvdiffusion_pack.scenes.captions import caption
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import Room, random_room

FOLDER = ROOT / "scenes" / "demo"
SEED, VIEWS, WIDTH, HEIGHT, FOV_DEG = 20, 24, 320, 240, 62.0
START_YAW_DEG, TURN_DEG, RADIUS = 222.0, 160.0, 0.25  # RADIUS: of the room
EYE, PITCH_DEG = 1.45, -8.0
QUALITY = 88  # of the JPEG files: all of them together stay well below 1 MB


def demo_cameras(room: Room) -> Cameras:
    """The path: an arc around the room's middle, looking across it and turning to the right."""
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(VIEWS, 1, 1)
    for view, pose in enumerate(cam_to_world):
        yaw = START_YAW_DEG + TURN_DEG * view / (VIEWS - 1)
        back = math.radians(yaw + 180)
        place = RADIUS * room.size[0] * math.sin(back), -EYE, RADIUS * room.size[2] * math.cos(back)
        pose[:3, :3], pose[:3, 3] = rotation_from_angles(yaw, PITCH_DEG), torch.tensor(place, dtype=torch.float64)
    return Cameras(intrinsics_from_fov(FOV_DEG, WIDTH, HEIGHT).repeat(VIEWS, 1, 1), cam_to_world, WIDTH, HEIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="must not exist yet (scenes/demo)")
    folder = parser.parse_args().folder
    room = random_room(SEED)
    cameras = demo_cameras(room)
    rendering = render(room, cameras)
    prompts = [caption(room, things) for things in rendering.things]
    posed = PosedViews(cameras.intrinsics, cameras.cam_to_world, WIDTH, HEIGHT, depth=rendering.depth)
    written = write_sequence(folder, posed, rendering.images, prompts=prompts)
    for name, image in zip(posed.names, rendering.images, strict=True):
        pixels = (image * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(written / "color" / f"{name}.jpg", quality=QUALITY, subsampling="4:4:4")
    print(f"wrote {written}")


if __name__ == "__main__":
    main()
