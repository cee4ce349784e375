"""Overlap PSNR in the host."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture
def cameras(comfy):
    from mvdiffusion_pack.geometry.layouts import ring

    return ring(8, 90, 64, 48)


@pytest.fixture
def measured(comfy, tmp_path, monkeypatch):
    """`measured(images, cameras)`: what the node returns; temporary pictures go to `tmp_path`."""
    import folder_paths

    from mvdiffusion_pack.nodes.agreement import OverlapPSNR

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))

    def measured(images, cameras):
        with torch.inference_mode():  # as the host's executor runs nodes
            return OverlapPSNR.execute(images, cameras)

    return measured


def test_outputs_are_a_number_a_text_and_a_picture(measured, cameras):
    images = torch.full((8, 48, 64, 3), 0.5)
    images[3] += 0.1
    psnr, table, picture = measured(images, cameras).args
    assert type(psnr) is float and math.isfinite(psnr)
    assert psnr == pytest.approx(20 + 10 * math.log10(4), abs=1e-3)  # two of eight pairs
    total, worst, *_ = table.splitlines()
    assert total.split()[0] == f"{psnr:.2f}" and "view 3" in worst
    assert picture.ndim == 4 and picture.shape[0] == 1 and picture.shape[3] == 3 and picture.shape[2] == 1632


def test_identical_views_give_a_number_that_json_has(measured, cameras):
    assert measured(torch.zeros(8, 48, 64, 3), cameras).args[0] == 100.0


def test_the_node_shows_its_table_and_its_picture(measured, cameras, tmp_path):
    output = measured(torch.rand(8, 48, 64, 3), cameras)
    assert output.ui["text"] == (output.args[1],)
    (picture,) = output.ui["images"]
    assert (tmp_path / picture["subfolder"] / picture["filename"]).is_file()


@pytest.mark.parametrize(
    ("images", "changes", "said"),
    [
        ((7, 48, 64, 3), {}, "Overlap PSNR: too few images: 7 images, 8 cameras"),
        ((9, 48, 64, 3), {}, "Overlap PSNR: the images are not a multiple of the cameras: 9 images, 8 cameras"),
        ((8, 64, 64, 3), {}, "Overlap PSNR: the images are 64 x 64 pixels, .* the cameras' 64 x 48"),
        ((8, 48, 64, 3), {"rings": ()}, "Overlap PSNR: these cameras have no neighbours"),
    ],
    ids=["few", "many", "aspect", "cube"],
)
def test_what_does_not_fit_is_said_and_leaves_nothing_behind(measured, cameras, images, changes, said, tmp_path):
    with pytest.raises(ValueError, match=f"^{said}"):
        measured(torch.rand(images), replace(cameras, **changes))
    assert list(tmp_path.iterdir()) == []
