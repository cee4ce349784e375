from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import host_process
import psutil
import pytest
from environment import ROOT

# A program with a child of its own; both write their process numbers into the folder where they run.
PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
Path("program").write_text(str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
Path("child.part").write_text(str(child.pid))
os.rename("child.part", "child")
time.sleep(300)
"""

# A closed terminal is heard also under nohup.
PARENT = """
import os, signal, sys, time
from pathlib import Path
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.path.insert(0, sys.argv[1])
import host_process
folder = Path(sys.argv[2])
host_process.start(folder / "program.py", [], folder, dict(os.environ), folder / "log")
time.sleep(300)
"""


def wait_for(condition, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def running(folder: Path, name: str) -> bool:
    number = int((folder / name).read_text())
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def test_end_ends_the_program_and_its_children(folder: Path):
    process = host_process.start(folder / "program.py", [], folder, dict(os.environ), folder / "log")
    assert wait_for((folder / "child").exists), (folder / "log").read_text()
    host_process.end(process)
    assert wait_for(lambda: not running(folder, "program") and not running(folder, "child"))


def test_end_of_a_program_that_has_ended(folder: Path):
    (folder / "program.py").write_text("print('done')", encoding="utf-8")
    process = host_process.start(folder / "program.py", [], folder, dict(os.environ), folder / "log")
    process.wait(timeout=20)
    host_process.end(process)
    assert (folder / "log").read_text() == "done\n"


def test_program_sees_its_own_arguments_and_folder(folder: Path):
    (folder / "beside.py").write_text("value = 3", encoding="utf-8")
    (folder / "program.py").write_text("import sys, beside; print(sys.argv[1:], beside.value, __name__)")
    process = host_process.start(folder / "program.py", ["--a", "b c"], folder, dict(os.environ), folder / "log")
    process.wait(timeout=20)
    assert (folder / "log").read_text() == "['--a', 'b c'] 3 __main__\n"


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_program_does_not_outlive_its_parent(name: str, folder: Path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(ROOT / "scripts"), str(folder)])
    assert wait_for((folder / "child").exists)
    parent.send_signal(getattr(signal, name))  # and nobody waits for it: the parent stays as a dead process
    assert wait_for(lambda: not running(folder, "program") and not running(folder, "child"))
    parent.wait()
