"""Views joined to panoramas: exactness, seams, wrap, speed, and agreement with the published stitcher."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sphere import cameras_at, detailed, psnr, smooth, view_directions
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from yardstick import yardsticks

from mvdiffusion_pack.geometry import threads
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring, sphere
from mvdiffusion_pack.geometry.panorama import blends, multiband
from mvdiffusion_pack.geometry.panorama.equirect import (
    equirect_angles,
    equirect_directions,
    equirect_from_directions,
    equirect_to_views,
)
from mvdiffusion_pack.geometry.panorama.stitch import stitch
from mvdiffusion_pack.geometry.threads import SERIAL

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
BLENDS = list(blends.BLENDS)
RING = ring(8, 90, 512, 512)


@pytest.fixture(scope="module")
def detailed_views() -> torch.Tensor:
    """The eight views of RING, rendered from the detailed sphere."""
    return detailed(view_directions(RING)).float()


@functools.cache
def known(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pixels of a panorama lie inside |latitude| < 34 degrees, and the detailed sphere there."""
    inside = equirect_angles(width, width // 2)[1].abs() < math.radians(34)
    return inside, detailed(equirect_directions(width, width // 2)[inside])


def quality(equirect: torch.Tensor) -> float:
    """PSNR of a (H, W, 3) panorama of the detailed sphere inside |latitude| < 34 degrees."""
    inside, expected = known(equirect.shape[1])
    return psnr(equirect[inside], expected)


def largest_step(equirect: torch.Tensor, coverage: torch.Tensor) -> float:
    """The largest difference of covered (H, W, 3) pixels beside or above each other, over the wrap too."""
    across = (equirect - equirect.roll(1, 1)).abs() * (coverage * coverage.roll(1, 1))[..., None]
    down = (equirect[1:] - equirect[:-1]).abs() * (coverage[1:] * coverage[:-1])[..., None]
    return max(across.max().item(), down.max().item())


@pytest.mark.parametrize(("blend", "bar"), [("feather", 70), ("nearest", 70), ("multiband", 50)])
def test_the_sphere_comes_back(detailed_views, blend, bar):
    assert quality(stitch(detailed_views, RING, 2048, blend)[0][0]) >= bar


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, 0.5), (-0.5, -0.5)])
def test_half_a_pixel_of_shift_falls_below_the_bar(detailed_views, shift):
    intrinsics = RING.intrinsics.clone()
    intrinsics[:, :2, 2] += torch.tensor(shift, dtype=torch.float64)
    assert quality(stitch(detailed_views, replace(RING, intrinsics=intrinsics), 2048)[0][0]) < 60


def test_the_other_align_corners_falls_below_the_bar(detailed_views):
    intrinsics = RING.intrinsics.clone()
    intrinsics[:, :2, :2] *= 511 / 512  # the field of view then ends in the border pixels' centres
    assert quality(stitch(detailed_views, replace(RING, intrinsics=intrinsics), 2048)[0][0]) < 60


@pytest.mark.thorough
@pytest.mark.parametrize(("cameras", "most"), [(RING, 5), (sphere(8, 90, 512, 512), 10)], ids=["ring of 8", "14 views"])
def test_views_to_4096_take_little(cameras, most):
    (spent,) = yardsticks(lambda: stitch(torch.rand(cameras.views, 512, 512, 3), cameras, 4096))
    assert spent < most


class Steps(TorchDispatchMode):
    """Counts what a device, here torch's "meta", is asked to do, and the points at which it reads pictures."""

    def __init__(self):
        super().__init__()
        self.count = self.points = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.is_meta and not function.is_view:
            self.count += 1
            if "grid_sampler" in function.name():
                self.points += result[0, 0].numel()
        return result


@pytest.mark.parametrize("blend", ["feather", "nearest"])
def test_a_device_joins_in_few_large_steps(blend):
    with Steps() as steps:
        for _ in blends.BLENDS[blend](torch.empty(8, 3, 512, 512, device="meta"), RING, 4096):
            pass
    assert steps.count < 800
    assert steps.points < 1.6 * 7.8e6  # pixels inside the views


@pytest.mark.parametrize(
    ("cameras", "width"),
    [
        (RING, 2048),
        (RING, 1610),
        (ring(8, 60, 512, 512), 2048),
        (ring(8, 90, 640, 384, 7, 25), 2048),
        (sphere(8, 90, 256, 256), 2048),
    ],
    ids=["ring", "odd height", "little overlap", "pitched, not square", "whole sphere"],
)
def test_multiband_hides_a_tenth_of_gain(cameras, width):
    gains = torch.tensor([1.0, 0.9]).repeat(cameras.views // 2)[:, None, None, None]
    equirect, coverage = stitch(gains.expand(-1, cameras.height, cameras.width, 3), cameras, width, "multiband")
    assert largest_step(equirect[0], coverage[0]) <= 1 / 255


def test_nearest_shows_a_tenth_of_gain_in_one_step():
    gains = torch.tensor([1.0, 0.9]).repeat(4)[:, None, None, None]
    equirect, coverage = stitch(gains.expand(-1, 64, 64, 3), ring(8, 90, 64, 64), 512, "nearest")
    assert largest_step(equirect[0], coverage[0]) == pytest.approx(0.1, abs=1e-6)
    shown = equirect[coverage > 0].unique()
    assert torch.minimum((shown - 1.0).abs(), (shown - 0.9).abs()).max() < 1e-6


@pytest.mark.parametrize("blend", BLENDS)
def test_equal_views_have_no_fringe_and_nothing_elsewhere(blend):
    cameras = ring(8, 90, 64, 64, 3, 10)
    equirect, coverage = stitch(torch.full((8, 64, 64, 3), 0.75), cameras, 512, blend)
    torch.testing.assert_close(equirect, 0.75 * coverage[..., None].expand_as(equirect), rtol=0, atol=1e-5)


@pytest.mark.parametrize("blend", BLENDS)
def test_coverage_is_where_a_view_sees_the_pixels_centre(blend):
    cameras = cameras_at([(170, 40), (-100, -80)], 70, 60, 40)
    _, coverage = stitch(torch.rand(2, 40, 60, 3), cameras, 512, blend)
    directions = equirect_directions(512, 256)
    seen = torch.zeros(256, 512, dtype=torch.bool)
    for intrinsics, rotation in zip(cameras.intrinsics, cameras.rotation, strict=True):
        x, y, z = (directions @ rotation @ intrinsics.mT).unbind(-1)
        seen |= (z > 0) & (x > -0.5 * z) & (x < 59.5 * z) & (y > -0.5 * z) & (y < 39.5 * z)
    assert torch.equal(coverage[0], seen.float())


def test_nearest_takes_the_view_whose_middle_is_closest():
    views = (torch.arange(8) / 8)[:, None, None, None].expand(-1, 32, 32, 3)
    equirect, _ = stitch(views, ring(8, 90, 32, 32), 256, "nearest")
    middles = [(128 + 32 * view) % 256 for view in range(8)]
    assert equirect[0, 64, middles, 0].tolist() == [view / 8 for view in range(8)]
    assert equirect[0, 64, 128 + 15, 0] == 0 and equirect[0, 64, 128 + 16, 0] == 1 / 8


def test_feather_falls_to_the_views_edge():
    views = torch.tensor([1.0, 0.0])[:, None, None, None].expand(-1, 64, 64, 3)
    equirect, _ = stitch(views, cameras_at([(0, 0), (45, 0)], 90, 64, 64), 1440, "feather")
    share = equirect[0, 360, 720 : 720 + 180, 0]  # from the middle of the first view to its right edge
    assert share[0] > 0.99 and share[-1] < 0.01 and share[90] == pytest.approx(0.5, abs=0.01)
    assert (share.diff() < 0).all()


@pytest.mark.parametrize("blend", BLENDS)
def test_turning_the_ring_rolls_the_panorama(blend):
    views = torch.rand(8, 48, 48, 3, generator=torch.Generator().manual_seed(0))
    still, _ = stitch(views, ring(8, 90, 48, 48), 512, blend)
    turned, _ = stitch(views, ring(8, 90, 48, 48, start_yaw_deg=360 * 80 / 512), 512, blend)
    torch.testing.assert_close(turned, still.roll(80, 2), rtol=0, atol=2e-4)


@pytest.mark.parametrize("blend", BLENDS)
def test_the_whole_sphere_comes_back_poles_and_wrap_included(blend):
    cameras = sphere(8, 90, 128, 128)
    equirect, coverage = stitch(smooth(view_directions(cameras)), cameras, 1024, blend)
    assert coverage.min() == 1
    torch.testing.assert_close(equirect[0].double(), smooth(equirect_directions(1024, 512)), rtol=0, atol=5e-3)


@settings(max_examples=10, deadline=None)
@given(yaw=st.floats(-180, 180), pitch=st.floats(-60, 60), blend=st.sampled_from(BLENDS))
def test_cut_and_stitched_again_is_the_panorama(yaw, pitch, blend):
    cameras = ring(6, 100, 160, 120, yaw, pitch)
    panorama = smooth(equirect_directions(512, 256))[None].float()
    equirect, coverage = stitch(equirect_to_views(panorama, cameras)[0], cameras, 512, blend)
    torch.testing.assert_close(equirect, panorama * coverage[..., None], rtol=0, atol=1e-2)


@pytest.mark.parametrize("blend", BLENDS)
def test_panoramas_are_joined_apart(blend):
    views = torch.rand(8, 24, 32, 3, generator=torch.Generator().manual_seed(1))
    cameras = ring(4, 100, 32, 24)
    equirect, coverage = stitch(views, cameras, 128, blend)
    assert equirect.shape == (2, 64, 128, 3) and coverage.shape == (2, 64, 128)
    torch.testing.assert_close(equirect[1:], stitch(views[4:], cameras, 128, blend)[0], rtol=0, atol=1e-5)


def test_half_precision_and_alpha_are_taken():
    views = torch.rand(4, 32, 32, 3, generator=torch.Generator().manual_seed(2)).half()
    with_alpha = torch.cat((views, torch.zeros_like(views[..., :1])), dim=-1)
    equirect, _ = stitch(with_alpha, ring(4, 100, 32, 32), 128)
    assert equirect.dtype == torch.float32 and equirect.shape[-1] == 3
    torch.testing.assert_close(equirect, stitch(views.float(), ring(4, 100, 32, 32), 128)[0])


def test_larger_images_are_taken_at_their_size():
    fine = detailed(view_directions(ring(8, 90, 512, 512))).float()
    coarse = detailed(view_directions(ring(8, 90, 128, 128))).float()
    cameras = ring(8, 90, 128, 128)
    assert quality(stitch(fine, cameras, 2048)[0][0]) > quality(stitch(coarse, cameras, 2048)[0][0]) + 15


@pytest.mark.parametrize("side", [512, 513, 1002])
def test_a_panorama_much_coarser_than_the_views_is_averaged(side):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    board = ((x + y) % 2).float()[None, :, :, None].expand(8, -1, -1, 3)
    equirect, coverage = stitch(board, RING, 256)
    assert (equirect[coverage > 0] - 0.5).abs().max() < 0.02


@pytest.mark.parametrize(("cameras", "size", "width"), [(RING, 512, 1610), (ring(8, 90, 64, 64), 128, 404)])
def test_the_native_width_has_pixels_as_fine_as_the_views(cameras, size, width):
    equirect, coverage = stitch(torch.zeros(8, size, size, 3), cameras, 0)
    assert equirect.shape == (1, width // 2, width, 3) and coverage.shape == (1, width // 2, width)


def test_the_published_stitcher_shows_the_same_picture():
    """It draws both ends of 360 and of 180 degrees and feathers differently, but turned or mirrored is far off."""
    recorded = load_file(GOLDEN / "stitch_case.safetensors")
    equirect, _ = stitch(recorded["views"] / 255, ring(8, 90, 96, 96), 2048)
    longitude, latitude = torch.linspace(-1, 1, 256) * math.pi, torch.linspace(1, -1, 128) * math.pi / 2
    inside = latitude.abs() < math.radians(32)

    def similarity(turned_deg: float, mirrored: int) -> float:
        turned = mirrored * longitude + math.radians(turned_deg)
        level = latitude.cos()[:, None]
        up = latitude.sin()[:, None].expand(-1, 256)
        directions = torch.stack((level * turned.sin(), -up, level * turned.cos()), dim=-1)[inside]
        columns, rows = equirect_from_directions(directions, 2048).round().long().unbind(-1)
        return psnr(equirect[0, rows, columns % 2048], recorded["equirect"][inside] / 255)

    assert similarity(0, 1) > 35
    assert max(similarity(2, 1), similarity(-2, 1)) < similarity(0, 1) - 1
    assert similarity(0, -1) < 15


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.zeros(7, 32, 32, 3), {}, "^too few images: 7 images, 8 cameras$"),
        (torch.zeros(9, 32, 32, 3), {}, "^the images are not a multiple of the cameras: 9 images, 8 cameras$"),
        (torch.zeros(0, 32, 32, 3), {}, "^there is nothing in the images, "),
        (torch.full((8, 32, 32, 3), math.nan), {}, "NaN"),
        (torch.zeros(8, 32, 32, 3).index_fill(0, torch.tensor(3), math.inf), {}, "infinite"),
        (
            torch.zeros(8, 32, 48, 3),
            {},
            "^the images are 48 x 32 pixels, which is not the aspect of the cameras' 32 x 32$",
        ),
        (torch.zeros(8, 32, 32, 2), {}, r"not \(8, 32, 32, 2\)"),
        (torch.zeros(8, 32, 32, 3), {"width": -2}, "^width must be even.*not -2$"),
        (torch.zeros(8, 32, 32, 3), {"width": 1023}, "^width must be even.*not 1023$"),
        (
            torch.zeros(8, 32, 32, 3),
            {"blend": "average"},
            "^blend must be one of feather, multiband, nearest, not 'average'$",
        ),
    ],
)
def test_bad_input_is_refused(images, options, message):
    with pytest.raises(InputError, match=message):
        stitch(images, ring(8, 90, 32, 32), **options)


def test_views_from_different_places_are_refused():
    cameras = ring(2, 90, 32, 32)
    poses = cameras.cam_to_world.clone()
    poses[1, 0, 3] = 0.1
    with pytest.raises(InputError, match=r"^only views .* stand in different places$"):
        stitch(torch.zeros(2, 32, 32, 3), replace(cameras, cam_to_world=poses), 128)


@pytest.fixture(params=[True, False], ids=["busy", "free"])
def waiting(request, monkeypatch) -> bool:
    """Whether torch's threads would wait for each other, as the blends are told."""
    for module in (blends, multiband):
        monkeypatch.setattr(module, "threads_wait", lambda: request.param)
    return request.param


class LargeSteps(TorchDispatchMode):
    """Counts the steps that torch shares out to its threads: large ones, and reads of more than one picture."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [part for part in tree_leaves(result) if isinstance(part, torch.Tensor)]
        large = any(part.numel() > SERIAL for part in tensors)
        batch = "grid_sampler" in function.name() and len(args[0]) > 1
        self.count += not function.is_view and (large or batch)
        return result


@pytest.mark.parametrize(
    ("panoramas", "options"),
    [(1, {}), (1, {"level": True}), (3, {"level": True}), (1, {"background": torch.rand(1, 256, 512, 3)})],
    ids=["", "level", "level of three", "background"],
)
@pytest.mark.parametrize("blend", sorted(BLENDS))
def test_only_where_cores_are_free_steps_are_shared_out(blend: str, panoramas: int, options: dict, waiting: bool):
    """Each is a meeting of torch's threads, which lasts milliseconds where they wait for a core."""
    images = torch.rand((8 * panoramas, 256, 256, 3), generator=torch.manual_seed(0))
    with LargeSteps() as steps:
        stitch(images, ring(8, 90, 256, 256), 2048, blend, **options)
    assert steps.count < 160 if waiting else steps.count > 400


def test_many_panoramas_are_joined_in_large_steps(waiting: bool):
    """Their colours in the smallest tile are more than torch computes in one thread."""
    images = torch.rand((8 * 12, 32, 32, 3), generator=torch.manual_seed(0))
    with LargeSteps() as steps:
        stitch(images, ring(8, 90, 32, 32), 512)
    assert steps.count < 400


@pytest.mark.parametrize("blend", sorted(BLENDS))
def test_progress_is_of_rows(blend: str, waiting: bool):
    told: list[tuple[int, int]] = []
    images = torch.rand((8, 64, 64, 3), generator=torch.manual_seed(0))
    stitch(images, ring(8, 90, 64, 64), 1024, blend, progress=lambda *rows: told.append(rows))
    done = [rows for rows, _ in told]
    assert done == sorted(set(done)) and told[-1] == (512, 512) and len(done) > 2


@pytest.mark.parametrize("blend", sorted(BLENDS))
@pytest.mark.parametrize(("layout", "width"), [(ring, 1030), (sphere, 800)], ids=["ring", "sphere"])
def test_busy_cores_change_no_pixel(blend: str, layout, width: int, monkeypatch):
    cameras = layout(8, 90, 64, 64)
    images = torch.rand((cameras.views, 64, 64, 3), generator=torch.manual_seed(0))
    made = []
    for wait in (True, False):
        for module in (blends, multiband):
            monkeypatch.setattr(module, "threads_wait", lambda wait=wait: wait)
        made.append(stitch(images, cameras, width, blend))
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


@pytest.mark.parametrize(("slow", "count", "wait"), [(3, 2, False), (4, 2, True), (7, 2, True), (7, 1, False)])
def test_most_of_the_meetings_say_whether_threads_wait(slow: int, count: int, wait: bool, monkeypatch):
    """One slow meeting may be by chance, and one thread has nobody to wait for."""
    took = [time for number in range(7) for time in (0.0, 1e-2 if number < slow else 1e-5)]
    monkeypatch.setattr(threads.time, "perf_counter", iter(took).__next__)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert threads.threads_wait() == wait


def test_views_between_the_pixels_of_the_panorama_are_said():
    """Level views straight ahead: the middle of a panorama is a corner of four pixels."""
    narrow = ring(2, 1.0, 16, 16)
    with pytest.raises(
        InputError, match=r"pixels are 5\.6 degrees apart, and the widest view covers 1 degrees$"
    ) as said:
        stitch(torch.rand(2, 16, 16, 3), narrow, 64)
    assert said.value.remedy == "between_view_and_panorama"
    assert stitch(torch.rand(2, 16, 16, 3), narrow, 2048)[1].any()
    below = torch.full((1, 32, 64, 3), 0.5)
    assert torch.equal(stitch(torch.rand(2, 16, 16, 3), narrow, 64, background=below)[0], below)
