"""UNet, text and blocks learn together in the host's classes: what a scene of each kind is, and that all learn."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.scenes.paths import walk
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import random_room
from mvdiffusion_pack.training.demo import config, diffusion, together
from mvdiffusion_pack.training.demo.around import SORT_SHARES, SORTS, Around
from mvdiffusion_pack.training.demo.context import Context
from mvdiffusion_pack.training.demo.fresh import fresh
from mvdiffusion_pack.training.demo.latents import Latents
from mvdiffusion_pack.training.demo.machine import this_machine
from mvdiffusion_pack.training.demo.parts import begun_blocks
from mvdiffusion_pack.training.demo.text import TextEncoder, Words
from mvdiffusion_pack.training.demo.together import VIEWS, Together
from mvdiffusion_pack.training.demo.unet import Shared
from mvdiffusion_pack.training.demo.walks import Walks

pytestmark = [pytest.mark.host, pytest.mark.once]

SMALL = {**config.UNET, "model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": [1, 1]}
SMALL |= {"transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
WORDS = Words([500, 600])
ROOMS, SCENES = 3, 2


def rings() -> Latents:
    """Every latent of a view holds the number of the view."""
    random = torch.Generator().manual_seed(0)
    clean = torch.arange(16.0)[None, :, None, None, None].expand(ROOMS, 16, 4, 8, 8)
    return Latents(
        clean.half(),
        torch.rand(ROOMS, 16, 8, 8, generator=random).half(),
        torch.full((ROOMS, 4, 4, 8, 8), 77.0).half(),
        torch.ones(ROOMS, 4, 8, 8, dtype=torch.uint8),
        torch.tensor([[0, 4, 8, 12]] * ROOMS),
        torch.randint(len(WORDS), (ROOMS, 16, 2, 77), generator=random).short(),
    )


def walks() -> Walks:
    random, cameras = torch.Generator().manual_seed(1), []
    for seed in range(SCENES):
        room = random_room(seed)
        path = walk(room, seed, VIEWS, 64, 64)
        depth = render(room, path, 1).depth
        cameras.append(PosedViews(path.intrinsics, path.cam_to_world, 64, 64, depth=depth))
    rows = torch.randint(len(WORDS), (SCENES, VIEWS, 2, 77), generator=random).short()
    clean = torch.randn(SCENES, VIEWS, 4, 8, 8, generator=random).half()
    inputs = torch.stack([one.own_inputs(8, 8) for one in cameras])
    return Walks(clean, inputs, rows, cameras, [["a room"] * VIEWS] * SCENES)


def around() -> dict[str, Around]:
    """Every latent of a view holds the number of the view; every token tells a whole caption from a shortened one."""
    made = {}
    for name, sort in SORTS.items():
        views, side = sort.cameras.views, sort.cameras.width // 8
        clean = torch.arange(float(views))[None, :, None, None, None].expand(ROOMS, views, 4, side, side)
        rows = torch.arange(2)[None, None, :, None].expand(ROOMS, views, 2, 77)
        made[name] = Around(clean.half(), rows.short(), [["a room"] * views] * ROOMS)
    return made


@pytest.fixture
def task(comfy, monkeypatch, tmp_path) -> Together:
    import host_modules

    monkeypatch.setattr(together, "SCENES", SCENES)
    host = host_modules.HostModules()
    torch.manual_seed(0)
    shared = Shared(fresh(host.unet(SMALL), 1))
    # The host's last layer begins at zero, and then nothing before it learns.
    with torch.no_grad():
        for parameter in shared.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    machine = this_machine()
    taken = walks()
    return Together(
        shared,
        TextEncoder(len(WORDS), **config.TEXT),
        WORDS,
        machine,
        rings(),
        held_out=rings(),
        grey=torch.full((4, 8, 8), -1.0),
        empty=[1] * 77,
        captions=[["a room"] * 16] * ROOMS,
        blocks=begun_blocks(Context(tmp_path, machine, host, {}), shared.body),
        options=host.options,
        walks=taken,
        held_out_walks=taken,
        around=around(),
        held_out_around=around(),
        decode=lambda latents: latents,
        sheet=lambda *given: None,
    )


def test_a_ring_is_every_second_view_from_any_on(task):
    scenes = task.rings("panorama", task.data, torch.tensor([0, 2]), torch.tensor([0, 13]))
    assert scenes.clean[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 13, 15, 1, 3, 5, 7, 9, 11]
    assert scenes.extra.shape[1] == 0


def test_outpainting_is_given_view_0_and_beside_it_what_is_there_of_masked_ones(task):
    beside = torch.tensor([False, True])
    scenes = task.rings("outpainting", task.data, torch.tensor([0, 0]), torch.tensor([2, 2]), beside=beside)
    mask, given = scenes.extra[:, 0, 0, 0], scenes.extra[:, 1, 0, 0]
    assert mask.tolist() == [0, *[1] * 7] * 2
    assert given.tolist() == [2, *[-1] * 7, 2, 77, -1, 77, -1, 77, -1, 77]


def test_of_a_walk_both_ends_are_known_or_none(task):
    scenes = task.walked(task.walks, [1, 0], [True, False])
    assert scenes.condition[1] is None
    assert scenes.condition[0][:, 4].amax((1, 2)).tolist() == [1, *[0] * 6, 1]
    torch.testing.assert_close(scenes.condition[0][7, :4], task.walks.clean[1, 7].float())


@pytest.mark.parametrize(("sort", "views"), [("spheres", 14), ("fine", 8)])
def test_a_scene_around_is_all_its_views_and_either_caption(task, sort, views):
    scenes = task.scenes_around(sort, task.around[sort], torch.tensor([2, 0]), torch.tensor([False, True]))
    assert scenes.clean[:, 0, 0, 0].tolist() == [*range(views)] * 2
    assert scenes.rows[:, 0].tolist() == [0] * views + [1] * views
    assert [geometry.cameras.views for geometry in scenes.geometry] == [views, views]


def test_panoramas_are_of_all_sorts_by_their_shares():
    random = torch.Generator().manual_seed(0)
    drawn = [together.drawn_by_shares(SORT_SHARES, random) for _ in range(2000)]
    for sort, of in SORTS.items():
        assert drawn.count(sort) / 2000 == pytest.approx(of.share, abs=0.03)
    assert set(drawn) == {None, *SORTS}


@pytest.mark.parametrize("sort", [None, *SORTS])
def test_a_scenes_views_lose_their_captions_together(task, monkeypatch, sort):
    monkeypatch.setattr(together, "drawn_by_shares", lambda shares, random: sort)
    monkeypatch.setattr(together, "WITHOUT_CAPTION", 1.0)
    scenes = task.drawn_scenes("panorama", torch.Generator().manual_seed(0))
    assert (scenes.rows == task.empty.cpu()).all()
    assert len(scenes.rows) == len(scenes.clean)


@pytest.mark.parametrize("sort", SORTS)
def test_noise_is_drawn_below_the_timestep_of_the_sort(task, monkeypatch, sort):
    seen = []
    monkeypatch.setattr(diffusion, "noisy", lambda clean, noise, timesteps: (seen.append(timesteps), noise)[1])
    count = SORTS[sort].at_once
    scenes = task.scenes_around(sort, task.around[sort], torch.zeros(count).long(), torch.zeros(count).bool())
    with torch.no_grad():
        for seed in range(4):
            task._error("panorama", scenes, torch.Generator().manual_seed(seed), with_blocks=False)
    drawn = torch.cat(seen)
    assert 0.5 * SORTS[sort].timesteps < drawn.max() < SORTS[sort].timesteps
    assert all(len(set(part.tolist())) == 1 for part in drawn.split(SORTS[sort].cameras.views))


@pytest.mark.parametrize("kind", ["panorama", "outpainting", "depth"])
def test_unet_text_and_blocks_of_the_kind_learn(task, kind):
    random = torch.Generator().manual_seed(0)
    task._error(kind, task.drawn_scenes(kind, random), random, with_blocks=True).backward()
    learning = {name for name, caa in task.blocks.items() if any(p.grad is not None for p in caa.parameters())}
    assert learning == ({"depth"} if kind == "depth" else {"panorama", "outpainting"})
    for module in (task.shared.body, task.text, task.blocks[kind]):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_new_blocks_change_nothing(task):
    scenes = task.rings("panorama", task.data, torch.tensor([0]), torch.tensor([0]))
    with torch.no_grad():
        losses = [
            task._error("panorama", scenes, torch.Generator().manual_seed(0), with_blocks=on).item() for on in (1, 0)
        ]
    assert losses[0] == losses[1]
