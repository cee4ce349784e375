"""Compiled rendering: the pictures that torch makes."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvdiffusion_pack.geometry.cameras import Cameras, rotation_from_angles
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.scenes import render as rendering
from mvdiffusion_pack.scenes import traced
from mvdiffusion_pack.scenes.furniture import Finish, Part, Piece, on
from mvdiffusion_pack.scenes.render import Rendering, render
from mvdiffusion_pack.scenes.room import SHAPES, Room, random_room
from mvdiffusion_pack.scenes.textures import TEXTURES
from mvdiffusion_pack.scenes.viewpoints import viewpoint

ROOT = Path(__file__).resolve().parent.parent.parent
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="needs numba")
ANGLES = ((20.0, -35.0, 0.0), (-100.0, 15.0, 25.0), (170.0, -5.0, -80.0), (80.0, 70.0, 10.0))


def looking_around(place: torch.Tensor, width: int, height: int) -> Cameras:
    """Cameras at one place that are turned, pitched and rolled, and whose pixels are neither square nor centred."""
    pose = torch.eye(4, dtype=torch.float64).repeat(len(ANGLES), 1, 1)
    pose[:, :3, :3] = torch.stack([rotation_from_angles(*angles) for angles in ANGLES])
    pose[:, :3, 3] = place
    lens = torch.tensor([[0.7 * width, 0, 0.45 * width], [0, 0.9 * height, 0.6 * height], [0, 0, 1]]).double()
    return Cameras(lens.repeat(len(ANGLES), 1, 1), pose, width, height)


def both(room: Room, cameras: Cameras, samples: int) -> tuple[Rendering, Rendering]:
    return render(room, cameras, samples, engine="torch"), render(room, cameras, samples, engine="numba")


def check_same(expected: Rendering, got: Rendering) -> None:
    for one, other in zip(vars(expected).values(), vars(got).values(), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype and other.is_contiguous()
    difference = (got.images - expected.images).abs()
    assert difference.mean() < 5e-5
    assert (difference.amax(-1) < 2 / 255).double().mean() >= 0.999
    assert ((got.depth - expected.depth).abs() <= 1e-5 * expected.depth).double().mean() >= 0.999
    assert (got.things == expected.things).double().mean() >= 0.999


@needs_numba
@pytest.mark.parametrize(("seed", "samples"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 4)])
def test_random_rooms(seed: int, samples: int):
    room = random_room(seed)
    check_same(*both(room, looking_around(viewpoint(room, seed), 60, 44), samples))


@needs_numba
@pytest.mark.parametrize("shape", SHAPES)
def test_every_texture_on_every_shape(shape: str):
    """Turned and glowing things of all textures, on the floor and in the air, around the camera and below the lamp."""
    size = (5.0, 2.6, 6.0)
    pieces = [Piece("walls", _closed(size))]
    for number, texture in enumerate(TEXTURES):
        turn = 2 * math.pi * number / len(TEXTURES)
        finish = Finish((0.8, 0.3, 0.2), (0.1, 0.4, 0.9), texture, 0.17 + 0.03 * number, glow=number % 2 * 0.3)
        x, z = math.sin(turn), math.cos(turn)
        hanging = Part(shape, (1.3 * x, -0.7 - 0.1 * number, 1.3 * z), (0.5, 0.4, 0.3), finish, turn + 0.3)
        standing = on(shape, 0.9 * x, 0.0, 0.9 * z, (0.3, 0.35, 0.3), finish)
        pieces.append(Piece(texture, [hanging, standing]))
    room = Room.of(size, pieces)
    level = ring(5, 90.0, 48, 40, 10.0, -15.0)
    cam_to_world = level.cam_to_world.clone()
    cam_to_world[:, :3, 3] = torch.tensor([0.05, -1.1, -0.1])
    expected, got = both(room, replace(level, cam_to_world=cam_to_world), 2)
    assert len(expected.things.unique()) == len(pieces)  # all are seen
    check_same(expected, got)


def _closed(size: tuple[float, float, float]) -> list[Part]:
    grey = Finish((0.6, 0.6, 0.6))
    width, height, length = size
    ends = [
        Part("box", (0, -height / 2, side * (length + 1) / 2), (width + 2, height + 2, 1), grey) for side in (-1, 1)
    ]
    sides = [Part("box", (side * (width + 1) / 2, -height / 2, 0), (1, height + 2, length), grey) for side in (-1, 1)]
    return [*ends, *sides, *(on("box", 0, bottom, 0, (width, 1, length), grey) for bottom in (-1, height))]


@needs_numba
@pytest.mark.parametrize(("width", "height", "samples"), [(1, 1, 2), (3, 40, 2), (37, 9, 3), (70, 67, 1), (5, 4, 19)])
def test_pictures_that_tiles_do_not_divide(width: int, height: int, samples: int):
    room = random_room(3)
    expected, got = both(room, looking_around(viewpoint(room, 0), width, height), samples)
    assert (got.depth - expected.depth).abs().max() < 1e-4 and torch.equal(got.things, expected.things)
    assert (got.images - expected.images).abs().mean() < 1e-4


@needs_numba
def test_what_lies_past_all_walls_is_infinitely_far_and_no_picture_breaks():
    """Fast arithmetic knows no infinity: a room with a wall left out must not reach it."""
    room = Room.of((4.0, 2.5, 4.0), [Piece("thing", [Part("box", (0, -1, 1.5), (1, 1, 0.5), Finish((1, 0, 0)))])])
    got = render(room, looking_around(torch.tensor([0.0, -1.0, -1.0]), 24, 20), 2, engine="numba")
    assert got.depth.isinf().any() and (got.depth > 0).all()
    assert got.images.isfinite().all() and got.images.min() >= 0 and got.images.max() <= 1


def test_the_engine_that_is_installed_and_fits_is_chosen(monkeypatch):
    cpu, installed = torch.device("cpu"), []
    monkeypatch.setattr(rendering.importlib.util, "find_spec", lambda name: name in installed or None)
    assert rendering._chosen("auto", cpu, 2) == "torch"
    installed.append("numba")
    assert rendering._chosen("auto", cpu, 2) == rendering._chosen("auto", cpu, traced.MOST_SAMPLES) == "numba"
    assert rendering._chosen("auto", cpu, traced.MOST_SAMPLES + 1) == "torch"
    assert rendering._chosen("auto", torch.device("cuda"), 2) == rendering._chosen("torch", cpu, 2) == "torch"


def test_the_chosen_engine_renders(monkeypatch):
    room = random_room(0)
    cameras = looking_around(viewpoint(room, 0), 4, 3)
    one = torch.zeros(1)
    monkeypatch.setattr(traced, "trace", lambda *_: (one, one, one))
    assert render(room, cameras, engine="numba").images is one
    assert render(room, cameras, engine="torch").images.shape == (4, 3, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"engine": "mental"}, "not by mental"), ({"engine": "numba", "samples": 20}, "up to 19 x 19 samples")],
)
def test_engines_that_cannot_are_refused(arguments: dict, message: str):
    room = random_room(0)
    with pytest.raises(ValueError, match=message):
        render(room, looking_around(viewpoint(room, 0), 4, 3), **arguments)


def test_numba_is_imported_when_it_renders_only():
    lines = "import sys, in_process; in_process.load_pack(); import mvdiffusion_pack.scenes.render; "
    code = lines + "sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts").returncode == 0


@needs_numba
def test_the_cache_of_compiled_code_knows_all_that_it_is_made_from():
    from mvdiffusion_pack.scenes.compiled import tiles

    (cell,) = tiles.trace.py_func.__closure__
    assert cell.cell_contents == ("mvdiffusion_pack.scenes.compiled.tiles", tiles._sources())
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "scenes" / "compiled").glob("*.py")]
    imported = re.findall(r"from \.\.(\w*) import (\w+)", "\n".join(sources))
    assert {module or name for module, name in imported} == set(tiles.READ)
