"""Depth sequences through the sampling nodes, with the demo model: windows, and the frames between key frames."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from wall import along_a_wall

pytestmark = pytest.mark.host
KEYFRAMES = (0, 3, 8)
SETTINGS = {"seed": 7, "steps": 2, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}


@pytest.fixture(scope="module")
def demo(comfy):
    demo = comfy_nodes.demo("depth")
    demo.cameras = along_a_wall(9, keyframes=KEYFRAMES)
    return demo


@pytest.fixture(scope="module")
def keyframes(demo) -> torch.Tensor:
    """(3, 4, 8, 8) the key frames' latents."""
    return demo.sample(cameras=demo.cameras.subset(KEYFRAMES))


def between(demo, keyframes, **changes) -> torch.Tensor:
    """What Interpolate Keyframes makes of all nine frames."""
    from mvdiffusion_pack.nodes.sampling import InterpolateKeyframes

    inputs = {
        "model": demo.model,
        "cameras": demo.cameras,
        "keyframes": {"samples": keyframes},
        "positive": demo.positive,
        "negative": demo.negative,
        **SETTINGS,
        "window": 6,
        "overlap": 2,
    }
    return InterpolateKeyframes.execute(**(inputs | changes)).args[0]["samples"]


@pytest.fixture(scope="module")
def whole(demo, keyframes) -> torch.Tensor:
    return between(demo, keyframes)


def test_key_frames_stay_as_they_are(whole, keyframes):
    assert torch.equal(whole[list(KEYFRAMES)], keyframes)


def test_all_other_frames_are_made(whole):
    assert torch.isfinite(whole).all()
    assert whole.flatten(1).std(1).min() > 0.1


def test_frames_follow_both_key_frames_beside_them_and_no_others(demo, keyframes, whole):
    changed = keyframes.clone()
    changed[0] += 1
    different = (between(demo, changed) != whole).flatten(1).any(1).nonzero().flatten().tolist()
    assert different == [0, 1, 2]
    changed = keyframes.clone()
    changed[1] += 1
    different = (between(demo, changed) != whole).flatten(1).any(1).nonzero().flatten().tolist()
    assert different == [1, 2, 3, 4, 5, 6, 7]


def test_gap_alone_is_a_run_over_its_own_cameras(demo, keyframes, monkeypatch):
    """The first gap by itself, where all frames have the same noise."""
    import comfy.sample

    from mvdiffusion_pack.geometry.posed import PosedViews

    one = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda latents, seed: one.repeat(len(latents), 1, 1, 1))
    few = demo.cameras.subset(range(4))
    few = PosedViews(few.intrinsics, few.cam_to_world, 64, 64, depth=few.depth, keyframes=(0, 3))
    assert torch.equal(between(demo, keyframes[:2], cameras=few), between(demo, keyframes)[:4])


def test_each_frame_has_noise_of_its_own(demo, keyframes, monkeypatch):
    """Key frames that with which they were sampled, where the seed is the same."""
    import comfy.sample
    import comfy.samplers

    seen = []
    original = comfy.samplers.KSampler.sample

    def remember(self, noise, *args, **kwargs):
        seen.append(noise.clone())
        return original(self, noise, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.KSampler, "sample", remember)
    between(demo, keyframes, window=0)
    (noise,) = seen  # of the frames 0 1 2 3, 3 4 5 6 7 8
    assert torch.equal(noise[[0, 3, 9]], comfy.sample.prepare_noise(torch.zeros(3, 4, 8, 8), SETTINGS["seed"]))
    assert torch.equal(noise[3], noise[4])
    assert len(noise.flatten(1).unique(dim=0)) == 9


def test_frames_farther_apart_than_a_window_take_anchors(demo, keyframes, whole):
    result = between(demo, keyframes, window=4)
    assert torch.equal(result[list(KEYFRAMES)], keyframes)
    assert torch.equal(result[:4], whole[:4])  # three apart: no anchor needed
    assert not torch.equal(result[4:8], whole[4:8])
    assert torch.isfinite(result).all() and result.flatten(1).std(1).min() > 0.1


def test_strength_decides(demo, keyframes, whole):
    from mvdiffusion_pack.host.begin import with_blocks
    from mvdiffusion_pack.host.setup import KEY

    weak = with_blocks(demo.model, demo.model.get_additional_models_with_key(KEY)[0], 0.0)
    assert not torch.equal(between(demo, keyframes, model=weak), whole)


def texts(demo, count: int) -> list:
    """A conditioning with that many different rows."""
    ((tensor, options),) = demo.positive
    rows = torch.randn((count, *tensor.shape[1:]), generator=torch.Generator().manual_seed(1))
    return [[rows, dict(options, pooled_output=torch.zeros((count, 8)))]]


def test_prompt_of_the_nearest_key_frame_serves_the_frames_between(demo, keyframes):
    per_key = texts(demo, 3)
    rows = per_key[0][0][[0, 0, 1, 1, 1, 1, 2, 2, 2]]
    per_frame = [[rows, {"pooled_output": torch.zeros((9, 8))}]]
    assert torch.equal(between(demo, keyframes, positive=per_key), between(demo, keyframes, positive=per_frame))


def test_one_progress_bar_over_all_stages(demo, keyframes, monkeypatch):
    import comfy.utils

    seen = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar,
        "update_absolute",
        lambda self, value, total=None, preview=None: seen.append((value, total)),
    )
    between(demo, keyframes, window=4)
    assert seen == [(step, 4) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("after", [1, 3])
def test_interrupt_is_heard_between_and_inside_windows(demo, keyframes, monkeypatch, after):
    import comfy.model_management as management

    from mvdiffusion_pack.host import run

    calls = []

    def counted(run, name, x):
        calls.append(name)
        if len(calls) == after:
            management.interrupt_current_processing()
        return original(run, name, x)

    original = run.Run.apply
    monkeypatch.setattr(run.Run, "apply", counted)
    with pytest.raises(management.InterruptProcessingException):
        between(demo, keyframes)
    assert len(calls) == after
    monkeypatch.undo()
    assert torch.isfinite(between(demo, keyframes)).all()


def test_windows_carry_one_latent_where_they_share_views(demo):
    """In each step the prediction of a shared view is the mean of those of its windows."""
    cameras = along_a_wall(6)
    predicted = []

    def remember(*args, **kwargs):
        predicted.append(predict_part(*args, **kwargs))
        return predicted[-1]

    predict_part = demo.model.model._apply_model
    demo.model.model._apply_model = remember
    try:
        one_step = demo.sample(cameras=cameras, window=4, overlap=2, steps=1, cfg=1.0)
    finally:
        del demo.model.model._apply_model
    first, second = predicted
    assert len(first) == len(second) == 4
    expected = torch.cat((first[:2], (first[2:] + second[:2]) / 2, second[2:]))
    torch.testing.assert_close(one_step, demo.model.model.process_latent_out(expected), rtol=0, atol=1e-5)
    assert not torch.allclose(first[2:], second[:2])


def test_window_of_all_views_is_no_window(demo):
    cameras = along_a_wall(4)
    assert torch.equal(demo.sample(cameras=cameras, window=4), demo.sample(cameras=cameras))


@pytest.mark.parametrize("size", [(192, 192), (320, 192)])
def test_sizes(demo, size):
    width, height = size
    latents = demo.sample(cameras=along_a_wall(2, width, height), steps=1)
    assert latents.shape == (2, 4, height // 8, width // 8)
    assert torch.isfinite(latents).all() and latents.flatten(1).std(1).min() > 0.1


def test_interrupt_is_heard_between_windows_without_blocks_too(demo, monkeypatch):
    import comfy.model_management as management

    calls, plain = [], demo.without_blocks
    original = plain.model._apply_model

    def interrupted(*args, **kwargs):
        calls.append(1)
        management.interrupt_current_processing()
        return original(*args, **kwargs)

    monkeypatch.setattr(plain.model, "_apply_model", interrupted)
    with pytest.raises(management.InterruptProcessingException):
        demo.sample(plain, cameras=along_a_wall(6), window=3, overlap=1, cfg=1.0)
    assert len(calls) == 1


def test_two_sequences_at_once_are_two_runs(demo):
    cameras = along_a_wall(3)
    both = demo.sample(cameras=cameras, panoramas=2)
    assert not torch.equal(both[:3], both[3:])
    torch.testing.assert_close(both[:3], demo.sample(cameras=cameras), rtol=0, atol=2e-4)


def test_depth_decides_what_is_made(demo):
    near, cameras = along_a_wall(3), along_a_wall(3)
    near.depth[:, :, 32:] = 1.0
    assert not torch.equal(demo.sample(cameras=near), demo.sample(cameras=cameras))
