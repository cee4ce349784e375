from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import demo
import pytest
from comfy_host import find_comfyui
from environment import ROOT
from throwaway_pack import graph, write_pack

GRAPH = {
    "1": {"class_type": "MVDiffusionLoadCheckpoint", "inputs": {"checkpoint": "pano.ckpt", "strength": 1.0}},
    "2": {"class_type": "MVDiffusionTextEncode", "inputs": {"clip": ["1", 1], "text": "negative"}},
    "3": {"class_type": "MVDiffusionTextEncode", "inputs": {"clip": ["1", 1], "text": "positive"}},
    "4": {
        "class_type": "MVDiffusionKSampler",
        "inputs": {"model": ["1", 0], "positive": ["3", 0], "negative": ["2", 0], "seed": 1, "steps": 50},
    },
    "5": {
        "class_type": "MVDiffusionKSampler",
        "inputs": {"model": ["1", 0], "positive": ["3", 0], "negative": ["2", 0], "seed": 1, "steps": 20},
    },
}


def options(**given: object) -> argparse.Namespace:
    defaults = {"checkpoint": None, "prompt": None, "seed": None, "steps": None, "output": None, "cpu": True}
    return argparse.Namespace(**{**defaults, **given})


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo, "GRAPHS", tmp_path)
    for name in ("demo_full_sphere.json", "text_to_panorama.json"):
        (tmp_path / name).write_text(json.dumps({**GRAPH, "file": {"class_type": name, "inputs": {}}}))
    return tmp_path


def test_demo_graph_without_a_checkpoint(graphs: Path):
    assert demo.panorama_graph(options())["file"]["class_type"] == "demo_full_sphere.json"


def test_real_graph_with_a_checkpoint(graphs: Path):
    graph = demo.panorama_graph(options(checkpoint=Path("folder/my.ckpt")))
    assert (graph["file"]["class_type"], graph["1"]["inputs"]["checkpoint"]) == ("text_to_panorama.json", "my.ckpt")


def test_arguments_not_given_leave_the_graph_as_it_is(graphs: Path):
    graph = demo.panorama_graph(options())
    del graph["file"]
    assert graph == GRAPH


def test_prompts_go_to_the_positive_text_only(graphs: Path):
    graph = demo.panorama_graph(options(prompt=["a hall", "a door"]))
    assert [graph[node]["inputs"]["text"] for node in "23"] == ["negative", "a hall\na door"]


@pytest.mark.parametrize("sampler", ["4", "5"])
def test_seed_and_steps_go_to_the_samplers(graphs: Path, sampler: str):
    inputs = demo.panorama_graph(options(seed=0, steps=7))[sampler]["inputs"]
    assert (inputs["seed"], inputs["steps"]) == (0, 7)


def state(**values: tuple[float, float, str]) -> dict:
    nodes = {id: {"value": value, "max": most, "state": name} for id, (value, most, name) in values.items()}
    return {"type": "progress_state", "data": {"prompt_id": "p", "nodes": {id[1:]: s for id, s in nodes.items()}}}


def test_progress_is_weighted_by_the_sampler(capsys: pytest.CaptureFixture):
    bar = demo.ProgressBar(GRAPH)  # weights 1, 1, 1, 20, 20
    bar.on_event(state(_1=(1, 1, "finished"), _4=(5, 10, "running")))
    assert capsys.readouterr().out == " 25 %  MVDiffusionKSampler\n"


def test_progress_without_terminal_is_a_line_each_ten_per_cent(capsys: pytest.CaptureFixture):
    bar = demo.ProgressBar(GRAPH)
    for percent in range(101):
        bar.draw(percent, "")
    assert [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()] == list(range(0, 101, 10))


def test_progress_on_a_terminal_is_one_line(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    bar = demo.ProgressBar(GRAPH)
    bar.draw(0, "a long name")
    bar.draw(100, "")
    bar.close()
    first, second = capsys.readouterr().out.removesuffix("\n").split("\r")[1:]
    assert second.rstrip() == "[" + 40 * "#" + "] 100 %" and len(first) == len(second)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--checkpoint", "missing.ckpt"], "there is no file missing.ckpt for --checkpoint"),
        (["--checkpoint", "scripts/demo.py"], "--checkpoint scripts/demo.py must end in one of .ckpt"),
        (["--steps", "0"], "--steps must be at least 1, not 0"),
        (["--seed", "-1"], "--seed must be at least 0 and less than 2^64, not -1"),
        (["--output", "picture.gif"], "--output picture.gif must end in .png"),
        (["--output", "requirements.txt/a.png"], "the folder of --output requirements.txt/a.png cannot be made"),
        (["--host", "nowhere"], "there is no ComfyUI there"),
    ],
)
def test_wrong_argument_is_said_before_anything_is_installed(arguments: list[str], sentence: str, tmp_path: Path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    command = [sys.executable, str(Path("scripts") / "demo.py"), *(arg.replace("/", os.sep) for arg in arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and sentence.replace("/", os.sep) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".venv").exists()


@pytest.mark.server
@pytest.mark.once
def test_demo_runs_the_graph_and_writes_the_picture(
    graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo, "ROOT", write_pack(tmp_path / "clone"))
    (graphs / "demo_full_sphere.json").write_text(json.dumps(graph()), encoding="utf-8")
    picture = tmp_path / "panorama.png"
    demo.run(find_comfyui(), options(seed=3, output=picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{picture}: the run took" in capsys.readouterr().out.splitlines()[-1]
    assert list((tmp_path / "clone" / ".hosts").iterdir()) == []
