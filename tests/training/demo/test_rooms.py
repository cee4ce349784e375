"""Rooms on disk: the same from the same seeds, complete or not there, interrupted at will."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.training.demo import rooms
from mvdiffusion_pack.training.demo.rooms import Rooms, render_rooms

SIZE = 16


def silent(number: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    render_rooms(folder, [5, 6], SIZE, silent)
    return folder


def test_views_of_a_room(folder):
    of = Rooms(folder, SIZE)
    assert of.pictures.shape == (2, rooms.VIEWS, SIZE, SIZE, 3)
    assert of.depth.shape == (2, rooms.VIEWS, SIZE, SIZE)
    assert [len(captions) for captions in of.captions] == [rooms.VIEWS] * 2
    assert of.pictures.std() > 10
    assert 0.1 < of.depth.min() < of.depth.max() < 10
    views = of.views([1, 0], [3, 4])
    assert views.shape == (2, 3, SIZE, SIZE)
    assert -1 <= views.min() < views.max() <= 1
    assert torch.equal(((views[1] + 1) * 127.5).round().byte().movedim(0, -1), torch.tensor(of.pictures[0, 4]))


def test_an_interrupted_run_goes_on(folder, tmp_path):
    render_rooms(tmp_path, [5], SIZE, silent)
    (tmp_path / "pictures.u8").open("ab").write(b"half a picture")
    (tmp_path / "rooms.jsonl").open("ab").write(b'{"seed": 6, "cap')
    assert len(Rooms(tmp_path, SIZE)) == 1
    numbers = []
    render_rooms(tmp_path, [5, 6], SIZE, numbers.append)
    assert numbers == [2]
    for name in ("pictures.u8", "depth.f16", "rooms.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_other_seeds_are_refused(folder):
    with pytest.raises(ValueError, match="other seeds"):
        render_rooms(folder, [6, 5], SIZE, silent)


def test_nothing_is_trained_on_what_is_held_out():
    assert rooms.FIRST_SEED > max(rooms.HELD_OUT)


def test_an_empty_folder_has_no_rooms(tmp_path):
    assert len(Rooms(tmp_path / "nothing", SIZE)) == 0
