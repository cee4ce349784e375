"""Depth sequences in a room of known shape: depth that is exact, poses that are known, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvdiffusion_pack.geometry.cameras import intrinsics_from_fov, pixel_grid, rotation_from_angles
from mvdiffusion_pack.geometry.sequence.frames import Frame

ROOM = (3.0, 1.5, 4.0)  # half its size in metres; the middle is the world's origin
UNIT = 3.7  # metres, of a depth that has no scale
MODEL_SIZE = 140, 98  # width, height of what Depth Anything 3 saw: x and y are scaled differently


def pose(yaw_deg: float, position: tuple[float, float, float] = (0, 0, 0), pitch_deg: float = 0.0) -> torch.Tensor:
    """(4, 4) camera-to-world."""
    cam_to_world = torch.eye(4, dtype=torch.float64)
    cam_to_world[:3, :3] = rotation_from_angles(yaw_deg, pitch_deg)
    cam_to_world[:3, 3] = torch.tensor(position, dtype=torch.float64)
    return cam_to_world


def seen(name: str, cam_to_world: torch.Tensor, width: int, height: int, fov_deg: float = 75.0, prompt="") -> Frame:
    """What a camera in the room sees: the depth of its walls in whole millimetres, coloured by where they are."""
    intrinsics = intrinsics_from_fov(fov_deg, width, height)
    pixels = torch.cat((pixel_grid(width, height), torch.ones(height, width, 1, dtype=torch.float64)), dim=-1)
    rays = pixels @ torch.linalg.inv(intrinsics).mT @ cam_to_world[:3, :3].mT
    walls = torch.tensor(ROOM, dtype=torch.float64) * rays.sign()
    depth = ((walls - cam_to_world[:3, 3]) / rays).nan_to_num(posinf=1e9).amin(-1)
    points = cam_to_world[:3, 3] + depth[..., None] * rays
    image = (0.5 + 0.45 * torch.sin(2 * points)).float()
    millimetres = (depth * 1000).round().float()
    return Frame(name, (image * 255).round() / 255, millimetres / 1000, intrinsics, cam_to_world, prompt)


def walk(frames: int, width: int = 64, height: int = 64, turn_deg: float = 10.0) -> list[Frame]:
    """A camera that goes forward through the room and turns to the right."""
    poses = [pose(turn_deg * i, (0.1 * i / max(frames, 10), 0.1, -0.05 * i / max(frames, 10))) for i in range(frames)]
    return [seen(str(i), cam_to_world, width, height) for i, cam_to_world in enumerate(poses)]


def write_scannet(folder: Path, frames: list[Frame]) -> Path:
    """The frames as a folder in ScanNet's layout, by nothing of the pack."""
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True)
    for frame in frames:
        pixels = (frame.image * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / "color" / f"{frame.name}.png")
        millimetres = (frame.depth.double() * 1000).round().numpy().astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{frame.name}.png")
        np.savetxt(folder / "pose" / f"{frame.name}.txt", frame.cam_to_world.numpy())
    intrinsics = torch.block_diag(frames[0].intrinsics, torch.ones(1, 1)).numpy()
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", intrinsics)
    return folder


def described(frames: list[Frame], noise: float = 0.0, **changes) -> dict:
    """The frames as the host's DA3_GEOMETRY, in units of 3.7 m; `noise` is a share of the depth."""
    generator = torch.Generator().manual_seed(0)
    depth = torch.stack([frame.depth for frame in frames]) / UNIT
    depth *= 1 + noise * torch.randn(depth.shape, generator=generator)
    cam_from_world = torch.stack([torch.linalg.inv(frame.cam_to_world) for frame in frames])[:, :3]
    cam_from_world[:, :, 3] /= UNIT
    intrinsics = torch.stack([frame.intrinsics for frame in frames])
    intrinsics[:, :2, 2] += 0.5  # centres at half-integers
    intrinsics[:, 0] *= MODEL_SIZE[0] / depth.shape[2]
    intrinsics[:, 1] *= MODEL_SIZE[1] / depth.shape[1]
    geometry = {
        "depth": depth,
        "image": torch.stack([frame.image for frame in frames]),
        "mode": "multiview",
        "extrinsics": cam_from_world.float()[None],
        "intrinsics": intrinsics.float()[None],
        "confidence": torch.full_like(depth, 4.0),
    }
    return geometry | changes
