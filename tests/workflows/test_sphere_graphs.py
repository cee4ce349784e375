"""The graphs that continue a photo, repaint a panorama or fill the sphere, on a real server: what they keep."""

from __future__ import annotations

import io
import json

import comfy_host
import numpy as np
import pytest
import scipy.ndimage
from in_process import ROOT
from PIL import Image
from workflows.conftest import example_panorama

pytestmark = pytest.mark.server


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def nodes(graph: dict, class_type: str) -> list[dict]:
    """The inputs of all nodes of a class, in the graph's order."""
    return [node["inputs"] for node in graph.values() if node["class_type"] == class_type]


def with_demo_model(graph: dict, kind: str) -> dict:
    """The graph with a demo model in place of weights, 128 x 128 views and few steps."""
    for node in graph.values():
        if node["class_type"] == "MVDiffusionLoadCheckpoint":
            node |= {"class_type": "MVDiffusionLoadDemo", "inputs": {"kind": kind}}
    for cameras in nodes(graph, "MVDiffusionPanoramaCameras"):
        cameras |= {"width": 128, "height": 128}
    for sampler in nodes(graph, "MVDiffusionKSampler"):
        sampler |= {"steps": 4, "cfg": 3.0}
    return graph


def saved_panorama(server: comfy_host.Server, prompt: dict) -> np.ndarray:
    """(height, width, 3) numbers 0..255 of what Save Panorama wrote in a run."""
    entry = server.wait(server.queue(prompt))
    (saver,) = [id for id, node in prompt.items() if node["class_type"] == "MVDiffusionSavePanorama"]
    (file,) = entry["outputs"][saver]["images"]
    return np.asarray(Image.open(io.BytesIO(server.view(**file))).convert("RGB"), dtype=int)


def photo(pixels: np.ndarray, server: comfy_host.Server, name: str) -> str:
    Image.fromarray(pixels).save(server.workdir / "input" / name)
    return name


@pytest.fixture(scope="module")
def outpainted(server: comfy_host.Server) -> dict[str, np.ndarray]:
    """The panoramas that demo_image_to_panorama makes around a photo that fills view 0, as it is and mirrored."""
    prompt = graph("demo_image_to_panorama")
    (place,) = (node for node in prompt.values() if node["class_type"] == "ImageFromBatch")
    nodes(prompt, "MVDiffusionKSampler")[0]["steps"] = 6
    for turned in nodes(prompt, "PrimitiveFloat"):
        turned["value"] = 0
    pictures = {}
    for name, pixels in (("as it is", example_panorama()), ("mirrored", example_panorama()[:, ::-1])):
        place.update(class_type="LoadImage", inputs={"image": photo(pixels, server, f"{name}.png")})
        pictures[name] = saved_panorama(server, prompt)
    return pictures


def photo_in_panorama(pixels: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a panorama shows a photo, 90 degrees wide and straight ahead, except near its edges; its colours there."""
    from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions

    height, across = pixels.shape[0], pixels.shape[1]
    x, y, z = equirect_directions(width, width // 2).numpy().transpose(2, 0, 1)
    ahead = np.where(z > 0.1, z, np.inf)
    column, row = (x / ahead * across + across) / 2 - 0.5, (y / ahead * across + height) / 2 - 0.5
    margin = across // 8
    inside = (
        (z > 0.1) & (abs(column - across / 2) < across / 2 - margin) & (abs(row - height / 2) < height / 2 - margin)
    )
    left, top = np.floor(column[inside]).astype(int), np.floor(row[inside]).astype(int)
    right_share, low_share = (column[inside] - left)[:, None], (row[inside] - top)[:, None]
    upper = pixels[top, left] * (1 - right_share) + pixels[top, left + 1] * right_share
    lower = pixels[top + 1, left] * (1 - right_share) + pixels[top + 1, left + 1] * right_share
    return inside, upper * (1 - low_share) + lower * low_share


def test_photo_lies_in_the_panorama_as_it_is(outpainted):
    picture = outpainted["as it is"]
    assert picture.shape == (512, 1024, 3)
    inside, colours = photo_in_panorama(example_panorama(), 1024)
    assert 0.02 < inside.mean() < 0.1
    assert np.abs(picture[inside] - colours).mean() < 2


def test_photo_decides_what_is_painted_beside_it(outpainted):
    beside = np.s_[192:320, 656:720]  # 50 to 73 degrees to the right: just beyond the edge of the photo
    for picture in outpainted.values():
        assert picture[beside].std(axis=(0, 1)).min() > 3
    assert np.abs(outpainted["as it is"][beside] - outpainted["mirrored"][beside]).mean() > 0.5


def painted_over(columns: list[slice]) -> np.ndarray:
    """(512, 1024, 4) bytes of the example panorama as the mask editor saves it: transparent where painted over."""
    pixels = np.full((512, 1024, 4), 255, dtype=np.uint8)
    pixels[..., :3] = example_panorama()
    for some in columns:
        pixels[200:320, some, 3] = 0
    return pixels


def repainted(server: comfy_host.Server, pixels: np.ndarray, noise_mask: bool) -> np.ndarray:
    prompt = with_demo_model(graph("inpaint_panorama"), "outpainting")
    (loader,) = nodes(prompt, "LoadImage")
    loader["image"] = photo(pixels, server, "painted_over.png")
    nodes(prompt, "InpaintModelConditioning")[0]["noise_mask"] = noise_mask
    return saved_panorama(server, prompt)


@pytest.mark.parametrize("noise_mask", [False, True])
def test_repainted_panorama_keeps_what_was_not_painted_over(server: comfy_host.Server, noise_mask: bool):
    pixels = painted_over([slice(940, 1024), slice(0, 60)])
    picture = repainted(server, pixels, noise_mask)
    painted = pixels[..., 3] == 0
    near = scipy.ndimage.grey_dilation(painted, size=121, mode="wrap")  # 8 + 8 + 4 pixels of views 128 wide, 2.5 here
    np.testing.assert_array_equal(picture[~near], example_panorama()[~near])
    assert np.abs(picture[painted] - example_panorama()[painted]).mean() > 10


def test_repainted_part_shows_no_edge_where_the_panorama_meets_itself(server: comfy_host.Server):
    """The paint ends at the right edge of the picture; what is new fades out beyond it, at the left edge."""
    picture = repainted(server, painted_over([slice(940, 1024)]), True)
    change = np.abs(picture - example_panorama())[210:310].mean(axis=(0, 2))
    steps = np.abs(np.diff(picture, axis=1, append=picture[:, :1]))[210:310].mean(axis=(0, 2))
    assert change[0] > 0.5 * change[-1] > 1
    assert change[200:800].max() == 0
    assert steps[-1] < 2 * steps[940:1023].max()


def test_full_sphere_has_sky_and_floor_and_keeps_the_ring(server: comfy_host.Server):
    prompt = with_demo_model(graph("full_sphere"), "panorama")
    *_, over = stitchers = nodes(prompt, "MVDiffusionStitchEquirect")
    for stitcher in stitchers:
        stitcher["width"] = 512
    whole = saved_panorama(server, prompt)
    for rows in (slice(0, 40), slice(-40, None)):
        assert whole[rows].std(axis=(0, 1)).min() > 1.5 and whole[rows].mean(axis=2).min() > 0
    del over["background"]
    nodes(prompt, "MVDiffusionSavePanorama")[0]["filename_prefix"] += "_ring"
    ring = saved_panorama(server, prompt)
    np.testing.assert_array_equal(whole[128 - 45 : 128 + 45], ring[128 - 45 : 128 + 45])  # 32 degrees up and down
    assert ring[:30].max() == 0


def test_demo_model_paints_ceiling_walls_and_floor_all_around(server: comfy_host.Server):
    prompt = graph("demo_full_sphere")
    coarse, fine = nodes(prompt, "MVDiffusionKSampler")
    coarse["steps"], fine["steps"] = 8, 2
    picture = saved_panorama(server, prompt)
    assert picture.shape == (1024, 2048, 3)
    assert picture.max(axis=2).min() > 0  # something everywhere
    rows = slice(0, 120), slice(400, 500), slice(-200, None)
    ceiling, wall, floor = (picture[part].mean(axis=(0, 1)) for part in rows)
    assert np.ptp(ceiling) < 0.5 * np.ptp(wall)  # grey over blue
    assert wall[2] > wall[0] + 20
    assert floor[0] > floor[2] + 20  # wooden


def with_one_line(graph: dict) -> dict:
    """The graph with one prompt for all views, however many there are."""
    for node in nodes(graph, "MVDiffusionTextEncode"):
        node["text"] = node["text"].split("\n")[0]
    return graph


@pytest.mark.parametrize(
    "cameras",
    [{"layout": "sphere"}, {"layout": "rings", "views": 8, "pitches": "0, 60, -60"}],
    ids=["14 views", "3 rings of 8"],
)
def test_whole_spheres_run_end_to_end(server: comfy_host.Server, cameras: dict):
    prompt = with_one_line(graph("demo_panorama"))
    nodes(prompt, "MVDiffusionPanoramaCameras")[0].update({"width": 64, "height": 64} | cameras)
    nodes(prompt, "MVDiffusionKSampler")[0]["steps"] = 2
    picture = saved_panorama(server, prompt)
    assert picture.shape == (512, 1024, 3)
    assert picture.max(axis=2).min() > 0  # nothing is left black
    assert picture.std(axis=(0, 1)).min() > 5


def test_cube_is_refused_with_what_to_choose(server: comfy_host.Server):
    prompt = with_one_line(graph("demo_panorama"))
    nodes(prompt, "MVDiffusionPanoramaCameras")[0]["layout"] = "cube"
    with pytest.raises(comfy_host.ExecutionError, match=r"cannot be sampled\. Choose ring, sphere or rings"):
        server.wait(server.queue(prompt))
