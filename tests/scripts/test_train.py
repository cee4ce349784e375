"""scripts/train.py: its arguments, and one short run of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import train
from environment import ROOT, SetUpError

DEMO = ["--demo", "--rooms", "--size", "64", "--steps", "2", "--dtype", "fp32", "--cpu", "--validated", "0"]


def check(*given: str) -> None:
    train.check(train.arguments([*given, "--output", "folder"]))


def test_arguments_that_are_right(tmp_path: Path):
    check("panoramas", "--demo")
    check("--rooms", "--demo")
    check("--rooms", "16", "--demo")


@pytest.mark.parametrize(
    ("given", "views"), [([], 8), (["--kind", "depth"], 12), (["--kind", "depth", "--views", "5"], 5)]
)
def test_depth_learns_from_as_many_views_as_published(given, views):
    assert train.arguments(["--demo", "--rooms", "--output", "folder", *given]).views == views


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["panoramas"], "--model FILE, a Stable Diffusion checkpoint, or --demo"),
        (["panoramas", "--demo", "--model", "a"], "give either --model"),
        (["--demo"], "give one of"),
        (["panoramas", "--demo", "--rooms"], "give one of"),
        (["panoramas", "--demo", "--kind", "depth"], "learn nothing from panoramas: give --sequences"),
        (["panoramas", "--model", "gone.safetensors"], "there is no file gone.safetensors for --model"),
        (["--rooms", "--demo", "--blocks", "gone.ckpt"], "there is no file gone.ckpt for --blocks"),
    ],
)
def test_arguments_that_cannot_be_right_are_said(given, said):
    with pytest.raises(SetUpError, match=said):
        check(*given)


def run(*given: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *given]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.host
@pytest.mark.once
def test_run_writes_blocks_that_load_and_goes_on_with_more_steps(comfy, tmp_path: Path):
    from mvdiffusion_pack.caa.weights.checkpoint import read_caa

    first = run(*DEMO, "--output", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert read_caa(tmp_path / "blocks.safetensors").kind.name == "panorama"
    longer = run(*DEMO, "--steps", "3", "--output", str(tmp_path))
    assert "going on from step 2 of 3" in longer.stdout and "step 3 of 3" in longer.stdout


@pytest.mark.host
@pytest.mark.once
def test_file_that_is_no_checkpoint_is_one_sentence(comfy, tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    save_file({"something": torch.zeros(1)}, tmp_path / "other.safetensors")
    wrong = train.arguments(["--rooms", "--model", str(tmp_path / "other.safetensors"), "--output", str(tmp_path)])
    with pytest.raises(SetUpError, match=r"other\.safetensors is no checkpoint that ComfyUI knows \("):
        train.base_models(wrong)


@pytest.mark.host
@pytest.mark.once
def test_what_cannot_be_trained_on_is_one_sentence(comfy, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    wrong = run(str(tmp_path / "empty"), *DEMO[:1], *DEMO[2:], "--output", str(tmp_path / "run"))
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1] == (
        f"error: the folder {tmp_path / 'empty'} holds no pictures (.png, .jpg, .jpeg, .webp)"
    )
