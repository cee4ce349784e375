"""Save Panorama in the host's process: the files, read back by programs that know nothing of this pack."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

import comfy_nodes
import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

pytestmark = pytest.mark.host

WORKFLOW = {"nodes": [{"id": 1, "title": "père, 全景, 🌍"}], "version": 0.4}
PROMPT = {"3": {"class_type": "MVDiffusionSavePanorama", "inputs": {"filename_prefix": "Übersicht"}}}
BOX = slice(8, 28), slice(10, 70)
both_formats = pytest.mark.parametrize("format", ["png", "jpeg"])


@pytest.fixture
def output(comfy, tmp_path, monkeypatch) -> Path:
    """The host's output folder, empty."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def save(output):
    """`save(equirect, **changes)` runs the node as a part of WORKFLOW and returns the paths of its files."""
    from comfy_api.latest import io

    from mvdiffusion_pack.nodes.output import SavePanorama

    def save(equirect: torch.Tensor, workflow: dict = WORKFLOW, **changes) -> list[Path]:
        hidden = {io.Hidden.prompt: PROMPT, io.Hidden.extra_pnginfo: {"workflow": workflow}}
        node = type("SavePanoramaInARun", (SavePanorama,), {"hidden": io.HiddenHolder.from_dict(hidden)})
        inputs = {"filename_prefix": "panorama", "format": "png", "start_yaw": 0.0} | changes
        (results,) = node.execute(equirect, **inputs).ui.as_dict().values()
        assert {result["type"] for result in results} == {"output"}
        return [output / result["subfolder"] / result["filename"] for result in results]

    return save


@pytest.fixture
def exiftool():
    """`exiftool(path, *options)`: what exiftool reads in a file, by name."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")

    def read(path: Path, *options: str) -> dict:
        done = subprocess.run([program, "-json", "-n", *options, str(path)], capture_output=True, check=True)
        return json.loads(done.stdout.decode())[0]

    return read


def noise(panoramas: int = 1) -> torch.Tensor:
    return torch.rand(panoramas, 40, 80, 3, generator=torch.Generator().manual_seed(3))


def covering(box: tuple[slice, slice] = BOX) -> torch.Tensor:
    coverage = torch.zeros(1, 40, 80)
    coverage[0][box] = 1
    return coverage


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return torch.from_numpy(np.array(image))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def written_texts(path: Path) -> dict[str, str]:
    """The texts of a file by name: those of a PNG file, or Make and Model of a JPEG file, which say their names."""
    with Image.open(path) as image:
        if image.format == "PNG":
            return {name: text for name, text in image.text.items() if not name.startswith("XML:")}
        return dict(image.getexif()[tag].split(":", 1) for tag in (0x010F, 0x0110) if tag in image.getexif())


def test_png_holds_the_rounded_pixels(save):
    equirect = noise()
    (path,) = save(equirect)
    assert torch.equal(pixels(path), (equirect[0] * 255).round().to(torch.uint8))


def test_jpeg_keeps_colours_as_fine_as_brightness(save):
    stripes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).repeat(1, 40, 40, 1)
    (path,) = save(stripes, format="jpeg")
    with Image.open(path) as image:
        assert JpegImagePlugin.get_sampling(image) == 0
    assert (pixels(path).float() / 255 - stripes[0]).abs().max() < 0.05


@both_formats
def test_whole_panorama_is_known_as_one(save, exiftool, format):
    (path,) = save(noise(), format=format, start_yaw=-30.0)
    read = exiftool(path, "-XMP-GPano:all")
    del read["SourceFile"]
    assert read == {
        "UsePanoramaViewer": 1,
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": 80,
        "FullPanoHeightPixels": 40,
        "CroppedAreaImageWidthPixels": 80,
        "CroppedAreaImageHeightPixels": 40,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
        "PoseHeadingDegrees": 0,
        "PosePitchDegrees": 0,
        "PoseRollDegrees": 0,
        "InitialViewHeadingDegrees": 330,
        "InitialViewPitchDegrees": 0,
        "InitialViewRollDegrees": 0,
    }


@both_formats
def test_crop_is_the_size_and_place_that_it_says(save, exiftool, format):
    (path,) = save(noise(), format=format, coverage=covering())
    read = exiftool(path, "-XMP-GPano:all", "-ImageSize")
    assert read["ImageSize"] == "60 20"
    assert (read["CroppedAreaImageWidthPixels"], read["CroppedAreaImageHeightPixels"]) == (60, 20)
    assert (read["CroppedAreaLeftPixels"], read["CroppedAreaTopPixels"]) == (10, 8)
    assert (read["FullPanoWidthPixels"], read["FullPanoHeightPixels"]) == (80, 40)


@both_formats
def test_files_are_valid(save, exiftool, format):
    (path,) = save(noise(), format=format)
    read = exiftool(path, "-warning", "-error", "-validate", "-a", "-G4")
    problems = [text for name, text in read.items() if name.endswith(("Warning", "Error"))]
    # Nor does Pillow write the resolution and the like that EXIF asks for.
    assert [text for text in problems if not text.startswith("Missing required JPEG IFD0 tag")] == []


def test_pixels_are_those_of_the_crop(save):
    equirect = noise()
    (path,) = save(equirect, coverage=covering())
    assert torch.equal(pixels(path), (equirect[0][BOX] * 255).round().to(torch.uint8))


def test_each_panorama_is_cropped_to_its_own_coverage(save):
    paths = save(noise(2), coverage=torch.cat((covering(), covering((slice(0, 40), slice(0, 5))))))
    assert [pixels(path).shape[:2] for path in paths] == [(20, 60), (40, 5)]


@both_formats
def test_prompt_and_workflow_are_read_back_equal(save, format):
    (path,) = save(noise(), format=format)
    read = {name: json.loads(text) for name, text in written_texts(path).items()}
    assert read == {"workflow": WORKFLOW, "prompt": PROMPT}


@both_formats
def test_disable_metadata_leaves_the_workflow_out_but_not_gpano(save, exiftool, format, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    (path,) = save(noise(), format=format)
    assert written_texts(path) == {}
    assert exiftool(path, "-XMP-GPano:all")["ProjectionType"] == "equirectangular"


def test_workflow_that_jpeg_cannot_hold_is_left_out_with_a_warning(save, exiftool, caplog):
    with caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        (path,) = save(noise(), format="jpeg", workflow={"notes": "x" * 70_000})
    assert written_texts(path) == {}
    assert exiftool(path, "-XMP-GPano:all")["FullPanoWidthPixels"] == 80
    (warning,) = [record.message for record in caplog.records if record.name == "MVDiffusion"]
    assert "68 KB" in warning and "save as png" in warning


def test_png_holds_any_workflow(save):
    workflow = {"notes": "x" * 200_000}
    (path,) = save(noise(), workflow=workflow)
    assert json.loads(written_texts(path)["workflow"]) == workflow


def test_files_are_numbered_on(save, output):
    save(noise(2))
    save(noise(), format="jpeg")
    assert files(output) == ["panorama_00001_.png", "panorama_00002_.png", "panorama_00003_.jpg"]


def test_batch_number_and_subfolder_are_filled_in(save, output):
    paths = save(noise(2), filename_prefix="trip/view%batch_num%_%width%")
    assert paths == [output / "trip" / "view0_80_00001_.png", output / "trip" / "view1_80_00002_.png"]
    assert all(path.is_file() for path in paths)


def test_second_run_with_batch_numbers_overwrites_nothing(save, output):
    first, second = (save(noise(2), filename_prefix="view%batch_num%") for _ in range(2))
    assert [path.name for path in first] == ["view0_00001_.png", "view1_00002_.png"]
    assert [path.name for path in second] == ["view0_00002_.png", "view1_00003_.png"]


def test_tokens_of_the_page_are_left_out_with_one_line(save, output, caplog):
    with caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        save(noise(2), filename_prefix="%date:yyyy-MM-dd%/%LoadImage.image%_view%width%:%year%")
    year = time.strftime("%Y")
    assert files(output) == [f"_view80_{year}_00001_.png", f"_view80_{year}_00002_.png"]
    assert [record.message[:15] for record in caplog.records if record.name == "MVDiffusion"] == ["Save Panorama: "]


def test_one_bad_coverage_and_nothing_is_saved(save, output):
    with pytest.raises(ValueError, match=r"nowhere above 0\.5"):
        save(noise(2), coverage=torch.cat((covering(), 0.1 * covering())))
    assert files(output) == []


def test_file_in_place_of_the_folder_is_named(save, output):
    (output / "trip").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RuntimeError) as caught:
        save(noise(), filename_prefix="trip/panorama")
    assert str(caught.value).startswith(f"Save Panorama cannot write to the folder {output / 'trip'}: ")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@both_formats
def test_full_disk_is_said_and_leaves_nothing(save, output, format):
    unfinished = "panorama0_00001_" + {"png": ".png.part", "jpeg": ".jpg.part"}[format]
    os.symlink("/dev/full", output / unfinished)
    with pytest.raises(RuntimeError, match=r"cannot write to the folder .*: No space left on device\."):
        save(noise(), filename_prefix="panorama%batch_num%", format=format)
    assert files(output) == []


def test_interruption_leaves_nothing(save, output, monkeypatch):
    from comfy.model_management import InterruptProcessingException

    def interrupted(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half a picture")
        raise InterruptProcessingException

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(InterruptProcessingException):
        save(noise())
    assert files(output) == []


def save_panorama(prefix: str) -> None:
    from mvdiffusion_pack.nodes.output import SavePanorama

    SavePanorama.execute(noise(), prefix, "png", 0.0)


def save_blocks(prefix: str) -> None:
    from mvdiffusion_pack.nodes.loaders import SaveMVDiffusion

    SaveMVDiffusion.execute(comfy_nodes.demo().model, prefix, "fp16")


@pytest.mark.parametrize(("save_as", "node"), [(save_panorama, "Save Panorama"), (save_blocks, "Save MVDiffusion")])
class TestPlaces:
    @pytest.mark.parametrize("prefix", ["../x", "/etc/x", "a/../../x"])
    def test_outside_of_the_output_folder(self, output, save_as, node, prefix):
        with pytest.raises(ValueError, match=f"^{node}: filename_prefix must be a name inside .*, not '{prefix}'"):
            save_as(prefix)
        assert list(output.iterdir()) == []

    def test_folder_with_the_name_of_a_file(self, output, save_as, node):
        (output / "trip").touch()
        with pytest.raises(RuntimeError, match=f"^{node} cannot write to the folder {output / 'trip'}: "):
            save_as("trip/x")

    def test_folder_that_is_a_link_to_elsewhere(self, output, tmp_path_factory, save_as, node):
        (output / "disk").symlink_to(tmp_path_factory.mktemp("elsewhere"), target_is_directory=True)
        with pytest.raises(ValueError, match=f"^{node}: filename_prefix must be a name inside"):
            save_as("disk/x")


def test_blocks_on_a_full_disk(output, monkeypatch):
    from safetensors import SafetensorError

    from mvdiffusion_pack.caa.weights import checkpoint

    def full(*args, **kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RuntimeError, match=r"Save MVDiffusion cannot write to the folder .*: .*No space left"):
        save_blocks("trip/x")
    assert list((output / "trip").iterdir()) == []
