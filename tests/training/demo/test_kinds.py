"""What the UNet is fed besides noise, by kind, and how rooms become that."""

from __future__ import annotations

from copy import copy

import pytest
import torch
from torch import nn

from mvdiffusion_pack.geometry.depth import inverse_depth
from mvdiffusion_pack.training.demo import latents
from mvdiffusion_pack.training.demo.kinds import CHANNELS, SHARES, draw_kind, draw_views, extra_channels
from mvdiffusion_pack.training.demo.latents import Latents, encode_rooms
from mvdiffusion_pack.training.demo.rooms import Rooms, render_rooms
from mvdiffusion_pack.training.demo.text import Words

SIZE, GREY = 32, torch.full((4, 4, 4), 0.25)


def block_means(pictures: torch.Tensor) -> torch.Tensor:
    """In an encoder's stead: the mean colours of 8 x 8 blocks, and their brightness."""
    means = nn.functional.avg_pool2d(pictures, 8)
    return torch.cat((means, means.mean(1, keepdim=True)), 1)


def tokenize(text: str) -> list[int]:
    tokens = [49406, *(1000 + sum(map(ord, word)) for word in text.replace(",", "").split()), 49407]
    return tokens + [0] * (77 - len(tokens))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    render_rooms(folder, [5, 6, 7], SIZE, lambda number: None)
    return Rooms(folder, SIZE)


@pytest.fixture(scope="module")
def data(rooms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    encode_rooms(folder, rooms, block_means, latents.all_words(rooms, tokenize), tokenize, lambda number: None)
    return Latents.read(folder)


def test_rooms_become_latents(rooms, data):
    assert data.clean.shape == (3, 16, 4, 4, 4)
    expected = block_means(rooms.views([1], [9]))[0]
    assert torch.allclose(data.clean[1, 9].float(), expected, atol=2e-3)
    depth = inverse_depth(torch.tensor(rooms.depth[2]).float(), 4, 4)
    assert torch.allclose(data.depth[2].float(), depth, atol=2e-3)
    assert -1.001 <= data.depth.min() < data.depth.max() <= 1.001
    words = latents.all_words(rooms, tokenize)
    assert data.rows[0, 3, 0].tolist() == words.rows(tokenize(rooms.captions[0][3]))
    assert (data.rows >= 1).all()


def test_partly_masked_views(rooms, data):
    assert data.partial_views.diff(dim=1).eq(4).all()
    assert data.masks.float().mean((2, 3)).unique().numel() > 3
    for room in range(3):
        for place, view in enumerate(data.partial_views[room].tolist()):
            # Blocks without any masked pixel show the view, the others more or less grey.
            same = (data.partial[room, place] == data.clean[room, view]).all(0)
            assert not same[data.masks[room, place] == 1].all() or (data.masks[room, place] == 0).all()


def test_chunks_that_are_there_are_kept(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "CHUNK", 2)
    words, said = Words([]), []
    encode_rooms(tmp_path, rooms, block_means, words, tokenize, said.append)
    assert said == [2, 3]
    before = Latents.read(tmp_path)
    (tmp_path / "000002-000003.pt").unlink()
    encode_rooms(tmp_path, rooms, block_means, words, tokenize, said.append)
    assert said == [2, 3, 3]
    assert all(torch.equal(a, b) for a, b in zip(before, Latents.read(tmp_path), strict=True))


def test_rooms_may_become_more(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "CHUNK", 2)
    fewer, words = copy(rooms), Words([])
    fewer.captions = rooms.captions[:1]
    for of in (fewer, rooms):
        encode_rooms(tmp_path, of, block_means, words, tokenize, lambda number: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000-000002.pt", "000002-000003.pt"]


def test_no_latents_are_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="stage 'latents'"):
        Latents.read(tmp_path)


@pytest.mark.parametrize("kind", CHANNELS)
def test_channels_of_a_kind(data, kind: str):
    random = torch.Generator().manual_seed(0)
    chosen, views = draw_views(300, data, kind, random)
    extra = extra_channels(kind, data, GREY, chosen, views, random)
    assert extra.shape == (300, CHANNELS[kind] - 4, 4, 4)
    if kind == "depth":
        assert torch.equal(extra[7, 0], data.depth[chosen[7], views[7]].float())


def test_outpainting_is_given_all_nothing_or_a_part(data):
    random = torch.Generator().manual_seed(0)
    chosen, views = draw_views(2000, data, "outpainting", random)
    mask, given = extra_channels("outpainting", data, GREY, chosen, views, random).split([1, 4], 1)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    nothing = (given == GREY).flatten(1).all(1)
    assert (mask[nothing] == 1).all()
    whole = (given == data.clean[chosen, views].float()).flatten(1).all(1) & (mask == 0).flatten(1).all(1)
    partly = ~nothing & ~whole
    assert 0.25 < nothing.float().mean() < 0.45
    assert whole.float().mean() > 0.3
    assert 0.1 < partly.float().mean() < 0.4
    assert 0.1 < mask[partly].mean() < 0.9


def test_kinds_are_drawn_by_their_shares():
    random = torch.Generator().manual_seed(0)
    drawn = [draw_kind(random) for _ in range(3000)]
    for kind, share in SHARES.items():
        assert abs(drawn.count(kind) / 3000 - share) < 0.03
