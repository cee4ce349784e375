"""The project's own Python environment, `.venv` in the clone: made, repaired, entered, with the standard library alone.

A stamp in `.venv` lists what was asked of pip, so that a second run skips it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.txt"
PIP_LOG = VENV / "pip.log"

TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]


class SetUpError(RuntimeError):
    """Something that the user has to mend; the message is one sentence for them, with the last log lines if any."""


def run_script(main: Callable[[], int]) -> None:
    """Ends the process with main's exit code; an error of the set-up is said in a sentence, Ctrl-C without a traceback.

    SIGTERM ends main like an exception does, so that what it started is stopped on the way out.
    """
    if sys.version_info < (3, 10):  # noqa: UP036 (it is the reader's Python, not the project's)
        sys.exit("Python 3.10 or later is needed, this is " + sys.version.split()[0])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def enter(host: Path | None, development: bool = False) -> None:
    """Returns when the running Python is `.venv`'s, else starts the running script again in it, arguments and all.

    Before that it installs what is missing: torch, the requirements of the pack and of the ComfyUI in `host`, and with
    `development` the tools of the test command.
    """
    files = [ROOT / "requirements.txt"] + ([host / "requirements.txt"] if host else [])
    prepare(files, development_requirements() if development else [])
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    command = [str(PYTHON), *sys.argv]
    sys.stdout.flush()
    if os.name == "nt":  # exec there returns to the prompt while the new process still runs
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


def prepare(files: list[Path], packages: list[str]) -> None:
    """Makes `.venv` hold torch, the packages and what the files list, unless its stamp says that it does."""
    asked = {*TORCH, *packages, *(line for file in files for line in requirements(file))}
    if PYTHON.exists() and STAMP.exists() and asked <= set(STAMP.read_text(encoding="utf-8").splitlines()):
        return
    if not _has_pip():
        _make_venv()
    STAMP.unlink(missing_ok=True)
    PIP_LOG.unlink(missing_ok=True)
    pip_install("torch (once, some minutes)", TORCH)
    # torch's pins stand here too: no other requirement may replace them.
    pip_install("what ComfyUI and the pack require", [*TORCH, *packages, *(f"--requirement={file}" for file in files)])
    STAMP.write_text("\n".join(sorted(asked)) + "\n", encoding="utf-8")


def requirements(file: Path) -> list[str]:
    """The lines of a requirements file that ask for something."""
    lines = (line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def development_requirements() -> list[str]:
    """The tools of the test command: pyproject.toml's `dev`. Python 3.10 cannot read TOML: it is a list of strings."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = re.search(r"^dev = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    return re.findall(r'^\s*"(.*?)"', lines, re.MULTILINE)


def pip_install(what: str, arguments: list[str]) -> None:
    """Runs `.venv`'s pip with its output in a log.

    Raises:
        SetUpError: naming `what`, with the end of the log.
    """
    print(f"installing {what} ...", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command.append("--no-cache-dir")  # nothing is written outside of the clone
    with PIP_LOG.open("ab") as log:
        code = subprocess.run([*command, *arguments], stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        raise SetUpError(f"pip could not install {what}; the end of {PIP_LOG}:\n{last_lines(PIP_LOG)}")


def install_differing(file: Path, folder: Path) -> bool:
    """Installs into a folder what a requirements file asks for and `.venv` has otherwise, without its dependencies.

    That is every line which pins another version than the one in `.venv`, or names a package that is missing there.
    Returns whether there is such a line.
    """
    lines = _differing(file)
    stamp = folder / "installed.txt"
    if lines and not (stamp.exists() and stamp.read_text(encoding="utf-8").splitlines() == lines):
        shutil.rmtree(folder, ignore_errors=True)
        pip_install(f"{', '.join(lines)} into {folder}", ["--no-deps", f"--target={folder}", *lines])
        stamp.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bool(lines)


def _differing(file: Path) -> list[str]:
    # Not the whole of sys.path: the folder of an earlier call may stand there.
    installed = metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    versions = {_normalised(package.metadata["Name"]): package.version for package in installed}
    differing = []
    for line in requirements(file):
        name, pin = re.match(r"([\w.-]+)(?:\s*==\s*([^\s;]+))?", line).groups()
        version = versions.get(_normalised(name))
        if version is None or pin not in (None, version):
            differing.append(line)
    return differing


def _normalised(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-count:])


def _has_pip() -> bool:
    """Whether `.venv` is whole enough for pip to run: not so when its making was interrupted or its Python is gone."""
    if not PYTHON.exists():
        return False
    return subprocess.run([str(PYTHON), "-m", "pip", "--version"], capture_output=True).returncode == 0


def _make_venv() -> None:
    print(f"making {VENV} ...", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    python = getattr(sys, "_base_executable", sys.executable)
    venv = [python, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(venv, capture_output=True).returncode == 0:
        return
    # Debian and Ubuntu ship Python without ensurepip: there the running Python's pip puts one into the environment.
    borrowed_pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "pip"]
    for command in ([*venv, "--without-pip"], borrowed_pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise SetUpError(f"could not make {VENV} with {python}: {said}")
