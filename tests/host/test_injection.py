"""What a patched MODEL looks like to the rest of the host: like the plain one."""

from __future__ import annotations

import comfy_nodes
import pytest
import torch
from controls import control_lora
from patches import lora_of

pytestmark = pytest.mark.host

SD15 = dict(num_heads=8, num_head_channels=-1, context_dim=48, use_linear_in_transformer=False)
SD2 = dict(num_head_channels=32, context_dim=64, use_linear_in_transformer=True)
SDXL = dict(
    num_head_channels=32,
    context_dim=64,
    use_linear_in_transformer=True,
    channel_mult=(1, 2, 4),
    num_res_blocks=[2, 2, 2],
    transformer_depth=[0, 0, 2, 2, 3, 3],
    transformer_depth_middle=3,
    transformer_depth_output=[0, 0, 0, 2, 2, 2, 3, 3, 3],
    num_classes="sequential",
    adm_in_channels=16,
)


SHALLOW = dict(  # two levels of one layer: sites are of all kinds, but few, and little stands between them
    channel_mult=(1, 2),
    num_res_blocks=[1, 1],
    transformer_depth=[0, 0],
    transformer_depth_output=[0] * 4,
)


def small_unet(structure: dict):
    """The host's UNetModel of a structure, narrow, with random weights in every layer."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = dict(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=32,
        channel_mult=(1, 2, 4, 4),
        num_res_blocks=[2, 2, 2, 2],
        use_spatial_transformer=True,
        transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
        transformer_depth_middle=1,
        transformer_depth_output=[1] * 9 + [0] * 3,
        legacy=False,
    )
    unet = UNetModel(**(config | structure))
    generator = torch.manual_seed(3)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return unet


class Patcher:
    """As much of a ModelPatcher as injection looks at: a model with a diffusion_model."""

    def __init__(self, unet) -> None:
        self.model = self
        self.diffusion_model = unet


@pytest.mark.parametrize("structure", [SD15, SD2, SDXL], ids=["SD 1.5", "SD 2", "SDXL"])
@pytest.mark.parametrize(("strength", "zero", "same"), [(0.0, False, True), (1.0, True, True), (1.0, False, False)])
def test_fresh_blocks_fit_and_change_nothing(comfy, structure, strength, zero, same):
    import comfy.ops

    from mvdiffusion_pack.caa.blocks import CAA
    from mvdiffusion_pack.caa.weights.kinds import PANORAMA
    from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host import inject
    from mvdiffusion_pack.host.run import Run

    unet = small_unet(structure)
    weights = fresh_weights(PANORAMA, inject.unet_widths(unet), zero=zero)
    caa = CAA(PANORAMA, weights.widths, weights.frequencies, comfy.ops.manual_cast)
    caa.load_state_dict(weights.tensors)
    generator = torch.manual_seed(4)
    x = torch.randn((4, 4, 8, 8), generator=generator)
    context = torch.randn((4, 7, structure["context_dim"]), generator=generator)
    y = torch.randn((4, 16), generator=generator) if "adm_in_channels" in structure else None

    def run(options):
        with torch.inference_mode():
            return unet(x, torch.full((4,), 500), context, y, transformer_options=options)

    expected = run({})
    inject.inject(Patcher(unet))
    patches = {"forward_timestep_embed_patch": [(inject.Site, inject.run_site)]}
    result = run({"patches": patches, inject.RUN: Run(ring(4, 120, 64, 64), caa, strength)})
    assert torch.isfinite(result).all()
    assert torch.equal(result, expected) == same


def test_compiled_unet_follows_the_run(comfy):
    import comfy.ops

    from mvdiffusion_pack.caa.blocks import CAA
    from mvdiffusion_pack.caa.weights.kinds import PANORAMA
    from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host import inject
    from mvdiffusion_pack.host.run import Run

    unet = small_unet(SD2 | SHALLOW)
    weights = fresh_weights(PANORAMA, inject.unet_widths(unet), zero=False)
    caa = CAA(PANORAMA, weights.widths, weights.frequencies, comfy.ops.manual_cast)
    caa.load_state_dict(weights.tensors)
    inject.inject(Patcher(unet))
    patches = {"forward_timestep_embed_patch": [(inject.Site, inject.run_site)]}
    x, context = torch.randn((4, 4, 8, 8)), torch.randn((4, 7, 64))
    compiled = torch.compile(unet, backend="eager")
    for strength in (1.0, 0.5):
        run = Run(ring(4, 120, 64, 64), caa, strength)
        with torch.inference_mode():
            plain, fast = (
                f(x, torch.full((4,), 500), context, transformer_options={"patches": patches, inject.RUN: run})
                for f in (unet, compiled)
            )
        torch.testing.assert_close(fast, plain)


def test_places_are_the_published_ones(comfy):
    from mvdiffusion_pack.host import inject

    unet = small_unet(SD2)
    inject.inject(Patcher(unet))
    found = {
        f"{side}.{number}": [layer.name if isinstance(layer, inject.Site) else type(layer).__name__ for layer in block]
        for side, blocks in (
            ("input", unet.input_blocks),
            ("middle", [unet.middle_block]),
            ("output", unet.output_blocks),
        )
        for number, block in enumerate(blocks)
        if any(isinstance(layer, inject.Site) for layer in block)
    }
    assert found == {
        "input.0": ["Conv2d", "condition_downblocks.0"],
        "input.3": ["encoder.0", "Downsample", "condition_downblocks.1"],
        "input.6": ["encoder.1", "Downsample", "condition_downblocks.2"],
        "input.9": ["encoder.2", "Downsample", "condition_downblocks.3"],
        "middle.0": [
            *("encoder.3", "condition_downblocks.3", "ResBlock", "mid_inside", "SpatialTransformer", "ResBlock"),
            *("mid_end", "condition_upblocks.0"),
        ],
        "output.2": ["ResBlock", "decoder.0", "Upsample", "condition_upblocks.1"],
        "output.5": ["ResBlock", "SpatialTransformer", "decoder.1", "Upsample", "condition_upblocks.2"],
        "output.8": ["ResBlock", "SpatialTransformer", "decoder.2", "Upsample", "condition_upblocks.3"],
        "output.11": ["ResBlock", "SpatialTransformer", "decoder.3"],
    }


def test_inject_and_eject_are_idempotent_and_leave_the_layers_as_they_were(comfy):
    from mvdiffusion_pack.host import inject

    unet = small_unet(SD2)
    before = [(name, id(module)) for name, module in unet.named_modules()]
    for step in (inject.inject, inject.inject, inject.eject, inject.eject):
        step(Patcher(unet))
    assert [(name, id(module)) for name, module in unet.named_modules()] == before


@pytest.fixture
def demo(comfy):
    return comfy_nodes.demo()


def plain_keys(model) -> list[str]:
    return list(comfy_nodes.plain(model).model.diffusion_model.state_dict())


def test_loaded_models_state_dict_is_the_plain_ones(demo):
    before = plain_keys(demo.model)
    demo.load()
    assert list(demo.model.model.diffusion_model.state_dict()) == before
    assert next(iter(demo.model.model_state_dict("diffusion_model."))) == "diffusion_model." + before[0]


def test_saved_checkpoint_is_the_plain_ones(demo, tmp_path):
    import comfy.sd
    from safetensors.torch import load_file

    plain = comfy_nodes.plain(demo.model)
    comfy.sd.save_checkpoint(str(tmp_path / "plain.safetensors"), plain)
    demo.load()
    comfy.sd.save_checkpoint(str(tmp_path / "patched.safetensors"), demo.model)
    expected, saved = (load_file(tmp_path / f"{name}.safetensors") for name in ("plain", "patched"))
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[key], expected[key]) for key in expected)


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora_before_or_after_is_the_plain_models(demo, when, caplog):
    import comfy.sd

    from mvdiffusion_pack.host import begin, setup

    blocks = demo.model.get_additional_models_with_key(setup.KEY)[0]
    plain = comfy_nodes.plain(demo.model)
    lora = lora_of(plain)
    demo.load()  # the sites stand in the UNet while the LoRA looks for its layers
    with_lora, _ = comfy.sd.load_lora_for_models(plain, None, lora, 1.0, 0.0)
    if when == "before":
        patched = begin.with_blocks(with_lora, blocks, 0.0)
    else:
        patched, _ = comfy.sd.load_lora_for_models(begin.with_blocks(plain, blocks, 0.0), None, lora, 1.0, 0.0)
    assert not [record for record in caplog.records if "NOT LOADED" in record.message]
    assert len(lora) > 20 and set(patched.patches) == set(with_lora.patches)
    expected = demo.sample(with_lora)
    assert torch.equal(demo.sample(patched), expected)
    assert not torch.equal(demo.sample(plain), expected)


@pytest.fixture
def hints(demo) -> torch.Tensor:
    return torch.rand((demo.cameras.views, 64, 64, 3), generator=torch.manual_seed(7))


def test_control_lora_is_the_plain_models(demo, hints):
    from mvdiffusion_pack.host import begin, setup

    plain = comfy_nodes.plain(demo.model)
    control = control_lora(plain)
    positive = comfy_nodes.with_control(demo.positive, control, hints)
    expected = demo.sample(plain, positive=positive)
    patched = begin.with_blocks(plain, demo.model.get_additional_models_with_key(setup.KEY)[0], 0.0)
    assert torch.equal(demo.sample(patched, positive=positive), expected)
    assert not torch.equal(demo.sample(plain), expected)


def test_controlnet_takes_a_hint_per_view(demo, hints):
    control = control_lora(demo.model)
    changed = hints.clone()
    changed[2] = 1 - changed[2]
    a, b = (
        demo.sample(demo.without_blocks, positive=comfy_nodes.with_control(demo.positive, control, h))
        for h in (hints, changed)
    )
    assert [bool(torch.equal(a[view], b[view])) for view in range(4)] == [True, True, False, True]
    together = demo.sample(positive=comfy_nodes.with_control(demo.positive, control, hints))
    assert torch.isfinite(together).all() and not torch.equal(together, a)


def test_differently_patched_clones_coexist(demo):
    from functools import partial

    from mvdiffusion_pack.caa.weights.kinds import PANORAMA
    from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
    from mvdiffusion_pack.host.inject import unet_widths
    from mvdiffusion_pack.host.weights import attach_weights

    plain = comfy_nodes.plain(demo.model)
    widths = unet_widths(plain.model.diffusion_model)
    a, b = (attach_weights(plain, partial(fresh_weights, PANORAMA, widths, seed, zero=False), 1.0) for seed in (1, 2))
    first_a, first_b, first_plain = demo.sample(a), demo.sample(b), demo.sample(plain)
    assert not torch.equal(first_a, first_b) and not torch.equal(first_a, first_plain)
    assert torch.equal(demo.sample(a), first_a)
    assert torch.equal(demo.sample(plain), first_plain)
    assert torch.equal(demo.sample(b), first_b)


def test_clone_that_dies_during_a_run_does_not_take_the_blocks_away(demo):
    import gc

    expected = demo.sample()
    demo.load()
    dying = [demo.model.clone()]
    assert dying[0].is_injected

    def sample_with_a_death(apply_model, args):
        dying.clear()
        gc.collect()
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = demo.model.clone()
    model.set_model_unet_function_wrapper(sample_with_a_death)
    assert torch.equal(demo.sample(model), expected)


def test_clone_that_dies_does_not_take_the_blocks_of_another(demo):
    import gc

    expected = demo.sample()
    demo.load()
    other = demo.model.clone()
    assert other.is_injected
    del other
    gc.collect()
    assert torch.equal(demo.sample(), expected)


def test_unloading_leaves_nothing(demo):
    import comfy.model_management

    from mvdiffusion_pack.host.inject import Site

    unet = demo.model.model.diffusion_model
    demo.load()
    assert any(isinstance(module, Site) for module in unet.modules())
    comfy.model_management.unload_all_models()
    assert not any(isinstance(module, Site) for module in unet.modules())


def test_original_model_is_untouched(demo):
    from mvdiffusion_pack.host import begin, setup

    plain = comfy_nodes.plain(demo.model)
    before = {key: str(value) for key, value in vars(plain).items() if key != "size"}
    patched = begin.with_blocks(plain, demo.model.get_additional_models_with_key(setup.KEY)[0], 1.0)
    begin.with_cameras(patched, demo.cameras)
    assert {key: str(value) for key, value in vars(plain).items() if key != "size"} == before


def test_nodes_applied_twice_act_once(demo):
    from mvdiffusion_pack.host import begin, setup

    blocks = demo.model.get_additional_models_with_key(setup.KEY)[0]
    twice = begin.with_cameras(
        begin.with_cameras(begin.with_blocks(demo.model, blocks, 1.0), demo.cameras), demo.cameras
    )
    assert torch.equal(demo.sample(twice), demo.sample())
