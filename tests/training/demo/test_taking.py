"""Scenes that are trained together: written in chunks, found again, and seen as their cameras say."""

from __future__ import annotations

from random import Random

import pytest
import torch

from mvdiffusion_pack.geometry.layouts import sphere
from mvdiffusion_pack.scenes.captions import captions_of
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import random_room
from mvdiffusion_pack.scenes.viewpoints import panorama_cameras
from mvdiffusion_pack.training.demo import taking
from mvdiffusion_pack.training.demo.around import SORTS, Around, take_around
from mvdiffusion_pack.training.demo.taking import Eye, read_scenes, take_scenes
from mvdiffusion_pack.training.demo.text import Words
from mvdiffusion_pack.training.demo.walks import Walks, take_walk


class Mean:
    """In the place of an encoder: the mean colour of each 8 x 8 pixels, and a zero."""

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        return torch.cat((small, torch.zeros_like(small[:, :1])), 1)


def eye() -> Eye:
    return Eye(32, Mean(), Words([1, 2]), lambda text: [len(text) % 3] * 77)


def test_a_killed_run_goes_on_with_the_chunk_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(taking, "CHUNK", 2)
    taken, said = [], []

    def take(seed: int) -> dict:
        taken.append(seed)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return {"clean": torch.full((1,), float(seed)), "captions": [str(seed)]}

    with pytest.raises(KeyboardInterrupt):
        take_scenes(tmp_path, range(5, 10), take, said.append)
    take_scenes(tmp_path, range(5, 10), take, said.append)
    assert taken == [5, 6, 7, 8, 7, 8, 9]
    assert said == [2, 4, 5]
    read = read_scenes(tmp_path, "walks")
    assert read["clean"][:, 0].tolist() == [5, 6, 7, 8, 9]
    assert read["captions"] == [["5"], ["6"], ["7"], ["8"], ["9"]]


@pytest.mark.parametrize("stage", ["walks", *SORTS])
def test_an_empty_folder_names_the_stage_that_fills_it(tmp_path, stage):
    with pytest.raises(ValueError, match=f"run the stage '{stage}' first"):
        Walks.read(tmp_path) if stage == "walks" else Around.read(tmp_path, stage)


def test_a_sphere_shows_ceiling_above_and_floor_below(tmp_path):
    cameras = sphere(8, 90.0, 32, 32)
    taken = take_around(eye(), cameras, 0)
    assert taken["clean"].shape == (14, 4, 4, 4)
    up, down = taken["captions"][8:11], taken["captions"][11:]
    floor = random_room(0).names[1]
    assert not any(floor in caption for caption in up)
    assert all(floor in caption for caption in down)
    take_scenes(tmp_path, range(2), lambda seed: take_around(eye(), cameras, seed), lambda count: None)
    spheres = Around.read(tmp_path, "spheres")
    assert torch.equal(spheres.clean[0], taken["clean"])
    assert spheres.captions[0] == taken["captions"]
    assert spheres.rows.shape == (2, 14, 2, 77)


def test_a_walk_is_rendered_with_its_depth(tmp_path):
    take_scenes(tmp_path, range(3, 4), lambda seed: take_walk(eye(), seed), lambda count: None)
    walks = Walks.read(tmp_path)
    rendering = render(random_room(3), walks.cameras[0], 2)
    assert walks.captions[0] == captions_of(random_room(3), rendering.things)
    assert torch.equal(walks.cameras[0].depth, rendering.depth.half().float())
    assert walks.inputs.shape == (1, 8, 1, 4, 4)


def test_eyes_take_what_cameras_see():
    room = random_room(1)
    cameras = panorama_cameras(room, 1, 4, 90.0, 32, 32)
    kept, rendering = eye().take(room, cameras, Random(0))
    assert torch.equal(kept["clean"], Mean()(rendering.images.movedim(-1, 1) * 2 - 1).half())
    assert kept["captions"] == captions_of(room, rendering.things)
