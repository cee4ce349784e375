"""Trainings that are interrupted end like those that are not, bit by bit; what is saved is whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvdiffusion_pack.training.demo import files, loop
from mvdiffusion_pack.training.demo.loop import Pace, train
from mvdiffusion_pack.training.demo.optimiser import LEAST, Optimiser, cosine, load_mean, orthogonal


class Line:
    """A bf16 layer that learns the sum of its inputs; `stop` interrupts it before that step."""

    def __init__(self, stop: int | None = None) -> None:
        self.module = nn.Linear(4, 1).bfloat16()
        with torch.no_grad():
            self.module.weight.fill_(0.3)
            self.module.bias.zero_()
        self.optimiser = Optimiser(self.module.parameters(), 0.01, 0.9)
        self.stop, self.looked = stop, []

    def loss(self, random: torch.Generator, step: int) -> torch.Tensor:
        if step == self.stop:
            raise KeyboardInterrupt
        x = torch.randn(8, 4, generator=random)
        return (self.module(x.bfloat16())[:, 0].float() - x.sum(1)).square().mean()

    def look(self, step: int) -> str:
        self.looked.append((step, self.module.weight.detach().clone()))
        return "figures"


def test_resumed_runs_go_on_bit_by_bit(tmp_path):
    whole, first, second = Line(), Line(stop=3), Line()
    train(whole, tmp_path / "whole.pt", Pace(8, 2), seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(first, tmp_path / "parts.pt", Pace(8, 2), seed=1)
    assert first.optimiser.steps == 3
    train(second, tmp_path / "parts.pt", Pace(100, 2), seed=99)
    assert second.optimiser.steps == 8
    for one, other in zip(whole.optimiser.masters, second.optimiser.masters, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.optimiser.mean, second.optimiser.mean, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.module.weight, second.module.weight)


def test_a_finished_training_does_nothing(tmp_path):
    train(Line(), tmp_path / "line.pt", Pace(4, 1), seed=1)
    before = (tmp_path / "line.pt").read_bytes()
    again = Line()
    train(again, tmp_path / "line.pt", Pace(4, 1), seed=1)
    assert again.looked == []
    assert (tmp_path / "line.pt").read_bytes() == before


def test_a_further_part_begins_at_a_lower_rate_and_falls(tmp_path, monkeypatch):
    rates = []
    for steps, stop in ((4, None), (20, 12), (20, None)):  # the second part is interrupted, and goes on
        task = Line(stop)
        step = task.optimiser.step
        monkeypatch.setattr(task.optimiser, "step", lambda rate, step=step: (rates.append(rate), step(rate))[1])
        try:
            train(task, tmp_path / "line.pt", Pace(100, 1, asked=steps), seed=1)
        except KeyboardInterrupt:
            assert stop == 12
    assert len(rates) == 20
    assert rates[:4] == [cosine(step, 4, 1) for step in range(4)]
    assert rates[4:] == [loop.AGAIN * cosine(step, 16, 1) for step in range(16)]


def test_time_becomes_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TIMED", 3)
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)
    task = Line()
    train(task, tmp_path / "line.pt", Pace(5000, 1, seconds=100, save_every=1e9, look_every=1e9, say_every=1e9), seed=1)
    assert 3 < task.optimiser.steps < 100
    assert files.load(tmp_path / "line.pt")["steps"] == task.optimiser.steps


def test_looks_are_at_the_running_mean(tmp_path):
    task = Line()
    train(task, tmp_path / "line.pt", Pace(5, 1), seed=1)
    ((step, weight),) = task.looked
    assert step == 5
    assert torch.equal(weight, task.optimiser.mean[0].bfloat16())
    assert torch.equal(task.module.weight, task.optimiser.masters[0].bfloat16())
    loaded = nn.Linear(4, 1)
    load_mean(list(loaded.parameters()), files.load(tmp_path / "line.pt")["optimiser"])
    assert torch.equal(loaded.weight, task.optimiser.mean[0])


def test_small_updates_add_up():
    module = nn.Linear(1, 1).bfloat16()
    nn.init.ones_(module.weight)
    optimiser = Optimiser(module.parameters(), 1e-4, 0.9)
    for _ in range(100):
        module.weight.grad, module.bias.grad = torch.ones_like(module.weight), torch.zeros_like(module.bias)
        optimiser.step(1.0)
    # bf16 alone has nothing between 1 and 0.996.
    assert optimiser.masters[0].item() == pytest.approx(0.99, abs=2e-4)
    assert module.weight.item() == pytest.approx(0.99, abs=4e-3)


@pytest.mark.parametrize("shape", [(3, 20, 60), (2, 60, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_of_matrices_have_singular_values_near_one(shape: tuple[int, ...], dtype: torch.dtype):
    torch.manual_seed(0)
    turned = orthogonal(torch.randn(shape).to(dtype))
    assert turned.shape == shape
    values = torch.linalg.svdvals(turned.float())
    assert 0.5 < values.min() < values.max() < 1.3


def test_matrices_learn_by_muon_and_all_else_by_adamw():
    module = nn.Sequential(nn.Embedding(20, 32), nn.Linear(32, 32), nn.Linear(32, 3))
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimiser = Optimiser(list(module.parameters()), 0.01, 0.9, tables=[module[0].weight])
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step(1.0)
    table, matrix, bias, narrow, _ = (now - old for now, old in zip(module.parameters(), before, strict=True))
    for adams in (table, bias, narrow):
        assert torch.allclose(adams.abs(), torch.tensor(0.01), rtol=1e-3)
    values = torch.linalg.svdvals(matrix.detach()) / (0.01 * 0.2 * 32**0.5)
    assert 0.7 < values.median() < values.max() < 1.3  # the least of a square matrix may stay small


def test_gradients_that_are_not_finite_change_nothing():
    task = Line()
    task.module.weight.grad = torch.full_like(task.module.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        task.optimiser.step(1.0)
    assert (task.optimiser.masters[0] == torch.tensor(0.3).bfloat16().float()).all()


def test_the_rate_rises_and_falls():
    rates = [cosine(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[100] == pytest.approx(LEAST)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_a_failing_save_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    files.save(path, {"a": torch.ones(2)})

    def fail(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(files.torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        files.save(path, {"a": torch.zeros(2)})
    assert torch.equal(files.load(path)["a"], torch.ones(2))
    assert files.load(tmp_path / "nothing.pt") is None
