"""The picture of cameras: what is where in it, and that it can be drawn of any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sphere import cameras_at

from mvdiffusion_pack.geometry.cameras import Cameras
from mvdiffusion_pack.geometry.figures import diagram as drawn
from mvdiffusion_pack.geometry.figures.diagram import diagram, headline
from mvdiffusion_pack.geometry.figures.drawing import FINE, SMALL, Labels
from mvdiffusion_pack.geometry.layouts import ring, sphere


def apart(cameras: Cameras, places: list[tuple[float, float, float]]) -> Cameras:
    """The cameras in different places (x, y, z)."""
    cam_to_world = cameras.cam_to_world.clone()
    cam_to_world[:, :3, 3] = torch.tensor(places, dtype=torch.float64)
    return replace(cameras, cam_to_world=cam_to_world, rings=())


def two_fields_of_view() -> Cameras:
    """Of the second camera, the horizontal focal length is half that of the first."""
    cameras = ring(2, 90.0, 64, 64)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[1, 0, 0] /= 2
    return replace(cameras, intrinsics=intrinsics)


def plan(cameras: Cameras) -> np.ndarray:
    """(h, w) how colourful the plan is, about its middle: 0 where it is grey."""
    panel = diagram(cameras)[0, drawn.HEADING // FINE :][: drawn.PLAN // FINE]
    return (panel.amax(-1) - panel.amin(-1)).clamp_min(0.08).sub(0.08).numpy()


def centroid(light: np.ndarray) -> tuple[float, float]:
    """(right, up) of the middle of the light, from -1 to 1."""
    rows, columns = np.indices(light.shape)
    height, width = light.shape
    return 2 * np.average(columns, weights=light) / width - 1, 1 - 2 * np.average(rows, weights=light) / height


def sphere_map(cameras: Cameras) -> torch.Tensor:
    """(h, w) brightness of the map."""
    left, top = drawn.MARGIN // FINE, (drawn.HEADING + drawn.PLAN) // FINE
    width, height = (side // FINE for side in drawn.SPHERE)
    return diagram(cameras)[0, top : top + height, left : left + width].mean(-1)


def brightness(sphere: torch.Tensor, yaw: float, pitch: float) -> float:
    """The middle brightness of the map around a direction in degrees."""
    height, width = sphere.shape
    x, y = round((yaw + 180) / 360 * width), round((90 - pitch) / 180 * height)
    return sphere[y - 8 : y + 8, x - 8 : x + 8].median().item()


ANY = {
    "1 view": ring(1, 90.0, 512, 512),
    "2 views": ring(2, 90.0, 512, 512),
    "8 views": ring(8, 90.0, 512, 512),
    "64 views": ring(64, 90.0, 512, 512),
    "1000 views": ring(1000, 60.0, 1280, 720),
    "straight up": ring(8, 90.0, 512, 512, 0.0, 90.0),
    "straight down": ring(1, 90.0, 512, 512, 0.0, -90.0),
    "narrowest": ring(8, 1.0, 512, 512),
    "widest": ring(3, 179.0, 512, 512),
    "very wide": ring(6, 100.0, 8192, 16),
    "very high": ring(6, 1.0, 16, 8192),
    "sphere": sphere(8, 90, 64, 64),
    "without rings": cameras_at([(0.0, 0.0), (100.0, 20.0)], 90.0, 64, 64),
    "two fields of view": two_fields_of_view(),
}


@pytest.mark.parametrize("cameras", ANY.values(), ids=ANY)
def test_views_in_one_point_are_drawn_with_a_map(cameras):
    picture = diagram(cameras)
    assert picture.dtype == torch.float32
    assert picture.shape == (1, 1202, 1024, 3)
    assert 0 <= picture.min() and picture.max() <= 1


@pytest.mark.parametrize("count", [2, 12, 300])
def test_cameras_in_different_places_are_drawn_without_a_map(count):
    way = torch.linspace(0, 1, count).tolist()
    cameras = apart(ring(count, 60.0, 256, 192), [(3 * t, 0.2 * t, t * t) for t in way])
    assert diagram(cameras).shape == (1, 648, 1024, 3)


def test_cameras_over_each_other_are_drawn():
    assert diagram(apart(ring(2, 60.0, 64, 64), [(0, 0, 0), (0, 1, 0)])).shape == (1, 648, 1024, 3)


@pytest.mark.parametrize(("yaw", "right", "up"), [(0, 0, 1), (90, 1, 0), (180, 0, -1), (-90, -1, 0)])
def test_frustum_points_along_its_yaw(yaw, right, up):
    x, y = centroid(plan(ring(1, 40.0, 64, 64, float(yaw))))
    assert np.sign([round(x, 2), round(y, 2)]).tolist() == [right, up]


def test_cameras_stand_where_they_are():
    """Two that look up from left and right of the middle, the right one farther in front."""
    colourful = plan(apart(cameras_at([(0.0, 0.0)] * 2, 40.0, 64, 64), [(-2, 0, 0), (2, 0, 1)]))
    half = colourful.shape[1] // 2
    left, right = centroid(colourful[:, :half]), centroid(colourful[:, half:])
    assert right[1] > left[1] + 0.2


def test_overlapping_frusta_are_brighter():
    picture = diagram(ring(8, 90.0, 512, 512))[0]
    scale, middle = drawn.RADIUS / FINE, (drawn.HEADING + drawn.PLAN / 2) / FINE
    alone, both = (picture[round(middle - away * scale), 512 - 30].sum() for away in (0.9, 0.7))
    assert both > 1.2 * alone


def test_map_is_dark_where_no_view_looks_and_lighter_where_more_do():
    sphere = sphere_map(ring(8, 90.0, 512, 512))
    levels = [brightness(sphere, 10, pitch) for pitch in (80, 42, 20)]
    assert levels == sorted(levels)
    assert levels[0] < 0.1 < levels[1] < levels[2] - 0.1
    assert brightness(sphere, 10, -80) < 0.1


def test_map_has_yaw_to_the_right_and_pitch_up():
    sphere = sphere_map(cameras_at([(100.0, 40.0)], 40.0, 64, 64))
    assert brightness(sphere, 107, 45) > 0.2
    assert all(brightness(sphere, yaw, pitch) < 0.1 for yaw, pitch in ((-100, 40), (100, -40), (-100, -40)))


@pytest.mark.parametrize(
    ("cameras", "text"),
    [
        (ring(8, 90.0, 512, 512), "8 views, 512 x 512, 90 x 90 degrees, 70 % of the sphere"),
        (ring(1, 100.0, 1280, 720), "1 view, 1280 x 720, 100 x 68 degrees, 14 % of the sphere"),
        (sphere(8, 90, 64, 64), "14 views, 64 x 64, 90 x 90 degrees, 100 % of the sphere"),
        (apart(ring(2, 60.0, 256, 192), [(0, 0, 0), (1, 0, 0)]), "2 views, 256 x 192, 60 x 47 degrees"),
    ],
)
def test_headline_says_what_the_cameras_are(cameras, text):
    assert headline(cameras) == text


def test_headline_gives_the_span_of_different_fields_of_view():
    assert "90 to 127 x 90 degrees" in headline(two_fields_of_view())


def test_headline_never_claims_more_than_there_is():
    cube_without_a_spot = cameras_at([(0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -83)], 90.0, 64, 64)
    assert "99 % of the sphere" in headline(cube_without_a_spot)


def inked(picture: Image.Image) -> int:
    return int((np.asarray(picture).max(-1) > 128).sum())


def written(texts: list[tuple[tuple[float, float], str]], method: str) -> int:
    picture = Image.new("RGB", (400, 400))
    getattr(Labels(picture), method)(texts, SMALL, room=2)
    return inked(picture)


def test_labels_do_not_cover_each_other():
    assert written([((100, 100), "8"), ((103, 101), "8")], "write") == written([((100, 100), "8")], "write")


def test_dense_labels_are_thinned_out_evenly():
    dense = [((40 + 20 * number, 100), "8") for number in range(8)]
    assert written(dense, "write") == written(dense[::2], "write") == 4 * written(dense[:1], "write")


def test_labels_that_belong_together_are_written_together():
    assert written([((100, 100), "8"), ((300, 100), "8")], "write_all") == 2 * written([((100, 100), "8")], "write_all")
    assert written([((100, 100), "8"), ((300, 100), "8"), ((303, 100), "8")], "write_all") == 0
