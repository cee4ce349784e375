"""What docs/compatibility.md says of the host's nodes: over a panorama, over windows, and between key frames.

Its cells: `yes`; `no`: refused in one sentence before sampling; `fails`: the host does, with any batch; `-`: not tried.
"""

from __future__ import annotations

import re

import comfy_nodes
import patches
import pytest
import torch
from in_process import ROOT
from wall import along_a_wall

pytestmark = pytest.mark.host

PANORAMA, WINDOWS, BETWEEN = COLUMNS = "Panorama", "Windows", "Key frames"
DRAWS = {"Token Merging"}  # draws at random in each call of the UNet, so that windows draw more often
SAMPLERS = "ddim", "euler_cfg_pp", "dpmpp_2m_sde", "uni_pc", "lcm"  # one of a kind: none of them sees the windows
SETTINGS = {"seed": 7, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}


def cells() -> dict[tuple[str, str], str]:
    """What the page's table says, by row and column."""
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^\| ([^|]+) \| (yes|no|fails|-) \| (yes|no|fails|-) \| (yes|no|fails|-) \|", page, re.MULTILINE
    )
    return {(name, column): cell for name, *found in lines for column, cell in zip(COLUMNS, found, strict=True)}


def told(cell: str) -> pytest.MarkDecorator:
    """Every row and column of which the page says this."""
    return pytest.mark.parametrize(("name", "column"), [key for key, said in cells().items() if said == cell])


class Bench:
    """The demo models, and what they make of a row's changes."""

    def __init__(self) -> None:
        from mvdiffusion_pack.host.begin import with_blocks
        from mvdiffusion_pack.host.setup import KEY

        self.panorama, self.depth = comfy_nodes.demo(), comfy_nodes.demo("depth")
        self.frames, self.gap = along_a_wall(4), along_a_wall(5, keyframes=(0, 4))
        blocks = self.depth.model.get_additional_models_with_key(KEY)[0]
        self.apart = with_blocks(self.depth.model, blocks, 0.0)  # frames that nothing joins
        self._plain: dict[str, torch.Tensor] = {}

    def given(self, column: str) -> patches.Given:
        if column == PANORAMA:
            return patches.Given(self.panorama.model, self.panorama.positive, self.panorama.negative, 4)
        model, frames = (self.apart, 4) if column == WINDOWS else (self.depth.model, 5)
        return patches.Given(model, self.depth.positive, self.depth.negative, frames)

    def changes(self, name: str, column: str) -> dict:
        try:
            return patches.ROWS[name](self.given(column))
        except patches.NotThereError as error:
            pytest.skip(str(error))

    def sample(self, column: str, changes: dict, window: int = 3) -> torch.Tensor:
        """The latents of Multi-View KSampler, or of Interpolate Keyframes."""
        if column == PANORAMA:
            return self.panorama.sample(**changes)
        if column == WINDOWS:
            settings = {"model": self.apart, "cameras": self.frames, "window": window, "overlap": 1}
            return self.depth.sample(**(settings | changes))
        return self._between(changes)

    def _between(self, changes: dict) -> torch.Tensor:
        from mvdiffusion_pack.nodes.sampling import InterpolateKeyframes

        keyframes = {"samples": torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(8))}
        inputs = {"model": self.depth.model, "positive": self.depth.positive, "negative": self.depth.negative}
        inputs |= {"cameras": self.gap, "keyframes": keyframes, "steps": 1, "window": 3, "overlap": 1}
        return InterpolateKeyframes.execute(**(SETTINGS | inputs | changes)).args[0]["samples"]

    def unchanged(self, column: str, changes: dict) -> torch.Tensor:
        """What is made without the row's node, in as many steps and of the same latents."""
        rest = {key: value for key, value in changes.items() if key in ("steps", "latent_image")}
        key = f"{column} {rest.get('steps')} {'latent_image' in rest}"
        if key not in self._plain:
            self._plain[key] = self.sample(column, rest)
        return self._plain[key]


@pytest.fixture(scope="module")
def bench(comfy) -> Bench:
    return Bench()


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


def test_page_has_a_line_for_every_row():
    assert list(dict.fromkeys(name for name, _ in cells())) == list(patches.ROWS)


@told("yes")
def test_works(bench, name, column):
    changes = bench.changes(name, column)
    made = bench.sample(column, changes)
    assert torch.isfinite(made).all()
    assert difference(made, bench.unchanged(column, changes)) > 1e-3  # and changes the picture
    if column == WINDOWS and name not in DRAWS:  # each frame as without windows: nothing of one comes into another
        assert difference(made, bench.sample(column, changes, window=0)) < 1e-3


@told("no")
def test_is_refused_by_name_before_sampling(bench, name, column, monkeypatch):
    changes = bench.changes(name, column)
    model = type(bench.panorama.model.model)
    monkeypatch.setattr(model, "apply_model", lambda *args, **kwargs: pytest.fail("a step was sampled"))
    with pytest.raises(ValueError, match=f"(?i){name}"):
        bench.sample(column, changes)


@told("fails")
def test_fails_without_this_pack_too(bench, name, column):
    changes = bench.changes(name, column)
    with pytest.raises(RuntimeError):
        bench.sample(column, changes)
    alone = patches.ROWS[name](patches.Given(bench.panorama.without_blocks, [], [], 4))["model"]
    with pytest.raises(RuntimeError):
        bench.sample(PANORAMA, {"model": alone})


@pytest.mark.parametrize("downscale_factor", [2.0, 1.5])
@pytest.mark.parametrize("block_number", [1, 2])
def test_deep_shrink_at_any_level_between_key_frames(bench, block_number, downscale_factor):
    settings = dict(block_number=block_number, downscale_factor=downscale_factor, downscale_after_skip=True)
    row = patches.patch("model_downscale", "PatchModelAddDownscale", **settings, **patches.SHRINK)
    assert torch.isfinite(bench.sample(BETWEEN, row(bench.given(BETWEEN)))).all()


def quick(column: str) -> dict:
    """Two steps over few frames, without guidance where the sampler can do without."""
    frames = {
        PANORAMA: {},
        WINDOWS: {"cameras": along_a_wall(3), "window": 2},
        BETWEEN: {"cameras": along_a_wall(3, keyframes=(0, 2)), "window": 0},
    }
    return {"steps": 2, "cfg": 1.0, **frames[column]}


@pytest.mark.parametrize("column", COLUMNS)
def test_samplers(bench, column):
    import comfy.samplers

    names = comfy.samplers.KSampler.SAMPLERS if column == PANORAMA else SAMPLERS
    made = {name: bench.sample(column, quick(column) | {"sampler_name": name}) for name in names}
    assert [name for name in names if not torch.isfinite(made[name]).all()] == []


@pytest.mark.parametrize("column", COLUMNS)
def test_schedulers(bench, column):
    import comfy.samplers

    names = comfy.samplers.KSampler.SCHEDULERS
    made = {name: bench.sample(column, quick(column) | {"sampler_name": "euler", "scheduler": name}) for name in names}
    assert [name for name in names if not torch.isfinite(made[name]).all()] == []


def perp_neg_guider(model, demo):
    from comfy_extras.nodes_perpneg import PerpNegGuider

    conds = dict(positive=demo.positive, negative=patches.other(demo.positive), empty_conditioning=demo.negative)
    return comfy_nodes.host_node(PerpNegGuider, model=model, **conds, cfg=3.0, neg_scale=1.0)


def dual_guider(model, demo):
    from comfy_extras.nodes_custom_sampler import DualCFGGuider

    conds = dict(cond1=demo.positive, cond2=patches.other(demo.positive), negative=demo.negative)
    return comfy_nodes.host_node(
        DualCFGGuider, model=model, **conds, cfg_conds=2.0, cfg_cond2_negative=3.0, style="regular"
    )


@pytest.mark.parametrize("guider", [perp_neg_guider, dual_guider])
@pytest.mark.parametrize("column", [PANORAMA, WINDOWS])
def test_other_guiders(bench, column, guider):
    import comfy.samplers

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    demo = bench.panorama if column == PANORAMA else bench.depth

    def sampled(window: int) -> torch.Tensor:
        cameras = bench.panorama.cameras if column == PANORAMA else bench.frames
        model, latent = ApplyCameras.execute(bench.given(column).model, cameras, 1, window, 1).args
        sampler, noise = comfy.samplers.sampler_object("euler"), patches.random(4, 4, 8, 8)
        return guider(model, demo).sample(noise, latent["samples"], sampler, torch.tensor([5.0, 1.0, 0.0]))

    made = sampled(0)
    assert torch.isfinite(made).all()
    if column == WINDOWS and guider is dual_guider:
        assert difference(sampled(3), made) < 1e-3
    if column == WINDOWS and guider is perp_neg_guider:
        assert torch.isfinite(sampled(3)).all()


def test_tiled_vae_is_close_to_the_whole(bench):
    import nodes

    latent = {"samples": patches.random(4, 4, 16, 16)}
    tiled = comfy_nodes.host_node(
        nodes.VAEDecodeTiled,
        samples=latent,
        vae=bench.panorama.vae,
        tile_size=64,
        overlap=32,
        temporal_size=64,
        temporal_overlap=8,
    )
    whole = comfy_nodes.host_node(nodes.VAEDecode, samples=latent, vae=bench.panorama.vae)
    assert tiled.shape == whole.shape == (4, 128, 128, 3)
    assert 0 < (tiled - whole).abs().mean() < 0.05
