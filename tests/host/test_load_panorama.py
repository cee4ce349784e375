"""Load Panorama and Rotate Panorama in the host: what was saved comes back, and what cannot be opened is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch) -> Path:
    """A folder with the host's folders input and output, empty."""
    import folder_paths

    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


@pytest.fixture
def load(folders):
    from mvdiffusion_pack.nodes.panorama_files import LoadPanorama

    return LoadPanorama


def noise(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 255).round() / 255


def write(path: Path, height: int = 20, width: int = 40) -> torch.Tensor:
    """A picture of noise, as (h, w, 3) in 0..1."""
    picture = noise(height, width, 3)
    Image.fromarray((picture * 255).round().byte().numpy()).save(path)
    return picture


@pytest.mark.parametrize("start_yaw", [0.0, 135.0])
@pytest.mark.parametrize("cropped", [False, True])
def test_what_save_panorama_wrote_comes_back(load, folders, cropped, start_yaw):
    """Where viewers look first turns nothing."""
    from mvdiffusion_pack.nodes.output import PreviewPanorama, SavePanorama
    from mvdiffusion_pack.nodes.panorama import EquirectToViews

    coverage = torch.zeros(1, 40, 80)
    coverage[:, 8:28, 10:70] = 1
    picture = noise(1, 40, 80, 3) * (coverage[..., None] if cropped else 1)
    SavePanorama.execute(picture, "pano", "png", start_yaw, coverage if cropped else None)
    name = f"{next((folders / 'output').glob('pano*')).name} [output]"
    assert load.validate_inputs(name) is True
    equirect, covers = load.execute(name).args
    assert torch.equal(equirect, picture.to(equirect))
    assert torch.equal(covers, coverage if cropped else torch.ones_like(coverage))
    from mvdiffusion_pack.geometry.layouts import ring

    views, masks = EquirectToViews.execute(equirect, ring(4, 100.0, 16, 16), covers).args
    assert views.shape == (4, 16, 16, 3) and bool(masks.any())
    assert PreviewPanorama.execute(equirect, covers).ui


def test_list_and_upload_are_those_of_load_image(load, folders):
    import nodes

    write(folders / "input" / "b.png")
    write(folders / "input" / "a.jpg")
    (folders / "input" / "notes.txt").write_text("x", encoding="utf-8")
    (folders / "input" / "folder").mkdir()
    options, settings = nodes.LoadImage.INPUT_TYPES()["required"]["image"]
    (image,) = load.define_schema().inputs
    assert image.options == options == ["a.jpg", "b.png"]
    assert settings["image_upload"] is True and image.as_dict()["image_upload"] is True


def test_pictures_in_folders_are_read(load, folders):
    (folders / "input" / "sub").mkdir()
    picture = write(folders / "input" / "sub" / "a.png")
    equirect, coverage = load.execute("sub/a.png").args
    assert torch.equal(equirect[0], picture.to(equirect)) and bool(coverage.all())


@pytest.mark.parametrize("name", ["house.png", "../outside.png", "", "sub", "x.png [output]", "\0"])
def test_names_that_are_no_picture_are_said(load, folders, name):
    write(folders / "outside.png")
    (folders / "input" / "sub").mkdir()
    said = load.validate_inputs(name)
    assert said.startswith(f"Load Panorama: there is no picture '{name}' in ComfyUI/input: upload it")
    with pytest.raises(ValueError, match="Load Panorama: there is no picture"):
        load.execute(name)


def test_photos_are_told_what_they_are_not(load, folders):
    write(folders / "input" / "photo.png", 30, 40)
    with pytest.raises(ValueError) as refusal:
        load.execute("photo.png")
    assert str(refusal.value) == (
        "Load Panorama: photo.png: it is 40 x 30 pixels, and no metadata say where it lies. Panoramas are twice as "
        "wide as high, strips all around even wider, half spheres square. For a plain photo use Load Image and Source "
        "Image to Views."
    )


def test_linked_name_is_not_known_yet(load):
    assert load.validate_inputs(None) is True


def test_fingerprint_changes_with_the_file_and_never_raises(load, folders):
    write(folders / "input" / "a.png")
    for name in ("a.png", None):
        before = load.fingerprint_inputs(image=name)
        assert load.fingerprint_inputs(image=name) == before
        os.utime(folders / "input" / "a.png", ns=(0, len(before) + (name is None)))
        assert load.fingerprint_inputs(image=name) != before
    for name in ("gone.png", "../a.png", "\0", ""):
        assert load.fingerprint_inputs(image=name) == load.fingerprint_inputs(image=name)


# ---- Rotate Panorama


@pytest.fixture
def rotate(comfy):
    from mvdiffusion_pack.nodes.panorama_files import RotatePanorama

    return RotatePanorama


def test_turn_to_the_right_and_back(rotate):
    picture = noise(2, 20, 40, 3)
    turned, coverage = rotate.execute(picture, 90.0, 0.0, 0.0).args
    assert torch.equal(turned, picture.roll(-10, dims=2).to(turned)) and bool(coverage.all())
    back, _ = rotate.execute(turned, -90.0, 0.0, 0.0).args
    assert torch.equal(back, picture.to(back))


def test_tilted_panorama_is_levelled(rotate):
    """One whose horizon stands 10 degrees below its middle: the new middle is to look 10 degrees down."""
    rows = torch.linspace(89.5, -89.5, 180)
    level = (rows < 0).float()[None, :, None, None].expand(1, 180, 360, 3)
    tilted, _ = rotate.execute(level, 0.0, 10.0, 0.0).args
    assert tilted[0, 95, 180, 0] < 0.5 < tilted[0, 105, 180, 0]
    again, _ = rotate.execute(tilted, 0.0, -10.0, 0.0).args
    assert (again[0].float() - level[0]).abs()[torch.arange(180).sub(89.5).abs() > 2].max() < 0.01


def test_coverage_turns_with_it(rotate):
    coverage = torch.zeros(1, 20, 40)
    coverage[:, 5:15, 10:20] = 1
    _, turned = rotate.execute(noise(1, 20, 40, 3), 90.0, 0.0, 0.0, coverage).args
    assert torch.equal(turned, coverage.roll(-10, dims=2))


def test_picture_that_is_no_panorama_is_said(rotate):
    with pytest.raises(ValueError, match=r"Rotate Panorama: .* not 32 x 32 pixels: connect a panorama"):
        rotate.execute(torch.zeros(1, 32, 32, 3), 0.0, 0.0, 0.0)
