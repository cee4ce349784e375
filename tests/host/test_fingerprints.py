"""What the nodes tell the host of their files: it never raises, is JSON, and changes when a file does."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

# The input that names a file or folder, of every node with a fingerprint.
NAMED_BY = {
    "MVDiffusionLoad": "checkpoint",
    "MVDiffusionLoadCheckpoint": "checkpoint",
    "MVDiffusionDepthCameras": "sequence",
    "MVDiffusionLoadPanorama": "image",
}
LONG = "x" * 5000  # no file can have such a name
every_node = pytest.mark.parametrize("node_id", NAMED_BY)


@pytest.fixture(scope="module")
def nodes(comfy) -> dict:
    """The pack's nodes by id."""
    from mvdiffusion_pack.nodes import MVDiffusionExtension

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(MVDiffusionExtension().get_node_list())}


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch) -> Path:
    """A folder with the host's folders input, output and models/mvdiffusion in it."""
    import folder_paths

    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    (tmp_path / "weights").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "mvdiffusion", ([str(tmp_path / "weights")], {".ckpt"}))
    folder_paths.filename_list_cache.pop("mvdiffusion", None)
    return tmp_path


def file_of(node_id: str, folders: Path) -> tuple[str, Path]:
    """What a node calls its file, and where one of its files lies."""
    if node_id == "MVDiffusionDepthCameras":
        for part in ("color", "depth", "pose"):
            (folders / "input" / "room" / part).mkdir(parents=True)
        return "room", folders / "input" / "room" / "pose" / "0.txt"
    name = "a.png" if node_id == "MVDiffusionLoadPanorama" else "a.ckpt"
    return name, folders / ("input" if name == "a.png" else "weights") / name


def is_changed(node, monkeypatch, **inputs):
    """What the host makes of a node in a prompt, as it would be written into a picture."""
    import execution
    import nodes
    from comfy_execution.graph import DynamicPrompt

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "Node", node)
    prompt = {"1": {"class_type": "Node", "inputs": inputs}, "2": {"class_type": "Node", "inputs": {}}}
    args = ("run", DynamicPrompt(prompt), None)
    try:
        cache = execution.IsChangedCache(*args)
    except TypeError:  # as hosts before had it
        cache = execution.IsChangedCache(*args[1:])
    asyncio.run(cache.get("1"))
    return json.loads(json.dumps(prompt, allow_nan=False))["1"]["is_changed"]


def test_every_fingerprint_is_tried(nodes):
    from comfy_api.internal import first_real_override

    assert {name for name, node in nodes.items() if first_real_override(node, "fingerprint_inputs")} == set(NAMED_BY)


@every_node
@pytest.mark.parametrize(
    "name", [None, "house", "house.png", "../a", "", "\0", "a [output]", LONG], ids=lambda name: f"{name}"[:9]
)
def test_it_never_raises_and_stays(nodes, folders, node_id, name):
    first, second = (nodes[node_id].fingerprint_inputs(**{NAMED_BY[node_id]: name}, start=0) for _ in range(2))
    assert first == second and isinstance(first, str)


@every_node
@pytest.mark.parametrize("linked", [False, True])
def test_the_host_writes_json_and_sees_each_change(nodes, folders, node_id, linked, monkeypatch):
    name, path = file_of(node_id, folders)
    inputs = {NAMED_BY[node_id]: ["2", 0] if linked else name}
    absent = is_changed(nodes[node_id], monkeypatch, **inputs)
    path.write_bytes(b"one")
    written = is_changed(nodes[node_id], monkeypatch, **inputs)
    assert is_changed(nodes[node_id], monkeypatch, **inputs) == written != absent
    path.write_bytes(b"other")
    assert is_changed(nodes[node_id], monkeypatch, **inputs) != written


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@every_node
@pytest.mark.parametrize("linked", [False, True])
def test_link_that_leads_nowhere_is_absent(nodes, folders, node_id, linked, monkeypatch):
    name, path = file_of(node_id, folders)
    os.symlink(folders / "nothing", path)
    inputs = {NAMED_BY[node_id]: ["2", 0] if linked else name}
    before = is_changed(nodes[node_id], monkeypatch, **inputs)
    assert is_changed(nodes[node_id], monkeypatch, **inputs) == before
