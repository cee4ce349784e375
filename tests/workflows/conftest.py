"""A real ComfyUI server with the pack and without weights, for all tests of the graphs."""

from __future__ import annotations

import json

import comfy_host
import pytest
from in_process import ROOT


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory):
    workdir = tmp_path_factory.mktemp("host")
    settings = workdir / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")  # no welcome over the canvas
    with comfy_host.Server(comfy_host.find_comfyui(ROOT), workdir=workdir) as server:
        yield server
