"""Folders in ScanNet's layout: read back as they were written."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from rooms import pose, seen, walk

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.geometry.sequence.frames import posed_views
from mvdiffusion_pack.geometry.sequence.reading import read_frames
from mvdiffusion_pack.geometry.sequence.scannet import write_sequence


@pytest.fixture(scope="module")
def views() -> tuple[PosedViews, torch.Tensor]:
    """The cameras and images of four views with intrinsics of their own."""
    frames = [seen(str(3 * i), pose(15 * i, (0.1 * i, 0, 0.2)), 64, 48, 70 + i) for i in range(4)]
    cameras, images, _ = posed_views(frames, 64, 48, 0.3, 0.6)
    return cameras, images


def test_what_is_written_is_read_back(views, tmp_path):
    cameras, images = views
    images = (images * 255).round() / 255
    written = write_sequence(tmp_path / "views", cameras, images, "png", ["a bed", "a lamp", "", "枕"])
    assert written == tmp_path / "views"
    frames = list(read_frames(written))
    assert [frame.name for frame in frames] == list(cameras.names)
    assert [frame.prompt for frame in frames] == ["a bed", "a lamp", "", "枕"]
    for view, frame in enumerate(frames):
        assert torch.equal(frame.cam_to_world, cameras.cam_to_world[view])
        assert torch.equal(frame.intrinsics, cameras.intrinsics[view])
        assert torch.equal(frame.depth, cameras.depth[view])
        assert torch.equal(frame.image, images[view])


metres = arrays.arrays(np.float32, (64, 64), elements=st.floats(0, 80, width=32))
angle = st.floats(-180, 180)


@settings(max_examples=25, deadline=None)
@given(depth=metres, yaw=angle, pitch=angle, x=st.floats(-1e3, 1e3), focal=st.floats(20, 200), cx=st.floats(20, 40))
def test_any_view_is_read_back(tmp_path_factory, depth, yaw, pitch, x, focal, cx):
    depth[0, 0] = 1.25
    intrinsics = torch.tensor([[focal, 0, cx], [0, focal / 3 + 20, cx], [0, 0, 1]], dtype=torch.float64)
    cam_to_world = pose(yaw, (x, x / 3, -x / 7), pitch)
    two = PosedViews(
        torch.stack((intrinsics, intrinsics)),
        torch.stack((cam_to_world, pose(pitch))),
        64,
        64,
        depth=torch.from_numpy(depth).repeat(2, 1, 1),
    )
    written = write_sequence(tmp_path_factory.mktemp("any") / "views", two, torch.zeros(2, 64, 64, 3))
    frame = next(read_frames(written))
    assert torch.equal(frame.cam_to_world, cam_to_world) and torch.equal(frame.intrinsics, intrinsics)
    expected = np.where(depth.astype(np.float64) * 1000 < 65535.5, depth, 0)
    assert np.abs(frame.depth.double().numpy() - expected).max() <= 0.0005 + 1e-5


def test_depth_beyond_16_bits_is_no_reading(views, tmp_path):
    cameras, images = views
    depth = cameras.depth.clone()
    depth[0, 0, :3] = torch.tensor([65.535, 65.536, 300.0])
    far = PosedViews(cameras.intrinsics, cameras.cam_to_world, 64, 48, depth=depth)
    frame = next(read_frames(write_sequence(tmp_path / "views", far, images)))
    assert frame.depth[0, :3].tolist() == pytest.approx([65.535, 0, 0])


def test_shared_intrinsics_are_written_once_as_scannet_has_them(tmp_path):
    cameras, images, _ = posed_views(walk(3), 64, 64, 0.3, 0.6)
    written = write_sequence(tmp_path / "views", cameras, images)
    assert sorted(os.listdir(written / "intrinsic")) == ["intrinsic_color.txt", "intrinsic_depth.txt"]
    matrix = np.loadtxt(written / "intrinsic" / "intrinsic_depth.txt")
    assert matrix.shape == (4, 4) and (matrix[:3, :3] == cameras.intrinsics[0].numpy()).all()


def test_colour_intrinsics_are_those_of_larger_images(views, tmp_path):
    """A point at a pixel's corner of the depth map is at a corner of the image, twice as far from its own corner."""
    cameras, images = views
    large = images.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    written = write_sequence(tmp_path / "views", cameras, large)
    depth, colour = (np.loadtxt(written / "intrinsic" / f"intrinsic_{part}.txt")[:3, :3] for part in ("depth", "color"))
    corner = np.linalg.solve(depth, [31.5, 7.5, 1])
    np.testing.assert_allclose(colour @ corner, [63.5, 15.5, 1], rtol=0, atol=1e-9)
    assert Image.open(next((written / "color").iterdir())).size == (128, 96)


def test_jpeg_is_nearly_the_image(views, tmp_path):
    cameras, images = views
    written = write_sequence(tmp_path / "views", cameras, images, "jpeg")
    assert {path.suffix for path in (written / "color").iterdir()} == {".jpg"}
    assert (next(read_frames(written)).image - images[0]).abs().max() < 0.03


def test_folder_that_exists_is_left_as_it_is(views, tmp_path):
    cameras, images = views
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "mine.txt").write_text("mine", encoding="utf-8")
    written = [write_sequence(tmp_path / "views", cameras, images) for _ in range(2)]
    assert [path.name for path in written] == ["views_2", "views_3"]
    assert os.listdir(tmp_path / "views") == ["mine.txt"]


def test_failure_leaves_nothing(views, tmp_path, monkeypatch):
    cameras, images = views
    monkeypatch.setattr(np, "savetxt", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_sequence(tmp_path / "views", cameras, images)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda images: images.repeat(2, 1, 1, 1), "there are 8 images and 4 cameras"),
        (lambda images: images[:1], "there is 1 image and 4 cameras"),
        (lambda images: images[:, :40], "the images are 64 x 40 pixels and the cameras' views 64 x 48"),
        (lambda images: images * torch.nan, "NaN or infinite numbers in the images$"),
    ],
    ids=["two panoramas", "one", "cropped", "nan"],
)
def test_images_that_do_not_fit_are_refused_and_nothing_is_written(views, tmp_path, change, said):
    cameras, images = views
    with pytest.raises(InputError, match=said):
        write_sequence(tmp_path / "views", cameras, change(images))
    assert os.listdir(tmp_path) == []


def test_prompts_of_other_cameras_are_refused(views, tmp_path):
    with pytest.raises(InputError, match="3 prompts and 4 cameras"):
        write_sequence(tmp_path / "views", *views, prompts=["a"] * 3)


def test_views_of_one_name_are_refused(views, tmp_path):
    cameras, images = views
    with pytest.raises(InputError, match="different numbers, not 0, 3, 0, 9"):
        write_sequence(tmp_path / "views", cameras.subset((0, 1, 0, 3)), images)
