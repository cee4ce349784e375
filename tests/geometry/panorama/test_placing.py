"""Pictures of a part of the sphere in their place, as metadata or their shape say."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from sphere import psnr, smooth

from mvdiffusion_pack.geometry.cameras import rotation_from_angles
from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.panorama import panorama_files
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions
from mvdiffusion_pack.geometry.panorama.gpano import Place, gpano_xmp, read_gpano
from mvdiffusion_pack.geometry.panorama.panorama_files import read_panorama
from mvdiffusion_pack.geometry.panorama.placing import placed

BOX = slice(7, 31), slice(12, 90)  # of a panorama 100 x 50
ELEMENTS = "".join(
    f"<GPano:{name}>{value}</GPano:{name}>\n"
    for name, value in {
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": 100,
        "FullPanoHeightPixels": 50,
        "CroppedAreaImageWidthPixels": 78,
        "CroppedAreaImageHeightPixels": 24,
        "CroppedAreaLeftPixels": 12,
        "CroppedAreaTopPixels": 7,
        "PoseHeadingDegrees": 350.5,
    }.items()
)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, channels), dtype=np.uint8)


def sphere(height: int = 90, source_from_file: torch.Tensor | None = None) -> np.ndarray:
    """A file's picture of the smooth sphere, seen by a camera that was turned so."""
    rotation = torch.eye(3, dtype=torch.float64) if source_from_file is None else source_from_file
    return (smooth(equirect_directions(2 * height, height) @ rotation.mT) * 255).round().byte().numpy()


# ---- Metadata


@pytest.mark.parametrize("box", [BOX, (slice(0, 50), slice(0, 100))], ids=["crop", "whole"])
def test_what_is_written_is_read(box):
    rows, columns = box
    expected = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    assert read_gpano(gpano_xmp(50, box, 90.0)) == Place((100, 50), expected)


def test_elements_are_read_as_attributes_are():
    assert read_gpano(ELEMENTS) == Place((100, 50), (12, 7, 78, 24), 350.5)


@pytest.mark.parametrize("xmp", ["", "<x/>", "GPano:UsePanoramaViewer='True'", "GPano:FullPanoWidthPixels='100'"])
def test_metadata_of_no_place_are_none(xmp):
    assert read_gpano(xmp) is None


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        (">equirectangular<", ">cylindrical<", "projection cylindrical"),
        ("Pixels>100<", "Pixels>wide<", "FullPanoWidthPixels in its metadata is 'wide', not a number"),
        ("Pixels>100<", "Pixels>nan<", "'nan', not a number"),
        ("Pixels>100<", "Pixels>0<", "speak of a part"),
        ("Pixels>12<", "Pixels>-12<", "speak of a part"),
    ],
)
def test_nonsense_in_metadata_is_said(was, is_, said):
    with pytest.raises(InputError, match=said):
        read_gpano(ELEMENTS.replace(was, is_))


# ---- Places


def test_crop_lies_where_it_was_cut_pixel_by_pixel():
    picture = noise(24, 78)
    equirect, coverage = placed(picture, read_gpano(gpano_xmp(50, BOX, 123.0)))
    assert equirect.shape == (50, 100, 3) and coverage.shape == (50, 100)
    assert torch.equal((equirect[BOX] * 255).round().byte(), torch.from_numpy(picture))
    assert coverage.sum() == 24 * 78 and bool(coverage[BOX].all())
    assert not equirect[coverage == 0].any()


def test_crop_that_was_scaled_since_lies_in_its_place():
    rows, columns = BOX
    whole = sphere(50)
    half = np.asarray(Image.fromarray(whole[BOX]).resize((39, 12), Image.Resampling.BOX))
    equirect, coverage = placed(half, read_gpano(gpano_xmp(50, BOX, 0.0)))
    assert equirect.shape == (25, 50, 3)
    assert coverage[(rows.start + 1) // 2 : rows.stop // 2, columns.start // 2 : columns.stop // 2].all()
    expected = smooth(equirect_directions(50, 25))
    assert psnr(equirect[coverage > 0], expected[coverage > 0]) > 33


@pytest.mark.parametrize("heading", [90.0, 350.0, -30.0, 3.3])
def test_heading_is_where_the_files_middle_lies(heading):
    """The middle of the file looks east at 90: it is then right of the panorama's middle, which is north."""
    place = Place((180, 90), (0, 0, 180, 90), heading)
    equirect, coverage = placed(sphere(90, rotation_from_angles(heading, 0)), place)
    assert bool(coverage.all())
    assert (equirect - smooth(equirect_directions(180, 90))).abs().max() < 0.02  # to half a column of 2 degrees


def test_heading_moves_a_crop_over_the_wrap_and_changes_no_pixel():
    place = Place((100, 50), (60, 10, 30, 20), 180.0)
    picture = noise(20, 30)
    equirect, coverage = placed(picture, place)
    assert bool(coverage[10:30, 10:40].all()) and coverage.sum() == 600
    assert torch.equal((equirect[10:30, 10:40] * 255).round().byte(), torch.from_numpy(picture))


@pytest.mark.parametrize("pose", [(0.0, 12.0, 0.0), (0.0, 0.0, -20.0), (140.0, 8.0, 5.0)], ids=str)
def test_pitch_and_roll_are_levelled(pose):
    """Pitch: the file's middle lies above the horizon. Roll: clockwise, so that the horizon turns the other way."""
    equirect, coverage = placed(sphere(90, rotation_from_angles(*pose)), Place((180, 90), (0, 0, 180, 90), *pose))
    assert bool(coverage.all())
    assert psnr(equirect, smooth(equirect_directions(180, 90))) > 45


def test_transparent_pixels_are_not_covered():
    picture = noise(50, 100, 4)
    picture[..., 3] = 255
    picture[:10, :, 3] = 0
    equirect, coverage = placed(picture, None)
    assert not coverage[:10].any() and bool(coverage[10:].all())
    assert not equirect[:10].any()


# ---- Shapes


def test_nearly_whole_pictures_are_scaled():
    equirect, coverage = placed(noise(752, 1392), None)
    assert equirect.shape == (696, 1392, 3) and bool(coverage.all())


def test_strips_are_padded_above_and_below():
    picture = noise(30, 100)
    equirect, coverage = placed(picture, None)
    assert equirect.shape == (50, 100, 3)
    assert bool(coverage[10:40].all()) and coverage.sum() == 3000
    assert torch.equal((equirect[10:40] * 255).round().byte(), torch.from_numpy(picture))


def test_squares_are_the_half_in_front():
    picture = noise(50, 50)
    equirect, coverage = placed(picture, None)
    assert equirect.shape == (50, 100, 3)
    assert bool(coverage[:, 25:75].all()) and coverage.sum() == 2500


@pytest.mark.parametrize("size", [(1200, 1600), (1600, 1200), (600, 100)], ids=str)
def test_shapes_of_photos_are_refused(size):
    with pytest.raises(InputError, match=f"it is {size[1]} x {size[0]} pixels, and no metadata say where") as refusal:
        placed(np.zeros((*size, 3), np.uint8), None)
    assert refusal.value.remedy == "place_unknown"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place((100, 50), (0, 0, 100, 20)), "it was cropped since"),
        (Place((400, 50), (0, 0, 100, 50)), "a whole of 400 x 50 pixels, which is not 2:1"),
        (Place((10**6, 5 * 10**5), (0, 0, 100, 50)), "would be 1000000 pixels wide, and 32768 are the most"),
        (Place((100, 50), (150, 0, 100, 50)), "outside of the panorama"),
    ],
)
def test_places_that_do_not_fit_are_refused(place, said):
    with pytest.raises(InputError, match=said):
        placed(np.zeros((50, 100, 3), np.uint8), place)


# ---- Files


def save(path, pixels: np.ndarray, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_metadata_are_found_in_every_format(tmp_path, ending):
    from PIL import PngImagePlugin

    xmp, options = gpano_xmp(50, BOX, 0.0), {}
    if ending == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    elif ending == "jpg":
        content = b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()
        options["extra"] = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    elif ending == "webp":
        options["xmp"] = xmp.encode()
    else:
        options["tiffinfo"] = {700: xmp.encode()}
    _, coverage = read_panorama(save(tmp_path / f"a.{ending}", noise(24, 78), **options))
    assert coverage.shape == (50, 100) and coverage.sum() == 24 * 78


def test_grey_sixteen_bit_and_palette_pictures_are_read(tmp_path):
    grey = np.full((50, 100), 32768, np.uint16)
    equirect, _ = read_panorama(save(tmp_path / "grey.png", grey))
    assert (equirect - 0.5).abs().max() < 0.01
    Image.fromarray(noise(50, 100)).convert("P").save(tmp_path / "p.png")
    assert read_panorama(tmp_path / "p.png")[0].shape == (50, 100, 3)


def test_grey_numbers_in_0_to_1_are_read(tmp_path):
    grey = np.linspace(0, 1.00001, 50 * 100, dtype=np.float32).reshape(50, 100)
    equirect, _ = read_panorama(save(tmp_path / "grey.tif", grey))
    assert np.abs(equirect[..., 0].numpy() - grey).max() <= 0.5 / 255 + 2e-5


@pytest.mark.parametrize(
    ("most", "kind", "said"),
    [
        (255, np.float32, "its numbers lie in 0..255, not in 0..1"),
        (np.nan, np.float32, "it holds numbers that are not finite"),
        (70000, np.int32, "its numbers lie in 0..70000, not in 0..65535"),
        (-3, np.int32, "its numbers lie in -3..0, not in 0..65535"),
    ],
)
def test_greys_beyond_what_is_read_are_said(tmp_path, most, kind, said):
    grey = np.zeros((50, 100), kind)
    grey[10, 20] = most
    with pytest.raises(InputError, match=rf"^grey.tif: {re.escape(said)}$"):
        read_panorama(save(tmp_path / "grey.tif", grey))


def test_transparent_greys_of_sixteen_bits_are_not_covered(tmp_path):
    grey = np.full((50, 100), 40000, np.uint16)
    grey[:25] = 0
    _, coverage = read_panorama(save(tmp_path / "grey.png", grey, transparency=0))
    assert not coverage[:25].any() and coverage[25:].all()


def test_pictures_larger_than_any_panorama_are_said_before_they_are_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(50, 100))
    monkeypatch.setattr(panorama_files, "MOST_PIXELS", 4000)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"^a.png: it has more than 32768 x 16384 pixels$"):
        read_panorama(path)


def test_large_panoramas_are_read_though_pillow_warns_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    equirect, _ = read_panorama(save(tmp_path / "a.png", noise(50, 100)))
    assert equirect.shape == (50, 100, 3) and Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "cut"])
def test_files_that_are_no_picture_are_said(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"^a.png: it (is not a picture|cannot be read)"):
        read_panorama(tmp_path / "a.png")


def test_picture_that_ends_early_is_said(tmp_path):
    path = save(tmp_path / "a.png", noise(50, 100))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"^a.png: it cannot be read"):
        read_panorama(path)


def test_what_is_wrong_is_said_of_the_file(tmp_path):
    with pytest.raises(InputError, match=r"^a.png: it is 40 x 30 pixels, and no metadata"):
        read_panorama(save(tmp_path / "a.png", noise(30, 40)))
