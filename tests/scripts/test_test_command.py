from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import card
import psutil
import pytest
import torch
from environment import SetUpError
from in_process import ROOT

spec = importlib.util.spec_from_file_location("test_command", ROOT / "scripts" / "test.py")  # Python has a module test
test_command = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test_command)
WAITS = "import time; print('begun', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Programs of `.venv` are lines of Python here, and logs lie in a folder of the test's."""
    monkeypatch.setattr(test_command, "program", lambda line, *args: [sys.executable, "-c", line, *args])
    monkeypatch.setattr(test_command, "VENV", tmp_path)


def test_what_runs_beside_is_shown_when_it_has_ended(capfd):
    with test_command.Beside(["print('done'); exit(3)"], dict(os.environ), "name") as beside:
        assert capfd.readouterr().out == ""
        assert beside.wait() == 3
    assert capfd.readouterr().out.strip() == "done"


def test_nothing_goes_on_when_the_command_ends_early():
    with (
        pytest.raises(KeyboardInterrupt),
        test_command.Beside([WAITS], dict(os.environ), "name") as beside,
    ):
        raise KeyboardInterrupt
    assert not psutil.pid_exists(beside.process.pid)


def hosts(folder: Path) -> list[Path]:
    """What looks like two hosts, 1 and 2."""
    for version in "12":
        (folder / version).mkdir()
        (folder / version / "comfyui_version.py").write_text(f'__version__ = "{version}"', encoding="utf-8")
    return [folder / version for version in "12"]


def test_the_first_host_runs_its_tests_and_others_those_that_differ_and_none_is_run_twice(tmp_path, monkeypatch, capfd):
    said = "import os, sys; print(os.environ['COMFYUI_PATH'][-1], sys.argv[1:])"
    program = test_command.program
    monkeypatch.setattr(test_command, "program", lambda name, *args: program(said, *args))
    monkeypatch.setattr(test_command, "host_environment", lambda host: {})
    results = test_command.pytest_in(hosts(tmp_path), ["-x"])
    assert set(results.values()) == {0} and len(results) == 3
    lines = capfd.readouterr().out.splitlines()
    assert f"1 {[*test_command.FIRST, '-x']}" in lines and f"2 {[*test_command.FURTHER, '-x']}" in lines
    assert f"1 {[*test_command.HOSTLESS, '-x']}" in lines


@pytest.mark.parametrize(
    ("with_host", "without", "result"),
    [(5, 0, [0, 0, 0]), (0, 5, [0, 0, 0]), (5, 5, [5, 5, 5]), (1, 5, [1, 0, 1])],
    ids=["none of hosts", "hosts' alone", "none at all", "failed"],
)
def test_a_selection_may_leave_some_runs_without_tests(tmp_path, monkeypatch, with_host, without, result):
    program = test_command.program
    code = {True: without, False: with_host}
    monkeypatch.setattr(test_command, "program", lambda _, *args: program(f"exit({code['--no-host' in args]})"))
    monkeypatch.setattr(test_command, "host_environment", lambda host: {})
    assert list(test_command.pytest_in(hosts(tmp_path), []).values()) == result


def test_runs_at_once_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [test_command.shared_cores(runs)["OMP_NUM_THREADS"] for runs in (2, 3, 8)] == ["3", "2", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert test_command.shared_cores(3)["OMP_NUM_THREADS"] == "4"


def test_without_comfyui_nothing_of_a_card_is_begun(monkeypatch):
    monkeypatch.setattr(test_command, "enter", lambda *_, **__: pytest.fail("packages were installed"))
    with pytest.raises(SetUpError, match="no ComfyUI found"):
        test_command.on_card(None, [])


def test_the_command_names_the_card_and_goes_on_where_something_fails(monkeypatch, capfd, tmp_path):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "1"', encoding="utf-8")
    monkeypatch.setattr(test_command, "enter", lambda *_, **__: None)
    monkeypatch.setattr(test_command, "host_environment", lambda host: {})
    monkeypatch.setattr(card, "check_card", lambda: None)
    monkeypatch.setattr(
        test_command, "program", lambda name, *args: [sys.executable, "-c", f"exit({name == 'pytest'})"]
    )
    properties = SimpleNamespace(name="A Card", total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert test_command.on_card(tmp_path, []) == 1
    lines = capfd.readouterr().out.splitlines()
    assert re.match(r"A Card, 8 GiB, capability 9\.0, driver .*, torch .*, ComfyUI 1$", lines[0])
    assert "tests: FAILED (1)" in lines and "windows, bf16: passed" in lines and "stitching, sphere: passed" in lines
