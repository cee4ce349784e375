"""What outlives a sampling run: tables of cameras, and what was projected for them."""

from __future__ import annotations

import gc

import pytest
import torch
from published_files import frozen_weights

from mvdiffusion_pack.caa.attention import kept, tables
from mvdiffusion_pack.caa.attention.codes import frequencies
from mvdiffusion_pack.caa.attention.kept import Kept
from mvdiffusion_pack.caa.attention.memory import Memory
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.caa.blocks import PanoramaBlock
from mvdiffusion_pack.geometry.correspondence import panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring, sphere

MUCH, WIDTH, CPU = 2**40, 64, torch.device("cpu")
BANDS = frequencies(WIDTH, 2)
CAMERAS = {"projected": lambda: ring(4, 100, 64, 64), "unprojected": lambda: sphere(8, 90, 64, 64)}


@pytest.fixture
def block() -> PanoramaBlock:
    block = PanoramaBlock(WIDTH, torch.nn, torch.float32, None)
    block.load_state_dict(frozen_weights({key: tuple(value.shape) for key, value in block.state_dict().items()}, 1))
    return block


def run(store: Kept, cameras, block: PanoramaBlock, free: int = MUCH, memory: Memory | None = None) -> torch.Tensor:
    """One sampling run of one step."""
    x = torch.randn((1, cameras.views, WIDTH, 8, 8), generator=torch.manual_seed(1))
    with torch.inference_mode():
        result = block(x, store.tables(cameras, 8, 8, "auto", memory or Memory(), CPU), BANDS)
    store.rest(free)
    return result


@pytest.mark.parametrize("way", CAMERAS)
def test_a_second_run_over_the_same_cameras_makes_and_projects_nothing(way, block, monkeypatch):
    store, cameras = Kept(), CAMERAS[way]()
    first = run(store, cameras, block)
    monkeypatch.setattr(tables, "_codes", lambda *_, **__: pytest.fail("codes were made again"))
    monkeypatch.setattr(tables.Reads, "of", lambda *_: pytest.fail("reads were made again"))
    rows = []
    block.transformer.attn1.to_k.register_forward_hook(lambda layer, args, result: rows.append(args[0][..., 0].numel()))
    assert torch.equal(run(store, cameras, block), first)
    assert rows == [2, cameras.views * 64]  # a look whether the weights are the same, and the features


@pytest.mark.parametrize("way", CAMERAS)
@pytest.mark.parametrize("part", ["to_k", "to_v"])
def test_other_weights_are_noticed(way, part, block):
    store, cameras = Kept(), CAMERAS[way]()
    run(store, cameras, block)
    with torch.no_grad():
        getattr(block.transformer.attn1, part).weight[3, 5] += 0.5
    torch.testing.assert_close(run(store, cameras, block), run(Kept(), cameras, block), rtol=0, atol=0)


def test_what_was_kept_in_inference_mode_serves_runs_with_gradients(block):
    store, cameras = Kept(), CAMERAS["unprojected"]()
    run(store, cameras, block)
    x = torch.randn(1, cameras.views, WIDTH, 8, 8, requires_grad=True)
    block(x, store.tables(cameras, 8, 8, "auto", Memory(), CPU), BANDS).sum().backward()
    assert x.grad.isfinite().all()


def test_tables_go_with_their_cameras(block):
    store, cameras = Kept(), CAMERAS["projected"]()
    run(store, cameras, block)
    assert len(store._scenes) == 1
    del cameras
    gc.collect()
    assert not len(store._scenes)


def test_what_was_projected_goes_with_its_layers(block):
    store, cameras = Kept(), CAMERAS["projected"]()
    run(store, cameras, block)
    (made,) = store._scenes[cameras].values()
    assert len(made._of_layers) == 1
    del block.transformer
    gc.collect()
    assert not len(made._of_layers)


def test_the_last_runs_are_kept_as_far_as_the_allowance_goes(block, monkeypatch):
    store, before, last = Kept(), CAMERAS["projected"](), CAMERAS["projected"]()
    run(store, before, block)
    alone = sum(one.rest(MUCH) for one in store._scenes[before].values())
    monkeypatch.setattr(kept, "KEPT_BYTES", int(1.3 * alone))
    run(store, last, block)
    stays = [sum(one.rest(MUCH) for one in store._scenes[cameras].values()) for cameras in (before, last)]
    assert stays[1] == alone and sum(stays) <= 1.3 * alone


def test_where_memory_is_short_nothing_is_kept(block):
    store, cameras = Kept(), CAMERAS["projected"]()
    run(store, cameras, block, free=0)
    assert all(one.rest(MUCH) == 0 for one in store._scenes[cameras].values())


def test_what_is_there_counts_in_the_next_run(block):
    store, cameras, memory = Kept(), CAMERAS["projected"](), Memory()
    run(store, cameras, block)
    store.tables(cameras, 8, 8, "auto", memory, CPU)
    assert memory.code_bytes < Memory().code_bytes and memory.projected_bytes < Memory().projected_bytes


def test_a_run_that_was_short_of_memory_does_not_slow_down_the_next(block):
    store, cameras = Kept(), CAMERAS["projected"]()
    run(store, cameras, block, memory=Memory(projected_bytes=0))
    run(store, cameras, block)
    (made,) = store._scenes[cameras].values()
    assert [item for key, item in made._of_layers[block.transformer.attn1].items() if key[0] == "projected"] != [None]


def test_codes_beyond_a_cards_allowance_are_made_and_wait_in_ram(monkeypatch):
    monkeypatch.setattr(tables, "FLOAT64", ("cpu", "meta"))
    corr, like = panorama_correspondences(CAMERAS["projected"](), 8, 8), torch.zeros(1, WIDTH, device="meta")
    assert Tables(corr).codes(BANDS, like).device.type == "meta"
    assert Tables(corr, Memory(code_bytes=0)).codes(BANDS, like).device.type == "cpu"
    assert Tables(corr, Memory(code_bytes=0, waiting_bytes=0)).codes(BANDS, like).device.type == "cpu"


def test_codes_that_waited_count_in_ram_and_move_up_when_there_is_room(monkeypatch):
    monkeypatch.setattr(tables, "FLOAT64", ("cpu",))
    corr, like = panorama_correspondences(CAMERAS["projected"](), 8, 8), torch.zeros(1, WIDTH, device="meta")
    made, memory = Tables(corr, Memory(code_bytes=0), sampling=True), Memory()
    size = made.codes(BANDS, like).nbytes
    made.begin(memory, like.device)
    assert (memory.code_bytes, memory.waiting_bytes) == (Memory().code_bytes, Memory().waiting_bytes - size)
    assert made.codes(BANDS, like).device.type == "meta"
    assert memory.code_bytes == Memory().code_bytes - size


def test_what_else_follows_from_cameras_is_made_once_and_given_back():
    store, cameras, made = Kept(), CAMERAS["projected"](), []
    for free in (MUCH, 0, 0):
        store.made(cameras, ("weights",), lambda: made.append(torch.ones(8)) or made[-1])
        store.rest(free)
    assert len(made) == 2  # kept once, then given back
