"""Panorama Cameras in the host."""

from __future__ import annotations

import re

import comfy_nodes
import pytest
import torch

pytestmark = pytest.mark.host


def test_preview_is_the_picture_of_the_cameras(comfy):
    from mvdiffusion_pack.geometry.figures.diagram import diagram
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras

    with torch.inference_mode():  # as the host's executor runs nodes
        cameras, preview = PanoramaCameras.execute("ring", 5, 100.0, 320, 256, 30.0, 10.0).args
    assert torch.equal(preview, diagram(cameras))


def cameras_of(layout: str, **changes):
    """The cameras of the node, 64 x 64 and 90 degrees wide unless told otherwise."""
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras

    settings = dict(layout=layout, views=8, fov=90.0, width=64, height=64, start_yaw=20.0, pitch=10.0)
    return PanoramaCameras.execute(**(settings | changes)).args[0]


def test_each_layout_is_the_function_of_its_name(comfy):
    from mvdiffusion_pack.geometry.layouts import cube, ring, rings, sphere

    expected = {
        "ring": ring(8, 90, 64, 64, 20, 10),
        "sphere": sphere(8, 90, 64, 64, 20),
        "rings": rings(8, 90, 64, 64, 20, (0, 60, -60)),
        "cube": cube(64, 64, 20),
    }
    for layout, cameras in expected.items():
        found = cameras_of(layout)
        assert torch.equal(found.cam_to_world, cameras.cam_to_world) and found.rings == cameras.rings


def test_pitches_are_read_for_rings(comfy):
    assert cameras_of("rings", views=2, pitches="-20; 30 45").rings == (2, 2, 2)
    with pytest.raises(ValueError, match=r"Panorama Cameras: pitches must be .* not 'up'"):
        cameras_of("rings", pitches="up")


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.mark.parametrize(
    "changes", [{"layout": "sphere"}, {"layout": "rings", "views": 4, "fov": 110.0}], ids=["sphere", "rings"]
)
def test_whole_spheres_are_sampled_and_their_rings_know_of_each_other(demo, changes):
    cameras = cameras_of(**changes)
    first = demo.sample(cameras=cameras)
    assert first.shape == (cameras.views, 4, 8, 8)
    assert torch.isfinite(first).all() and first.std() > 0.1
    # What a view of the last ring is told to show reaches the first ring, in the first step already.
    text = demo.positive[0][0].expand(cameras.views, -1, -1).clone()
    text[-1] += 1
    other = demo.sample(cameras=cameras, positive=[[text, {}]])
    in_first_ring = [view for view in range(cameras.rings[0]) if not torch.equal(first[view], other[view])]
    assert in_first_ring


def test_cube_is_refused_by_samplers(demo):
    with pytest.raises(ValueError, match=r"faces of a cube do not overlap.*Choose ring, sphere or rings"):
        demo.sample(cameras=cameras_of("cube"))


FOV, PITCHES = (
    "larger fov or more views",
    "different rings must share more than 5 %. Use a larger fov, squarer views, or ",
)


@pytest.mark.parametrize(
    ("changes", "views", "remedy"),
    [
        (
            {"layout": "sphere", "fov": 40.0},
            "1 to 13 of 14 do",
            f"in a level ring of 8 fov must be above 45. Use a {FOV}",
        ),
        ({"views": 7, "fov": 51.0, "pitch": 0.0}, "1 to 6 of 7 do", "in a level ring of 7 fov must be above 51.5. Use"),
        ({"views": 2, "pitch": 0.0}, "1 of 2 does", "two level views never overlap. Use 3 or more in a ring"),
        ({"fov": 20.0, "pitch": 30.0}, "1 to 7 of 8 do", f"use a {FOV} in each ring"),
        ({"views": 2, "pitch": 10.0}, "1 of 2 does", f"use a {FOV} in each ring"),
        ({"layout": "rings", "views": 12, "fov": 60.0}, "12 to 35 of 36 do", PITCHES),
        ({"layout": "rings", "pitches": "45, -45"}, "8 to 15 of 16 do", PITCHES),
        ({"layout": "rings", "views": 1, "pitches": "0, 10, -89"}, "2 of 3 does", PITCHES),
        ({"layout": "sphere", "width": 128}, "8 to 13 of 14 do", PITCHES),
    ],
    ids=["narrow", "seven", "two", "pitched", "two pitched", "rings apart", "no level ring", "column", "wide"],
)
def test_views_that_do_not_overlap_the_others_are_named_with_what_would_help(demo, changes, views, remedy):
    settings = {"layout": "ring"} | changes
    with pytest.raises(ValueError) as raised:
        demo.sample(cameras=cameras_of(**settings))
    others = "nor a view that does" if views.endswith("does") else "nor views that do"
    start = f"Panorama Cameras: view{'' if others.endswith('does') else 's'} {views} not overlap view 0, {others}, and "
    assert str(raised.value).startswith(f"{start}could not agree with it: ")
    assert remedy in str(raised.value) and ("level ring" in remedy) == ("level ring" in str(raised.value))


@pytest.mark.parametrize("views", [3, 7, 8, 11, 13])
def test_field_of_view_that_a_narrow_ring_is_told_is_enough(demo, views):
    with pytest.raises(ValueError) as raised:
        demo.sample(cameras=cameras_of("ring", views=views, fov=360 / views - 0.1, pitch=0.0))
    fov = float(re.search(r"fov must be above ([\d.]+)\. ", str(raised.value))[1])
    assert demo.sample(cameras=cameras_of("ring", views=views, fov=fov + 0.01, pitch=0.0), steps=1).shape[0] == views


def test_unknown_layout_is_refused(comfy):
    with pytest.raises(ValueError, match="layout must be one of ring, sphere, rings, cube, not 'helix'"):
        cameras_of("helix")
