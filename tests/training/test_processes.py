"""Several processes train as one, and a process that is killed at any moment leaves a state to go on from."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import trained_apart
from safetensors.torch import load_file

from mvdiffusion_pack.training.distributed import World

# What C++ says where torch destroys a thread of its own that still runs: rare, seen on busy machines alone.
ABORTED = "terminate called without an active exception"
PROGRAM = Path(__file__).resolve().parent.parent / "trained_apart.py"
pytestmark = pytest.mark.thorough
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
if sys.platform == "linux":  # no name of this machine has to be looked up
    ENVIRONMENT["GLOO_SOCKET_IFNAME"] = "lo"


def command(folder: Path, result: Path, processes: int = 1, **changes) -> list[str]:
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0"]
        python += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    settings = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
    return [*python, str(PROGRAM), str(folder), str(result), *settings]


@pytest.fixture(autouse=True)
def _one_thread():
    """What runs here adds up in the order in which the processes do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_here(folder: Path, result: Path, **changes) -> dict[str, torch.Tensor]:
    """The same in this process, which has torch already."""
    trained_apart.train(World(), str(folder), str(result), changes)
    return load_file(result)


def run_in_two(folder: Path, result: Path, **changes) -> dict[str, torch.Tensor]:
    begun = folder.exists()
    for _ in range(2):
        done = subprocess.run(
            command(folder, result, 2, **changes), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        if begun or ABORTED not in done.stderr:
            break
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(result)


@pytest.mark.parametrize("changes", [{}, {"accumulation": 2, "ema": 0.9}])
def test_two_processes_give_the_gradients_of_one(tmp_path, changes):
    changes = {"batch": 4, "steps": 2, "max_norm": 0.0, **changes}
    one = run_here(tmp_path / "one", tmp_path / "one.safetensors", **changes)
    two = run_in_two(tmp_path / "two", tmp_path / "two.safetensors", **changes)
    scale = one["gradients"].abs().max().item()
    torch.testing.assert_close(two["gradients"], one["gradients"], rtol=1e-4, atol=1e-6 * scale)
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-6, atol=0)


def test_run_of_two_processes_goes_on_with_one_and_the_reverse(tmp_path):
    changes = {"batch": 4, "steps": 4}
    whole = run_here(tmp_path / "whole", tmp_path / "whole.safetensors", **changes)
    for first, go_on in ((1, run_in_two), (2, run_here)):
        folder, result = tmp_path / f"begun by {first}", tmp_path / "parts.safetensors"
        # A run of the same schedule that ends early: more steps would be another schedule.
        halted = command(folder, result, first, **changes)
        interrupted(halted, after=2)
        parts = go_on(folder, result, **changes)
        torch.testing.assert_close(parts["losses"], whole["losses"], rtol=1e-5, atol=0)


def interrupted(halted: list[str], after: int) -> None:
    """Runs a program that saves in each step, and kills it when so many steps are done."""
    with subprocess.Popen([*halted, "save_every=1"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == str(after):
                break
        process.send_signal(signal.SIGTERM if len(halted) > 6 else signal.SIGKILL)
        process.communicate(timeout=120)


def test_run_killed_at_any_moment_goes_on_bit_by_bit(tmp_path):
    """SIGKILL at five random moments, saving included: it saves in every step, which is most of its time."""
    changes = {"steps": 150, "save_every": 1, "ema": 0.9}
    whole = run_here(tmp_path / "whole", tmp_path / "whole.safetensors", **changes | {"save_every": 0})
    folder, result = tmp_path / "killed", tmp_path / "killed.safetensors"
    moments, kills, seen = random.Random(5), 0, 0
    while kills < 5:
        process = subprocess.Popen(
            command(folder, result, **changes), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()  # importing torch takes longest, and nothing is written then
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        assert int(first) >= seen
        seen, kills = int(first), kills + 1
        assert list(folder.glob("step_*"))
    last = run_here(folder, result, **changes | {"save_every": 0})
    assert torch.equal(last["losses"], whole["losses"])
    assert torch.equal(last["weights"], whole["weights"])
    assert [path.name for path in folder.iterdir()] == ["step_00000150"]
