"""Captions name what is visible, and nothing else."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.scenes.captions import caption, captions_of
from mvdiffusion_pack.scenes.furniture import Finish, Piece, on
from mvdiffusion_pack.scenes.paths import walk
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import Room, random_room

NAMES = ("blue walls", "wooden floor", "ceiling", "red sofa", "orange chair", "orange chair", "bookshelf", "bookshelf")
ROOM = Room.of((4, 3, 4), [Piece(name, [on("box", 0, 0, 0, (1, 1, 1), Finish((1, 1, 1)))]) for name in NAMES])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({0: 60, 1: 20, 2: 5, 3: 10, 4: 5}, "a room with a red sofa and an orange chair, blue walls, wooden floor"),
        ({0: 50, 4: 20, 5: 10, 3: 15, 6: 5}, "a room with two orange chairs, a red sofa and a bookshelf, blue walls"),
        ({0: 50, 6: 20, 7: 30}, "a room with two bookshelves, blue walls"),
        ({0: 4, 1: 96}, "an empty part of a room, wooden floor"),
    ],
)
def test_words(shares: dict[int, int], expected: str):
    things = torch.cat([torch.full((count,), thing) for thing, count in shares.items()]).view(10, 10)
    assert caption(ROOM, things) == expected


def test_what_hardly_shows_is_not_named():
    things = torch.zeros(100, 100, dtype=torch.int64)
    things[0, :5] = 3
    assert "sofa" not in caption(ROOM, things)


def test_every_view_has_its_own_caption():
    things = torch.tensor([0, 3, 1]).view(3, 1, 1).expand(3, 4, 4)
    assert captions_of(ROOM, things) == [caption(ROOM, view) for view in things]
    assert len(set(captions_of(ROOM, things))) == 3


@pytest.mark.parametrize("seed", range(4))
def test_only_what_is_visible_is_named(seed: int):
    room = random_room(seed)
    for things in render(room, walk(room, seed, 3, 48, 36), 1).things:
        words, visible = caption(room, things), {room.names[thing] for thing in things.unique().tolist()}
        for name in set(room.names) - visible:
            assert f"a {name}" not in words and f"an {name}" not in words and f", {name}" not in words
