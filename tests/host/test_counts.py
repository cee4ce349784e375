"""Everything that conditionings hold for each view is counted before sampling, and has the views' proportions."""

from __future__ import annotations

from types import SimpleNamespace

import comfy_nodes
import pytest
import torch
from controls import control_lora, control_net, t2i_adapter
from wall import along_a_wall

pytestmark = pytest.mark.host

VIEWS = 4
WRONG = (2, 3, 5, 6, 8)
CONTROLS = {"ControlNet": control_net, "Control-LoRA": control_lora, "T2I-Adapter": t2i_adapter}


def pictures(count: int, width: int = 64, height: int = 64) -> torch.Tensor:
    return torch.rand((count, height, width, 3), generator=torch.Generator().manual_seed(5))


def masks(count: int, width: int = 64, height: int = 64) -> torch.Tensor:
    return pictures(count, width, height)[..., 0]


def masked(conditioning: list, mask: torch.Tensor) -> list:
    import nodes

    return nodes.ConditioningSetMask().append(conditioning, mask, "default", 1.0)[0]


def with_values(conditioning: list, **values) -> list:
    return [[text, options | values] for text, options in conditioning]


@pytest.fixture(params=CONTROLS)
def hinted(request, demo):
    """`hinted(hints)`: the positive conditioning with a control of each class."""
    control = CONTROLS[request.param](demo.model)
    return lambda hints: comfy_nodes.with_control(demo.positive, control, hints)


@pytest.mark.parametrize("count", WRONG)
def test_hints_that_are_neither_one_nor_one_per_view(hinted, refused, count):
    match = rf"positive conditioning holds {count} hints \(Apply ControlNet\), and 4 cameras need 1 or 4: cut .* with "
    refused(match + "Equirect to Views", positive=hinted(pictures(count)))


def test_hints_of_a_control_before_another(demo, hinted, refused):
    chained = comfy_nodes.with_control(hinted(pictures(3)), control_net(demo.model), pictures(4))
    refused("positive conditioning holds 3 hints", positive=chained)


def test_hints_of_the_negative_conditioning(demo, refused):
    refused(
        "negative .* 3 hints", negative=comfy_nodes.with_control(demo.negative, control_net(demo.model), pictures(3))
    )


def test_hints_of_several_panoramas(hinted, refused):
    refused("holds 12 hints .* need 1 or 4 or 8", positive=hinted(pictures(12)), panoramas=2)


@pytest.mark.parametrize("count", [1, 4])
def test_panorama_as_a_hint(hinted, refused, count):
    match = (
        r"hints \(Apply ControlNet\) of 128 x 64 pixels, and the views are 64 x 64: .*proportions; cut a panorama with"
    )
    refused(f"{match} Equirect to Views and the same cameras", positive=hinted(pictures(count, 128)))


def test_hints_of_another_size_are_scaled(demo, hinted):
    assert torch.isfinite(demo.sample(steps=1, positive=hinted(pictures(4, 128, 128)))).all()


def test_hints_of_each_panorama_reach_their_views(demo, hinted):
    """Without blocks no views are joined: each panorama is that of its own hints."""

    def sampled(hints: torch.Tensor) -> torch.Tensor:
        return demo.sample(demo.without_blocks, steps=1, panoramas=2, positive=hinted(hints))

    one, two = pictures(8).split(4)
    both, first, second = map(sampled, (torch.cat((one, two)), one, two))
    assert (both[:4] - first[:4]).abs().max() < 2e-4 and (both[4:] - second[4:]).abs().max() < 2e-4
    assert (first - second).abs().amax((1, 2, 3)).min() > 1e-3  # every view follows its hint


def test_masks_of_hints_that_have_another_number(demo, refused):
    control = control_net(demo.model).set_cond_hint(pictures(1).movedim(-1, 1), extra_concat=[masks(4)[:, None]])
    refused("4 masks for 1 ControlNet hints", positive=with_values(demo.positive, control=control))


def test_masks_of_hints_that_are_a_panoramas(demo, refused):
    control = control_net(demo.model).set_cond_hint(pictures(4).movedim(-1, 1), extra_concat=[masks(4, 128)[:, None]])
    refused("masks of ControlNet hints of 128 x 64", positive=with_values(demo.positive, control=control))


@pytest.mark.parametrize("count", WRONG)
def test_masks_that_are_neither_one_nor_one_per_view(demo, refused, count):
    match = (
        rf"conditioning holds {count} masks \(Conditioning Set Mask\), and 4 cameras need 1 or 4: cut a panorama with"
    )
    refused(f"{match} Equirect to Views", positive=masked(demo.positive, masks(count)))


def test_mask_of_a_panorama(demo, refused):
    match = "masks .* of 128 x 64 pixels, and the views are 64 x 64: .* Equirect to Views"
    refused(match, positive=masked(demo.positive, masks(1, 128)))


def test_mask_per_view_reaches_its_view(demo):
    other = [[demo.positive[0][0] + 1, {}]]

    def sampled(mask: torch.Tensor) -> torch.Tensor:
        return demo.sample(demo.without_blocks, steps=1, panoramas=2, positive=masked(demo.positive, mask) + other)

    changed = masks(4)
    changed[2] = 1 - changed[2]
    different = (sampled(masks(4)) != sampled(changed)).flatten(1).any(1)
    assert different.nonzero().flatten().tolist() == [2, 6]


@pytest.mark.parametrize("where", ["Multi-View KSampler", "Interpolate Keyframes"])
def test_frames_of_a_sequence_need_their_proportions(comfy, refused, where):
    from mvdiffusion_pack.nodes.sampling import InterpolateKeyframes

    depth = comfy_nodes.demo("depth")
    cameras = along_a_wall(4, keyframes=(0, 3))
    positive = comfy_nodes.with_control(depth.positive, control_net(depth.model), pictures(4, 128))
    match = "hints .* of 128 x 64 pixels, and the views are 64 x 64: .* make one for all views, or one per view"
    if where == "Multi-View KSampler":
        refused(match, model=depth.model, cameras=cameras, positive=positive)
        return
    settings = {"seed": 7, "steps": 1, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
    latents = comfy_nodes.zeros(2, 8, 8)
    with pytest.raises(ValueError, match=match):
        InterpolateKeyframes.execute(depth.model, cameras, latents, positive, depth.negative, **settings)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("pooled_output", "pooled prompts"),
        ("cross_attn_controlnet", "ControlNet prompts"),
        ("pooled_output_controlnet", "pooled ControlNet prompts"),
    ],
)
def test_other_texts_are_counted_as_prompts_are(demo, refused, key, what):
    refused(
        f"positive conditioning holds 3 {what}: 4 cameras",
        positive=with_values(demo.positive, **{key: torch.zeros(3, 64)}),
    )


def test_pictures_that_unclip_would_mix(demo, refused):
    seen = SimpleNamespace(image_embeds=torch.zeros(4, 64))  # what CLIP Vision Encode gives for a batch
    import nodes

    (positive,) = nodes.unCLIPConditioning().apply_adm(demo.positive, seen, 1.0, 0.0)
    refused("holds 4 pictures in one unCLIP Conditioning", positive=positive)


def test_guiders_of_their_own_are_counted_too(demo):
    """The third conditioning of the host's Perp-Neg Guider."""
    from comfy_extras.nodes_perpneg import PerpNegGuider

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model, latent = ApplyCameras.execute(demo.model, demo.cameras, 1).args
    empty = masked(demo.negative, masks(3))
    guider = comfy_nodes.host_node(
        PerpNegGuider,
        model=model,
        positive=demo.positive,
        negative=demo.negative,
        empty_conditioning=empty,
        cfg=3.0,
        neg_scale=1.0,
    )
    with pytest.raises(ValueError, match="empty_negative_prompt conditioning holds 3 masks"):
        guider.sample(latent["samples"], latent["samples"], None, torch.tensor([1.0, 0.0]))
