"""Geometry of the host's own Depth Anything 3: its conventions, by a model whose pose head gives known numbers."""

from __future__ import annotations

import math
import re

import pytest
import torch

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.sequence.da3 import da3_frames

pytestmark = pytest.mark.host

FOV_HEIGHT, FOV_WIDTH = 1.0, 1.3  # radians
POSITION, YAW = (0.1, -0.2, 0.3), 0.4
WIDTH, HEIGHT = 131, 90  # the model runs at 140 x 98


@pytest.fixture(scope="module")
def nodes(comfy):
    return pytest.importorskip("comfy_extras.nodes_depth_anything_3", reason="this host has no Depth Anything 3")


@pytest.fixture(scope="module")
def model(nodes):
    """A small model with random weights, which sees all cameras in one place with one field of view."""
    import comfy.ops
    import comfy.sd
    from comfy.ldm.depth_anything_3.model import DepthAnything3Net

    network = DepthAnything3Net(
        backbone_name="vits",
        out_layers=(5, 7, 9, 11),
        alt_start=4,
        qknorm_start=4,
        rope_start=4,
        cat_token=True,
        head_type="dualdpt",
        head_dim_in=768,
        head_output_dim=2,
        head_features=64,
        head_out_channels=(48, 96, 192, 384),
        has_cam_dec=True,
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: 0.02 * torch.randn(weight.shape, generator=generator) for name, weight in network.state_dict().items()
    }
    known = {
        "fc_t": POSITION,
        "fc_qvec": (0, math.sin(YAW / 2), 0, math.cos(YAW / 2)),  # the real part last
        "fc_fov.0": (FOV_HEIGHT, FOV_WIDTH),
    }
    for layer, numbers in known.items():
        weights[f"cam_dec.{layer}.weight"].zero_()
        weights[f"cam_dec.{layer}.bias"] = torch.tensor(numbers, dtype=torch.float32)
    return comfy.sd.load_diffusion_model_state_dict(weights)


def run(nodes, model, mode: str = "multiview", pictures: int = 3) -> dict:
    """DA3_GEOMETRY of noise."""
    images = torch.rand((pictures, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(1))
    mode = {"mode": mode, "ref_view_strategy": "saddle_balanced", "pose_method": "cam_dec"}
    return nodes.DA3Inference.execute(model, images, 140, "upper_bound_resize", mode).args[0]


def test_intrinsics_are_those_of_the_model_s_field_of_view(nodes, model):
    for frame in da3_frames(run(nodes, model)):
        assert frame.depth.shape == (HEIGHT, WIDTH) and frame.image.shape == (HEIGHT, WIDTH, 3)
        expected = torch.tensor(
            [
                [WIDTH / 2 / math.tan(FOV_WIDTH / 2), 0, (WIDTH - 1) / 2],
                [0, HEIGHT / 2 / math.tan(FOV_HEIGHT / 2), (HEIGHT - 1) / 2],
                [0, 0, 1],
            ],
            dtype=torch.float64,
        )
        torch.testing.assert_close(frame.intrinsics, expected, rtol=1e-5, atol=1e-6)


def test_poses_are_those_of_the_model(nodes, model):
    """Which decodes the camera's own position and the rotation of its axes in the world."""
    for frame in da3_frames(run(nodes, model), depth_scale=2):
        torch.testing.assert_close(frame.cam_to_world[:3, 3], 2 * torch.tensor(POSITION).double(), rtol=0, atol=1e-5)
        forward = torch.tensor([math.sin(YAW), 0, math.cos(YAW)], dtype=torch.float64)
        torch.testing.assert_close(frame.cam_to_world[:3, 2], forward, rtol=0, atol=1e-5)


def test_confidence_is_one_and_more(nodes, model):
    geometry = run(nodes, model)
    assert geometry["confidence"].shape == geometry["depth"].shape and geometry["confidence"].min() >= 1


@pytest.mark.parametrize("settings, match", [({"mode": "mono"}, "single pictures"), ({"pictures": 1}, "identities")])
def test_geometry_without_poses_is_refused(nodes, model, settings, match):
    from mvdiffusion_pack.nodes.remedies import sentence

    with pytest.raises(InputError) as raised:
        da3_frames(run(nodes, model, **settings))
    assert re.match(rf"Depth Cameras: .*{match}.*multiview", sentence("Depth Cameras", raised.value))


def test_rays_give_camera_to_world_and_focal_lengths_of_half_the_picture(comfy):
    """What `ray_pose` decodes: the model then multiplies by its size, and inverts the pose, as with `cam_dec`."""
    ray_pose = pytest.importorskip("comfy.ldm.depth_anything_3.ray_pose", reason="this host has no Depth Anything 3")
    height, width, focal = 28, 42, (1.5, 1.7)
    y, x = torch.meshgrid(*((torch.arange(n) + 0.5) * 2 / n - 1 for n in (height, width)), indexing="ij")
    rotation = torch.tensor(
        [[math.cos(YAW), 0, math.sin(YAW)], [0, 1, 0], [-math.sin(YAW), 0, math.cos(YAW)]], dtype=torch.float32
    )
    directions = torch.stack((x / focal[0], y / focal[1], torch.ones_like(x)), dim=-1) @ rotation.T
    rays = torch.cat((directions, torch.tensor(POSITION).expand_as(directions)), dim=-1)[None, None]
    pose, found, middle = ray_pose.get_extrinsic_from_camray(rays, torch.ones(rays.shape[:-1]), height, width)
    torch.testing.assert_close(pose[0, 0, :3, :3], rotation, rtol=0, atol=1e-5)
    torch.testing.assert_close(pose[0, 0, :3, 3], torch.tensor(POSITION), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0, 0], torch.tensor(focal), rtol=1e-4, atol=0)
    torch.testing.assert_close(middle[0, 0], torch.ones(2), rtol=0, atol=1e-4)
