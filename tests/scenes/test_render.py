"""Rendered rooms: depth, things and pictures that agree with geometry, with each other and with analytic values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mvdiffusion_pack.geometry.cameras import Cameras, intrinsics_from_fov, pixel_grid, rotation_from_angles
from mvdiffusion_pack.geometry.depth import carry, depth_projection, lift
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.scenes.furniture import Finish, Part, Piece, on
from mvdiffusion_pack.scenes.paths import walk
from mvdiffusion_pack.scenes.render import render
from mvdiffusion_pack.scenes.room import Room, random_room

GREY = Finish((0.5, 0.5, 0.5))
SIZE = (4.0, 2.5, 6.0)


def closed(*parts: Part) -> Room:
    """A grey room of SIZE, thing 0, with one more thing in it."""
    walls = [Part("box", (side * 2.5, -1, 0), (1, 6, 9), GREY) for side in (-1, 1)]
    ends = [Part("box", (0, -1, side * 3.5), (6, 6, 1), GREY) for side in (-1, 1)]
    slabs = [on("box", 0, bottom, 0, (6, 1, 9), GREY) for bottom in (-1, SIZE[1])]
    return Room.of(SIZE, [Piece("walls", [*walls, *ends, *slabs]), Piece("thing", list(parts))])


def looking(width: int, height: int, yaw_deg: float = 0.0, pitch_deg: float = 0.0, fov_deg: float = 60.0) -> Cameras:
    """One camera 1.2 m above the floor, 2 m behind the room's middle."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation_from_angles(yaw_deg, pitch_deg), torch.tensor([0, -1.2, -2])
    return Cameras(intrinsics_from_fov(fov_deg, width, height)[None], pose[None], width, height)


def check_agreement(room: Room, cameras: Cameras, view: int, other: int, points: int = 120) -> None:
    """Points that a view sees have, from another one, the depth and thing that geometry says, unless they are hidden.

    Each is looked at by a camera of one pixel, whose centre it is in exactly.
    """
    width, height = cameras.width, cameras.height
    mine = render(room, subset(cameras, [view]), 1)
    lifted = lift(pixel_grid(width, height), mine.depth[0]).flatten(1)
    matrix = depth_projection(cameras, other, view)
    at, z = carry(matrix, lifted), matrix[2] @ torch.cat((lifted, torch.ones_like(lifted[:1])))
    inside = ((at > 0) & (at < torch.tensor([[width - 1], [height - 1]]))).all(0).nonzero()[:, 0]
    assert len(inside) > width * height / 5
    chosen = inside[torch.linspace(0, len(inside) - 1, points).long()]
    intrinsics = cameras.intrinsics[other].repeat(points, 1, 1)
    intrinsics[:, :2, 2] -= at[:, chosen].mT
    theirs = render(room, Cameras(intrinsics, cameras.cam_to_world[other].repeat(points, 1, 1), 1, 1), 1)
    nearer = z[chosen] - theirs.depth.flatten()
    # A ray that grazes an edge may pass it: one point may.
    assert (nearer < -1e-4).sum() <= 1
    visible = nearer.abs() <= 1e-4
    assert visible.sum() > 0.7 * points
    assert (theirs.things.flatten() != mine.things.flatten()[chosen])[visible].sum() <= 1


def subset(cameras: Cameras, views: list[int]) -> Cameras:
    return Cameras(cameras.intrinsics[views], cameras.cam_to_world[views], cameras.width, cameras.height)


@pytest.mark.parametrize("seed", range(3))
def test_points_have_the_same_depth_and_thing_in_another_view(seed: int):
    room = random_room(seed)
    cameras = walk(room, seed, 9, 96, 72)
    check_agreement(room, cameras, 4, 5)


def test_a_panorama_in_a_room_has_neighbours_that_agree():
    room = random_room(4)
    level = ring(8, 90.0, 64, 64)
    cam_to_world = level.cam_to_world.clone()
    cam_to_world[:, :3, 3] = walk(room, 0, 1, 64, 64).cam_to_world[0, :3, 3]
    cameras = replace(level, cam_to_world=cam_to_world)
    for view in range(0, 8, 3):
        check_agreement(room, cameras, view, (view + 1) % 8)


def test_depth_of_a_sphere():
    room = closed(Part("sphere", (0, -1.2, 1), (1, 1, 1), GREY))
    rendering = render(room, looking(65, 49), 1)
    x, y = ((pixel_grid(65, 49) - torch.tensor([32, 24])) / (32.5 / math.tan(math.radians(30)))).unbind(-1)
    square = x**2 + y**2 + 1
    inside = 9 - square * (9 - 0.25)
    expected = torch.where(inside >= 0, (3 - inside.clamp(min=0).sqrt()) / square, 0)
    hit = rendering.things[0] == 1
    assert torch.equal(hit, expected > 0) and hit.sum() > 100
    torch.testing.assert_close(rendering.depth[0].double()[hit], expected[hit], atol=1e-5, rtol=0)


def test_depth_of_a_turned_box_and_of_the_wall_behind_it():
    room = closed(Part("box", (0, -1.2, 1), (1, 1, 1), GREY, yaw=math.pi / 4))
    rendering = render(room, looking(65, 49), 1)
    # The edge towards the camera, and along the row from it faces at 45 degrees.
    tangent = (torch.arange(33, 38) - 32) / (32.5 / math.tan(math.radians(30)))
    torch.testing.assert_close(rendering.depth[0, 24, 33:38], (3 - math.sqrt(0.5)) / (1 - tangent), atol=1e-5, rtol=0)
    torch.testing.assert_close(rendering.depth[0, 11, 32].item(), 5.0, atol=1e-5, rtol=0)
    assert rendering.things[0, [11, 24], 32].tolist() == [0, 1]


def test_depth_of_a_cylinder_and_its_lid():
    room = closed(Part("cylinder", (0, -0.5, 1), (1, 1, 1), GREY))
    down = render(room, looking(65, 49, pitch_deg=-20), 1)
    across = render(room, replace_height(looking(65, 49), 0.5), 1)
    torch.testing.assert_close(across.depth[0, 24, 32].item(), 2.5, atol=1e-5, rtol=0)
    lid = lift(pixel_grid(65, 49), down.depth[0])
    camera = looking(65, 49, pitch_deg=-20)
    world = torch.einsum("ij,jhw->ihw", camera.rotation[0] @ torch.linalg.inv(camera.intrinsics[0]), lid)
    up = (1.2 - world[1])[down.things[0] == 1]
    assert ((up - 1).abs() < 1e-5).sum() > 15 and (up < 1 + 1e-5).all()


def replace_height(camera: Cameras, height: float) -> Cameras:
    cam_to_world = camera.cam_to_world.clone()
    cam_to_world[:, 1, 3] = -height
    return replace(camera, cam_to_world=cam_to_world)


def test_edges_are_near_those_of_a_large_rendering():
    room = random_room(2)
    small, large = (walk(room, 1, 1, 48 * scale, 36 * scale) for scale in (1, 4))
    expected = render(room, large, 3).images.view(1, 36, 4, 48, 4, 3).mean((2, 4))
    antialiased, aliased = ((render(room, small, samples).images - expected).abs() for samples in (3, 1))
    assert antialiased.mean() < 0.01
    assert antialiased.mean() < aliased.mean() / 3


def test_the_size_of_pieces_does_not_show():
    room = random_room(1)
    cameras = walk(room, 0, 2, 40, 30)
    whole, pieces = (render(room, cameras, 2, pairs=pairs, engine="torch") for pairs in (2**24, 2**14))
    assert torch.equal(whole.depth, pieces.depth) and torch.equal(whole.things, pieces.things)
    torch.testing.assert_close(whole.images, pieces.images, atol=1e-5, rtol=0)


def test_pictures_are_in_range_and_lit():
    room = random_room(0)
    rendering = render(room, walk(room, 0, 1, 40, 30), 2)
    assert rendering.images.dtype == torch.float32 and rendering.things.dtype == torch.int64
    assert rendering.images.min() >= 0 and rendering.images.max() <= 1
    assert 0.2 < rendering.images.mean() < 0.85


def test_a_shadow_lies_under_a_board():
    """The lamp hangs over the middle of the room."""
    board = on("box", 0, 0.8, 0, (0.8, 0.02, 0.8), GREY)
    bare = closed(on("box", 1.9, 0, 2.9, (0.01, 0.01, 0.01), GREY))
    camera = replace_height(looking(33, 25, pitch_deg=-19), 0.7)
    shaded, lit = (render(room, camera, 1) for room in (closed(board), bare))
    floor = (shaded.things == 0) & (lit.things == 0) & (lit.depth == shaded.depth)
    darker = (lit.images - shaded.images).amax(-1)[floor]
    assert (darker > 0.1).any() and (darker >= -1e-6).all()


def test_cameras_outside_of_the_room_are_refused():
    cameras = looking(8, 6)
    with pytest.raises(ValueError, match="Camera 0 stands outside of the room"):
        render(closed(on("box", 0, 0, 0, (1, 1, 1), GREY)), replace_height(cameras, 2.6), 1)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least 1 sample"):
        render(random_room(0), looking(8, 6), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_device_renders_what_the_cpu_does():
    room = random_room(1)
    cameras = walk(room, 0, 2, 64, 48)
    here, there = render(room, cameras, engine="torch"), render(room, cameras, device="cuda")
    # Rays along edges may fall to either side.
    assert ((there.depth.cpu() - here.depth).abs() < 1e-4).double().mean() > 0.998
    assert (there.images.cpu() - here.images).abs().mean() < 1e-3
