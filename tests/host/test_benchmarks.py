"""benchmarks/sampling.py measures what it says, on a UNet small enough for a test."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from in_process import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import sampling

pytestmark = [pytest.mark.host, pytest.mark.once]


@pytest.fixture
def arguments(comfy, monkeypatch) -> SimpleNamespace:
    from mvdiffusion_pack.host import sd2

    monkeypatch.setattr(sampling, "WIDTHS", (32, 64, 128, 128))
    small = {"model_channels": 32, "num_head_channels": 32, "channel_mult": [1, 2, 4, 4]}
    monkeypatch.setattr(sd2, "SD2_UNET", sd2.SD2_UNET | small)
    device = torch.device("cpu")
    return SimpleNamespace(device=device, dtype="fp32", ways=["published", "auto"], repeats=1, guidance=True, views=4)


@pytest.mark.parametrize("scene", ["ring", "depth"])
def test_each_way_has_a_row_with_its_ratio(arguments, capsys, scene):
    arguments.scene, arguments.latent = scene, 8
    with torch.inference_mode():
        for name, steps in sampling.scenes(arguments):
            assert torch.isfinite(steps.of("auto")()).all()
            sampling.measure(name, steps, arguments)
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == arguments.ways
    assert all(float(row[3][:-2]) / float(row[2][:-2]) == pytest.approx(float(row[4]), rel=0.1) for row in rows)


def test_windows_of_a_long_sequence_say_what_two_steps_take(arguments, capsys):
    from mvdiffusion_pack.caa.weights.kinds import DEPTH

    with torch.inference_mode():
        steps = sampling.Steps(arguments, DEPTH, sampling.wall(4, 256, 192), (24, 32))
        sampling.measure_windows(steps, 8, 4, 2)
    assert re.fullmatch(r"8 views in 3 windows of 4: two steps \d+ s, peak \+\d+ MB\n", capsys.readouterr().out)
