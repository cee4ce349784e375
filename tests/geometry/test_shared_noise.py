"""Noise of a scene: white in each view, alike where views show the same, and decided by what it replaces."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from wall import along_a_wall

from mvdiffusion_pack.geometry.layouts import ring, sphere
from mvdiffusion_pack.geometry.scene import Scene
from mvdiffusion_pack.geometry.seen import seen_in
from mvdiffusion_pack.geometry.shared_noise import SharedNoise

HEIGHT, WIDTH, CHANNELS = 24, 32, 64
SCENES = {
    "ring": ring(6, 90, 256, 192),
    "sphere": sphere(8, 90, 256, 192),
    "depth": along_a_wall(3, 256, 192),
}
each_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def own(scene: Scene, seed: int = 0) -> torch.Tensor:
    return torch.randn((scene.views, CHANNELS, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed))


def drawn(scene: Scene, seed: int = 0) -> torch.Tensor:
    return SharedNoise.of(scene, HEIGHT, WIDTH).draw(own(scene, seed))


@each_scene
def test_each_view_has_mean_0_and_variance_1(scene):
    noise = drawn(scene)
    assert noise.mean((1, 2, 3)).abs().max() < 0.02
    assert (noise.var((1, 2, 3)) - 1).abs().max() < 0.03
    # Of every pixel, wherever it stands: its variance over channels and draws.
    shared = SharedNoise.of(scene, HEIGHT, WIDTH)
    per_pixel = torch.cat([shared.draw(own(scene, seed)) for seed in range(12)], dim=1).var(1)
    assert per_pixel.min() > 0.75 and per_pixel.max() < 1.3


@each_scene
@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 2), (2, -1)])
def test_pixels_of_a_view_are_independent(scene, shift):
    noise = drawn(scene)
    products = (noise * noise.roll(shift, (2, 3)))[..., 2:, 2:-2]
    assert products.mean((1, 2, 3)).abs().max() < 0.03


@each_scene
def test_views_start_alike_where_they_show_the_same(scene):
    noise, other_noise = drawn(scene), drawn(scene, seed=1)
    for view, other in ((0, 1), (scene.views - 2, scene.views - 1)):
        grid, overlap = seen_in(scene, view, other, (WIDTH, HEIGHT), slice(0, HEIGHT))
        at = grid.movedim(0, -1)[None].float()
        for numbers, least, most in ((noise, 0.35, 1.0), (other_noise, -0.05, 0.05)):
            read = F.grid_sample(numbers[other : other + 1], at, mode="nearest", align_corners=False)[0]
            assert least < (read * noise[view])[:, overlap].mean() < most


def test_noise_that_is_replaced_decides():
    scene = SCENES["ring"]
    assert torch.equal(drawn(scene), drawn(scene))
    assert (drawn(scene) - drawn(scene, seed=1)).abs().mean() > 0.5


def test_views_that_show_nothing_together_are_independent():
    noise = drawn(ring(3, 90, 256, 192))
    assert (noise[0] * noise[1]).mean().abs() < 0.03
