"""The room's frames as folders of other layouts than ours, by nothing of the pack; and whether frames show the room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rooms import ROOM, write_scannet

from mvdiffusion_pack.geometry.cameras import pixel_grid
from mvdiffusion_pack.geometry.sequence.frames import Frame

Posed = Callable[[np.ndarray], np.ndarray]  # what is written for a (4, 4) camera-to-world matrix
FLIP = np.diag([1.0, -1, -1, 1])  # between OpenCV's camera axes and OpenGL's


def same(matrix: np.ndarray) -> np.ndarray:
    return matrix


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(frame: Frame) -> np.ndarray:
    return (frame.image * 255).round().byte().numpy()


def units(frame: Frame, metre: float = 1000) -> np.ndarray:
    return (frame.depth.double() * metre).round().numpy().astype(np.uint16)


def four_by_four(frame: Frame) -> np.ndarray:
    return torch.block_diag(frame.intrinsics, torch.ones(1, 1)).numpy()


def write_frames_25k(folder: Path, frames: list[Frame], posed: Posed = same) -> Path:
    """As scannet_frames_25k: intrinsics in the root, six digits, other folders beside."""
    for frame in frames:
        name = f"{100 * int(frame.name):06}"
        save(folder / "color" / f"{name}.png", picture(frame))
        save(folder / "depth" / f"{name}.png", units(frame))
        save(folder / "label" / f"{name}.png", np.zeros((4, 4), np.uint8))
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / "pose" / f"{name}.txt", posed(frame.cam_to_world.numpy()))
    np.savetxt(folder / "intrinsics_depth.txt", four_by_four(frames[0]))
    np.savetxt(folder / "intrinsics_color.txt", 2 * four_by_four(frames[0]))
    return folder


def write_padded(folder: Path, frames: list[Frame], posed: Posed = same) -> Path:
    """ScanNet's layout with names padded differently in each folder."""
    write_scannet(folder, frames)
    for frame in frames:
        np.savetxt(folder / "pose" / f"{frame.name}.txt", posed(frame.cam_to_world.numpy()))
        for part, digits in (("color", 6), ("pose", 4)):
            (path,) = (folder / part).glob(f"{frame.name}.*")
            path.rename(path.with_name(f"{int(frame.name):0{digits}}{path.suffix}"))
    return folder


def write_pgm(path: Path, numbers: np.ndarray, largest: int = 65535) -> None:
    height, width = numbers.shape
    path.write_bytes(b"P5\n# a comment\n%d %d\n%d\n" % (width, height, largest) + numbers.astype(">u2").tobytes())


def write_sens(folder: Path, frames: list[Frame], posed: Posed = same, depth: str = "pgm", metre: int = 1000) -> Path:
    """As ScanNet's C++ exporter."""
    folder.mkdir(parents=True)
    for frame in frames:
        name = f"frame-{int(frame.name):06}"
        Image.fromarray(picture(frame)).save(folder / f"{name}.color.jpg", quality=100, subsampling=0)
        if depth == "pgm":
            write_pgm(folder / f"{name}.depth.pgm", units(frame, metre))
        else:
            save(folder / f"{name}.depth.png", units(frame, metre))
        np.savetxt(folder / f"{name}.pose.txt", posed(frame.cam_to_world.numpy()))
    numbers = " ".join(f"{number:.17g}" for number in four_by_four(frames[0]).ravel())
    lines = ["m_versionNumber = 4", "m_sensorName = StructureSensor", f"m_depthShift = {metre}"]
    lines += [f"m_calibrationColorIntrinsic = {'1 ' * 16}", f"m_calibrationDepthIntrinsic = {numbers} "]
    (folder / "_info.txt").write_text("\n".join([*lines, f"m_frames.size = {len(frames)}", ""]), encoding="utf-8")
    return folder


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """x y z w, of a rotation by less than 180 degrees."""
    w = np.sqrt(max(1 + np.trace(rotation), 1e-12)) / 2
    skew = rotation - rotation.T
    return np.array([skew[2, 1], skew[0, 2], skew[1, 0], 4 * w * w]) / (4 * w)


def write_tum(folder: Path, frames: list[Frame], posed: Posed = same, metre: int = 5000) -> Path:
    """As TUM's benchmark: its three lists, whose times differ by some milliseconds, and depth of 5000 to the metre."""
    lists: dict[str, list[str]] = {name: ["# made by a test"] for name in ("rgb", "depth", "groundtruth")}
    for number, frame in enumerate(frames):
        time = 1305031453.5 + number / 30
        color, depth = f"rgb/{time:.6f}.png", f"depth/{time + 0.007:.6f}.png"
        save(folder / color, picture(frame))
        save(folder / depth, units(frame, metre))
        matrix = posed(frame.cam_to_world.numpy())
        numbers = " ".join(f"{number:.17g}" for number in (*matrix[:3, 3], *quaternion(matrix[:3, :3])))
        lists["rgb"].append(f"{time:.6f} {color}")
        lists["depth"].append(f"{time + 0.007:.6f} {depth}")
        lists["groundtruth"].append(f"{time + 0.004:.4f} {numbers}")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (fx, _, cx), (_, fy, cy), _ = frames[0].intrinsics.tolist()
    (folder / "calibration.txt").write_text(f"{fx!r} {fy!r} {cx!r} {cy!r}", encoding="utf-8")
    return folder


def write_nerfstudio(folder: Path, frames: list[Frame], posed: Posed = same, **changes) -> Path:
    """As nerfstudio's converters: pictures twice as large as depth, OpenGL's axes, corners of pixels at integers."""
    entries = []
    for frame in frames:
        name = f"frame_{int(frame.name) + 1:05}.png"
        save(folder / "images" / name, picture(frame).repeat(2, axis=0).repeat(2, axis=1))
        save(folder / "depth" / name, units(frame))
        matrix = posed(frame.cam_to_world.numpy()) @ FLIP
        entry = {"file_path": f"./images/{name}", "depth_file_path": f"depth/{name}"}
        entries.append(entry | {"transform_matrix": matrix.tolist()})
    (fx, _, cx), (_, fy, cy), _ = frames[0].intrinsics.tolist()
    rows, columns = frames[0].depth.shape
    pictures = {"fl_x": 2 * fx, "fl_y": 2 * fy, "cx": 2 * (cx + 0.5), "cy": 2 * (cy + 0.5)}
    given = {"w": 2 * columns, "h": 2 * rows, "camera_model": "OPENCV", **pictures, "frames": entries} | changes
    (folder / "transforms.json").write_text(json.dumps(given), encoding="utf-8")
    return folder


def shows_the_room(frame: Frame, millimetres: float = 3) -> None:
    """Asserts that pose, depth and picture agree with the room: every point lies on a wall, in that place's colour."""
    height, width = frame.depth.shape
    pixels = torch.cat((pixel_grid(width, height), torch.ones(height, width, 1, dtype=torch.float64)), dim=-1)
    rays = pixels @ torch.linalg.inv(frame.intrinsics).mT @ frame.cam_to_world[:3, :3].mT
    points = frame.cam_to_world[:3, 3] + frame.depth.double()[..., None] * rays
    walls = torch.tensor(ROOM, dtype=torch.float64)
    beyond = (points.abs() - walls).amax(-1)
    assert beyond.abs().max() < millimetres / 1000
    step = frame.image.shape[0] // height
    colours = frame.image[step // 2 :: step, step // 2 :: step]
    assert (colours - (0.5 + 0.45 * torch.sin(2 * points))).abs().max() < 0.05
