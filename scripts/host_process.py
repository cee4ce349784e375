"""A Python program in a process of its own that cannot outlive the one that started it, nor leave children behind.

Run as a script, `python host_process.py PARENT PROGRAM.py [argument ...]`, this file is what goes between the two: it
runs the program and ends it as soon as the process with the number PARENT is gone, by Ctrl-C, a signal or a crash.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def start(
    program: Path, arguments: list[str], folder: Path, environment: dict[str, str], log: Path
) -> subprocess.Popen:
    """Starts a program in a folder, its output going to a log.

    It gets a session of its own: Ctrl-C reaches only this process, which then ends it in good order.
    """
    command = [sys.executable, __file__, str(os.getpid()), str(program), *arguments]
    options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )


def end(process: subprocess.Popen) -> None:
    """Ends a started program with every process that it started, and returns when it is gone."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        process.wait()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left (macOS says it the second way)
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def _end_with(parent: int) -> None:
    import psutil  # in the environment through the host's requirements

    # A dead parent that nobody waited for keeps its number, but its children get another parent. On Windows its number
    # goes, and between the two stands the launcher of the virtual environment.
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = psutil.Process(parent)
        while watched.is_running() and (os.name == "nt" or os.getppid() == parent):
            time.sleep(0.5)
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
