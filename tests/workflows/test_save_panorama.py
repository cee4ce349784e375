"""Save Panorama on a real server: the workflow that a browser sends along is in the files."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

pytestmark = [pytest.mark.host, pytest.mark.server]

WORKFLOW = {"nodes": [], "extra": {"note": "Zürich, 全景"}}
GRAPH = {
    "picture": {
        "class_type": "EmptyImage",
        "inputs": {"width": 512, "height": 256, "batch_size": 2, "color": 0x336699},
    },
    "save": {
        "class_type": "MVDiffusionSavePanorama",
        "inputs": {"equirect": ["picture", 0], "filename_prefix": "saved/pano", "format": "png", "start_yaw": 0.0},
    },
}


def saved(server, format: str) -> list[Image.Image]:
    graph = json.loads(json.dumps(GRAPH))
    graph["save"]["inputs"]["format"] = format
    entry = server.wait(server.queue(graph, {"extra_pnginfo": {"workflow": WORKFLOW}}))
    return [Image.open(io.BytesIO(server.view(**image))) for image in entry["outputs"]["save"]["images"]]


def test_png_files_hold_workflow_and_prompt(server):
    pictures = saved(server, "png")
    assert [picture.size for picture in pictures] == [(512, 256)] * 2
    assert all(json.loads(picture.text["workflow"]) == WORKFLOW for picture in pictures)
    assert all(json.loads(picture.text["prompt"]) == GRAPH for picture in pictures)


def test_jpeg_files_hold_workflow_and_prompt(server):
    exif = saved(server, "jpeg")[0].getexif()
    assert json.loads(exif[0x010F].removeprefix("workflow:")) == WORKFLOW
    assert json.loads(exif[0x0110].removeprefix("prompt:"))["save"]["inputs"]["format"] == "jpeg"
