"""A real ComfyUI server with a throw-away pack, for the tests of the scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfy_host import Server, find_comfyui
from throwaway_pack import write_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The throw-away pack; what stands beside it leaves a file `imported` there when it is imported."""
    packs = tmp_path_factory.mktemp("packs")
    mark = f"open({str(packs / 'imported')!r}, 'w').close()"
    write_pack(packs / "other", mark)
    (packs / "other" / "prestartup_script.py").write_text(mark, encoding="utf-8")
    (packs / "single.py").write_text(mark, encoding="utf-8")
    return write_pack(packs / "pack v1.0")


@pytest.fixture(scope="module")
def server(pack: Path, tmp_path_factory: pytest.TempPathFactory):
    weights = tmp_path_factory.mktemp("it's é # weights")
    (weights / "a.safetensors").touch()
    with Server(find_comfyui(), pack, workdir=tmp_path_factory.mktemp("host"), weights=weights) as server:
        yield server
