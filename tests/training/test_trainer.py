"""The training loop on a small UNet: it learns, resumes bit for bit, and stops as it should."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import stand_in
import torch
from stand_in import panoramas, trainer, weights

from mvdiffusion_pack.caa.weights.checkpoint import read_caa
from mvdiffusion_pack.caa.weights.kinds import PANORAMA
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.training.settings import Settings
from mvdiffusion_pack.training.state import SaveError, States
from mvdiffusion_pack.training.trainer import LossError, Watch


class Stopped(BaseException):
    pass


def stopping_after(steps: int) -> Watch:
    def after_step(progress) -> None:
        if progress.step == steps:
            raise Stopped

    return Watch(after_step=after_step)


def test_blocks_learn_from_zero_and_the_loss_falls(tmp_path):
    one = trainer(tmp_path, steps=60, learning_rate=3e-3)
    one.run()
    assert len(one.losses) == 60
    assert sum(one.losses[-15:]) < sum(one.losses[:15])


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"dtype": "fp16"}, {"accumulation": 2}])
def test_stopped_run_goes_on_bit_by_bit(tmp_path, changes):
    whole = trainer(tmp_path / "whole", **changes)
    whole.run()
    with pytest.raises(Stopped):
        trainer(tmp_path / "parts", watch=stopping_after(2), **changes).run()
    middle = trainer(tmp_path / "parts", watch=stopping_after(5), **changes)
    assert middle.step == 2
    with pytest.raises(Stopped):
        middle.run()
    last = trainer(tmp_path / "parts", **changes)
    last.run()
    assert last.losses == whole.losses
    assert torch.equal(weights(last), weights(whole))


def test_run_that_is_told_to_stop_saves_and_returns(tmp_path):
    one = trainer(tmp_path, watch=Watch(stopping=lambda: True))
    one.run()
    assert one.step == 1 and States(tmp_path).info()["step"] == 1


def test_finished_run_has_nothing_left_to_do_and_more_steps_go_on_from_it(tmp_path):
    trainer(tmp_path).run()
    again = trainer(tmp_path)
    before = weights(again)
    again.run()
    assert again.step == 6 and torch.equal(weights(again), before)
    longer = trainer(tmp_path, steps=8)
    longer.run()
    assert len(longer.losses) == 8


def test_passes_add_up_to_the_step_taken_at_once(tmp_path):
    at_once, in_passes = trainer(tmp_path / "a", batch=4), trainer(tmp_path / "b", batch=4, accumulation=4)
    at_once.run()
    in_passes.run()
    torch.testing.assert_close(weights(in_passes), weights(at_once), rtol=1e-3, atol=1e-5)
    assert in_passes.losses == pytest.approx(at_once.losses, rel=1e-4)


def test_saved_blocks_are_a_file_that_is_read_as_published_weights(tmp_path):
    one = trainer(tmp_path)
    one.run()
    saved = read_caa(States(tmp_path).newest() / "blocks.safetensors")
    assert saved.kind == PANORAMA and saved.widths == stand_in.WIDTHS
    for name, tensor in one.trained.items():
        assert torch.equal(saved.tensors[name], tensor)


def test_average_follows_the_weights(tmp_path):
    one = trainer(tmp_path, ema=0.5)
    assert torch.equal(weights(one), torch.cat([w.flatten() for w in one.learner.module.parameters()]))
    one.run()
    now = torch.cat([w.detach().flatten() for w in one.learner.module.parameters()])
    assert 0 < (weights(one) - now).abs().max() < 0.01
    seen = []
    one.watch = Watch(validate=lambda step: seen.append(next(one.learner.module.parameters()).detach().clone()))
    one.validate()
    assert torch.equal(seen[0], next(iter(one.trained.values())))


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    settings = Settings(steps=110, warm_up=10)
    rates = [settings.rate(step) for step in range(110)]
    assert rates[:10] == pytest.approx([2e-4 * i / 10 for i in range(1, 11)])
    assert rates[60] == pytest.approx((2e-4 + 1e-7) / 2)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert settings.rate(110) == pytest.approx(1e-7)


@pytest.mark.parametrize("validated", [3, 4])
def test_validation_comes_before_the_first_step_then_every_so_many_and_at_the_end(tmp_path, validated):
    steps = []
    trainer(tmp_path, watch=Watch(validate=steps.append), validate_every=validated).run()
    assert steps == [0, validated, 6]
    trainer(tmp_path, watch=Watch(validate=steps.append), validate_every=validated).run()
    assert steps == [0, validated, 6]


def test_loss_that_is_no_number_names_step_and_sample_and_keeps_the_last_state(tmp_path):
    def broken(number, generator):
        sample = good(number, generator)
        return replace(sample, name="bad.png", latents=sample.latents * torch.nan) if number == 7 else sample

    data = panoramas()
    good, data.sample = data.sample, broken
    with pytest.raises(LossError, match=r"loss of step 4 became NaN or infinite at bad\.png: .* step_00000002"):
        trainer(tmp_path, source=data, save_every=2).run()
    assert States(tmp_path).info()["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_gradients_that_are_no_numbers_stop_the_run_before_anything_is_learnt_from_them(tmp_path):
    one = trainer(tmp_path)
    one.run()
    one = trainer(tmp_path, steps=8)
    before = weights(one)
    weight = next(one.learner.module.parameters())
    weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(LossError, match="gradients of step 7"):
        one.run()
    assert torch.equal(weights(one), before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 1e-4}, "learning_rate was 0.001 and is 0.0001"),
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"batch": 4}, "batch was 2 and is 4"),
    ],
)
def test_resuming_with_another_configuration_is_refused_and_says_what_differs(tmp_path, changes, said):
    trainer(tmp_path).run()
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, **changes)


def test_resuming_with_other_data_is_refused(tmp_path):
    trainer(tmp_path).run()
    with pytest.raises(ValueError, match="panoramas was 3 and is 4"):
        trainer(tmp_path, source=panoramas(4))
    with pytest.raises(ValueError, match="yaws kept of each was 0 and is 2"):
        trainer(tmp_path, source=panoramas(yaws=2))


@pytest.mark.parametrize("content", ["", "{", json.dumps({"format": 99})])
def test_state_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, content):
    trainer(tmp_path).run()
    (States(tmp_path).newest() / "state.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read|another version"):
        trainer(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "cube"}, "kind is 'cube' and must be one of panorama, outpainting, depth"),
        ({"dtype": "fp8"}, "dtype is 'fp8'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must lie above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must lie above 0"),
        ({"least_rate": 1e-3}, "must not be above learning_rate"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1"),
        ({"batch": 3, "accumulation": 2}, "multiple of accumulation"),
        ({"max_norm": -1.0}, "max_norm must be at least 0"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Settings(**changes)


def test_place_that_takes_no_state_is_said_before_the_first_step(tmp_path):
    (tmp_path / "run").touch()
    one = trainer(tmp_path / "run")
    with pytest.raises(SaveError, match="no state can be saved"):
        one.run()
    assert one.step == 0


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:-100]), lambda path: path.unlink()]
)
def test_damaged_blocks_of_a_state_say_what_to_remove(tmp_path, damage):
    trainer(tmp_path).run()
    damage(States(tmp_path).newest() / "blocks.safetensors")
    with pytest.raises(InputError, match="saved blocks cannot be read") as raised:
        trainer(tmp_path, steps=9)
    assert raised.value.remedy == "remove_state"
