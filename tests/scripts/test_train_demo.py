"""The door of the demo model's trainer: what it refuses, and in which order stages run."""

from __future__ import annotations

import pytest
import torch
import train_demo
from environment import SetUpError

from mvdiffusion_pack.training.demo import stages
from mvdiffusion_pack.training.demo.around import SORTS
from mvdiffusion_pack.training.demo.context import SIZE, Context
from mvdiffusion_pack.training.demo.machine import Machine

pytestmark = [pytest.mark.host, pytest.mark.once]


@pytest.fixture
def ran(comfy, monkeypatch, tmp_path):
    """`ran(*arguments)`: the contexts that stages were called with, by their names."""
    called = {}
    for name in stages.STAGES:
        monkeypatch.setitem(stages.STAGES, name, lambda context, name=name: called.update({name: context}))

    def ran(*arguments: str) -> dict[str, Context]:
        monkeypatch.setattr("sys.argv", ["train_demo.py", "--state", str(tmp_path), *arguments])
        train_demo._run(train_demo._arguments())
        return called

    threads = torch.get_num_threads()
    yield ran
    torch.set_num_threads(threads)


def test_stages_run_in_their_order(ran, monkeypatch):
    monkeypatch.setattr("mvdiffusion_pack.training.demo.export.export", lambda context: None)
    called = ran("--hours", "1")
    scenes = ["walks", "spheres", "fine"]
    assert list(called) == ["rooms", "autoencoder", "latents", "unet", *scenes, "together", "decoder"]
    assert called["rooms"].seconds == 0
    assert sum(context.seconds for context in called.values()) == pytest.approx(3600)


def test_one_stage_has_all_the_time(ran):
    called = ran("unet", "--hours", "0.5", "--rooms", "7")
    assert list(called) == ["unet"]
    assert called["unet"].seconds == 1800
    assert called["unet"].rooms[SIZE] == 7


def test_an_unknown_stage_is_refused(ran):
    with pytest.raises(SetUpError, match="no stage 'unets': the stages are rooms,"):
        ran("unets")


def test_what_a_stage_will_take(tmp_path):
    slow = Machine(torch.device("cpu"), torch.float32, "old")
    quick = Machine(torch.device("cpu"), torch.bfloat16, "new")
    minutes = [
        float(stages.estimate("unet", Context(tmp_path, machine, None, {SIZE: 1}, steps=600)).split()[3])
        for machine in (quick, slow)
    ]
    assert minutes[1] == pytest.approx(8 * minutes[0], rel=0.1)
    assert stages.estimate("rooms", Context(tmp_path, slow, None, {SIZE: 1200})) == "1200 rooms, about 1 min in all"
    assert stages.estimate("export", Context(tmp_path, slow, None, {})) == ""


@pytest.mark.parametrize(
    ("stage", "said"), [("walks", f"{stages.WALKS} walks, "), ("fine", f"{SORTS['fine'].rooms} rooms, ")]
)
def test_scenes_are_counted_apart_from_rooms(tmp_path, stage, said):
    machine = Machine(torch.device("cpu"), torch.bfloat16, "new")
    assert stages.estimate(stage, Context(tmp_path, machine, None, {SIZE: 1})).startswith(said)
