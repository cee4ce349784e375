"""The sequence in the pack: what the script makes, and fit for the nodes."""

from __future__ import annotations

import make_demo_sequence as demo
import numpy as np
import pytest
import torch

from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.geometry.sequence.frames import Frame, posed_views
from mvdiffusion_pack.geometry.sequence.reading import read_frames
from mvdiffusion_pack.scenes.captions import caption
from mvdiffusion_pack.scenes.paths import CLEARANCE, clearance
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import random_room


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(read_frames(demo.FOLDER))


@pytest.fixture(scope="module")
def cameras(frames: list[Frame]) -> PosedViews:
    return posed_views(frames, 256, 192, 0.3, 0.6)[0]


def test_a_frame_rendered_again_is_the_one_in_the_pack(frames: list[Frame]):
    room, cameras = random_room(demo.SEED), demo.demo_cameras(random_room(demo.SEED))
    view, frame = 9, frames[9]
    one = demo.Cameras(cameras.intrinsics[[view]], cameras.cam_to_world[[view]], cameras.width, cameras.height)
    rendering = render(room, one)
    torch.testing.assert_close(frame.cam_to_world, one.cam_to_world[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(frame.intrinsics, one.intrinsics[0], atol=1e-9, rtol=0)
    # A ray along an edge may fall to either side on another machine.
    assert ((frame.depth - rendering.depth[0]).abs() < 1e-3).double().mean() > 0.999
    difference = (frame.image - rendering.images[0]).abs()
    assert difference.mean() < 0.01 and np.quantile(difference.numpy(), 0.99) < 0.06  # what JPEG changes
    assert frame.prompt == caption(room, rendering.things[0])


def test_key_frames_are_few_and_overlap(cameras: PosedViews):
    keyframes, key_cameras = cameras.keyframes, cameras.subset(cameras.keyframes)
    assert cameras.views == 24 and 5 <= len(keyframes) <= 6
    assert max(np.diff(keyframes)) <= 7
    assert (key_cameras.overlaps.diagonal(1) > 0.3).all()


def test_it_is_small_and_every_frame_has_a_prompt(frames: list[Frame]):
    files = [path for path in demo.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert [frame.name for frame in frames] == [str(number) for number in range(24)]
    assert all(frame.prompt.startswith("a room with") for frame in frames)
    assert {frame.depth.shape for frame in frames} == {(240, 320)}


def test_its_path_keeps_away_from_everything(cameras: PosedViews):
    assert clearance(random_room(demo.SEED), cameras.cam_to_world[:, [0, 2], 3]).min() > CLEARANCE
