"""Save Posed Views in the host's process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from rooms import walk

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.geometry.sequence.frames import posed_views
from mvdiffusion_pack.geometry.sequence.reading import read_frames

pytestmark = pytest.mark.host


@pytest.fixture
def output(comfy, tmp_path, monkeypatch) -> Path:
    """The host's output folder, empty."""
    import folder_paths

    (tmp_path / "output").mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


@pytest.fixture(scope="module")
def views() -> tuple[PosedViews, torch.Tensor]:
    cameras, images, _ = posed_views(walk(3), 64, 64, 0.3, 0.6)
    return cameras, images


@pytest.fixture
def save(output, views):
    """`save(**changes)` runs the node and returns the path that it shows."""
    from mvdiffusion_pack.nodes.sequence import SavePosedViews

    def save(**changes) -> Path:
        inputs = {"images": views[1], "cameras": views[0], "folder": "posed_views"} | changes
        (text,) = SavePosedViews.execute(**inputs).ui["text"]
        return Path(text)

    return save


def test_folder_is_written_and_shown(save, output, views):
    path = save()
    assert path == output.resolve() / "posed_views"
    assert [frame.name for frame in read_frames(path)] == list(views[0].names)


def test_format_and_prompts_are_written(save):
    path = save(format="png", prompts="a bed\n\na lamp")
    assert sorted(os.listdir(path / "color")) == ["0.png", "1.png", "2.png"]
    assert [frame.prompt for frame in read_frames(path)] == ["a bed", "", "a lamp"]


def test_prompts_without_text_are_not_written(save):
    assert not (save(prompts="\n\n") / "prompt").exists()


def test_half_precision_and_alpha_are_taken(save, views):
    images = torch.cat((views[1], torch.zeros(3, 64, 64, 1)), dim=-1).half()
    with Image.open(save(images=images) / "color" / "0.jpg") as picture:
        assert picture.mode == "RGB" and picture.size == (64, 64)


def test_subfolder_is_made(save, output):
    assert save(folder="house/kitchen") == output.resolve() / "house" / "kitchen"


def test_tokens_and_forbidden_characters(save, output):
    path = save(folder="house%width%/%year%:%LoadImage.image%")
    assert path == output.resolve() / "house64" / f"{time.strftime('%Y')}_"
    assert save(folder="%date:yyyy-MM-dd%").name == "posed_views"


def test_second_run_overwrites_nothing(save, output):
    assert [save().name, save().name] == ["posed_views", "posed_views_2"]
    assert sorted(os.listdir(output)) == ["posed_views", "posed_views_2"]


def test_an_empty_folder_is_posed_views(save, output):
    assert save(folder="") == output.resolve() / "posed_views"


@pytest.mark.parametrize("folder", ["../views", "a/../../views", ".", "/views", "a/.."])
def test_folder_outside_of_output_is_refused(save, output, folder):
    with pytest.raises(ValueError, match="Save Posed Views: folder must be a name inside ComfyUI's output folder"):
        save(folder=folder)
    assert os.listdir(output) == [] and os.listdir(output.parent) == ["output"]


def test_cameras_without_depth_are_refused(save, output):
    with pytest.raises(ValueError, match=r"Save Posed Views: these cameras have no depth.* Depth Cameras"):
        save(cameras=ring(3, 120.0, 64, 64))
    assert os.listdir(output) == []


def test_images_of_two_runs_are_refused(save, output, views):
    with pytest.raises(ValueError, match="Save Posed Views: there are 6 images and 3 cameras"):
        save(images=views[1].repeat(2, 1, 1, 1))
    assert os.listdir(output) == []


def test_file_in_place_of_the_folder_is_named(save, output):
    (output / "house").write_text("not a folder", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"Save Posed Views cannot write to the folder .*kitchen: "):
        save(folder="house/kitchen")
    assert os.listdir(output) == ["house"]


def test_interruption_leaves_nothing(save, output, monkeypatch):
    from comfy.model_management import InterruptProcessingException

    def interrupted(self, path, *args, **options):
        Path(path).write_bytes(b"half a picture")
        raise InterruptProcessingException

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(InterruptProcessingException):
        save()
    assert os.listdir(output) == []
