"""Masks and ControlNets' hints per frame reach the right frames of Interpolate Keyframes."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from controls import control_net
from wall import along_a_wall

pytestmark = pytest.mark.host
FRAMES, KEYFRAMES = 9, (0, 3, 8)


@pytest.fixture(scope="module")
def demo(comfy):
    """The demo model with blocks at strength 0: nothing joins the frames but what they are given."""
    from mvdiffusion_pack.host.begin import with_blocks
    from mvdiffusion_pack.host.setup import KEY

    demo = comfy_nodes.demo("depth")
    demo.model = with_blocks(demo.model, demo.model.get_additional_models_with_key(KEY)[0], 0.0)
    demo.cameras = along_a_wall(FRAMES, keyframes=KEYFRAMES)
    return demo


@pytest.fixture(scope="module")
def control(demo):
    return control_net(demo.model)


def between(demo, positive: list) -> torch.Tensor:
    from mvdiffusion_pack.nodes.sampling import InterpolateKeyframes

    settings = {"seed": 7, "steps": 1, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
    keyframes = torch.randn((len(KEYFRAMES), 4, 8, 8), generator=torch.Generator().manual_seed(8))
    return InterpolateKeyframes.execute(
        demo.model, demo.cameras, {"samples": keyframes}, positive, demo.negative, **settings, window=4
    ).args[0]["samples"]


def changed_frames(a: torch.Tensor, b: torch.Tensor) -> list[int]:
    return (a != b).flatten(1).any(1).nonzero().flatten().tolist()


@pytest.mark.parametrize("chained", [False, True], ids=["one ControlNet", "behind another"])
def test_hint_of_a_frame_reaches_that_frame_and_no_other(demo, control, chained):
    hints = torch.rand((FRAMES, 64, 64, 3), generator=torch.Generator().manual_seed(5))

    def result(hints: torch.Tensor) -> torch.Tensor:
        positive = comfy_nodes.with_control(demo.positive, control, hints)
        return between(demo, comfy_nodes.with_control(positive, control, hints[:1]) if chained else positive)

    expected = result(hints)
    for frame in (1, 2, 7):  # no anchors: these follow nothing but their own hint
        changed = hints.clone()
        changed[frame] = 1 - changed[frame]
        assert changed_frames(result(changed), expected) == [frame]


def test_hints_of_key_frames_serve_the_frames_nearest_to_them(demo, control):
    hints = torch.rand((3, 64, 64, 3), generator=torch.Generator().manual_seed(5))
    per_key, per_frame = (
        between(demo, comfy_nodes.with_control(demo.positive, control, some))
        for some in (hints, hints[[0, 0, 1, 1, 1, 1, 2, 2, 2]])
    )
    assert torch.equal(per_key, per_frame)


def test_mask_of_a_frame_reaches_that_frame_and_no_other(demo):
    (text, options) = demo.positive[0]

    def result(masks: torch.Tensor) -> torch.Tensor:
        return between(demo, [[text, options | {"mask": masks, "mask_strength": 1.0}], [-3 * text, {}]])

    masks = torch.full((FRAMES, 64, 64), 0.5)
    expected = result(masks)
    for frame in (1, 7):
        changed = masks.clone()
        changed[frame] = 0.1
        assert changed_frames(result(changed), expected) == [frame]


@pytest.mark.parametrize("what", ["masks", "ControlNet hints"])
def test_rows_for_neither_frames_nor_key_frames_are_refused(demo, control, what):
    (text, options) = demo.positive[0]
    masked = [[text, options | {"mask": torch.ones(4, 64, 64), "mask_strength": 1.0}]]
    hinted = comfy_nodes.with_control(demo.positive, control, torch.rand(4, 64, 64, 3))
    with pytest.raises(ValueError, match=f"Interpolate Keyframes: the positive conditioning holds 4 {what}"):
        between(demo, masked if what == "masks" else hinted)


@pytest.mark.parametrize(("controlled", "views"), [(False, 3), (True, 6)])
def test_room_is_made_for_a_window_or_where_a_controlnet_sees_them_all_for_all_views(
    demo, control, monkeypatch, controlled, views
):
    import comfy.sampler_helpers

    shapes = []
    original = comfy.sampler_helpers._prepare_sampling

    def remembered(model, noise_shape, *args, **kwargs):
        shapes.append(tuple(noise_shape))
        return original(model, noise_shape, *args, **kwargs)

    monkeypatch.setattr(comfy.sampler_helpers, "_prepare_sampling", remembered)
    hinted = comfy_nodes.with_control(demo.positive, control, torch.rand(1, 64, 64, 3))
    positive = hinted if controlled else demo.positive
    demo.sample(cameras=along_a_wall(6), positive=positive, window=3, overlap=1, steps=1)
    assert shapes == [(views, 4, 8, 8)]
