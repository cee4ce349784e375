"""What the registry's archive leaves out (.comfyignore): nothing that a running ComfyUI reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
READ = "__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md"
READ_FOLDERS = "caa", "demo", "geometry", "host", "nodes", "scenes", "web", "workflows"


@pytest.fixture(scope="module")
def left_out() -> set[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("git tells what the patterns match")
    # -c core.excludesFile: what a person ignores everywhere is no matter of the archive.
    command = ["git", "-c", "core.excludesFile=", "ls-files", "-ci", f"--exclude-from={ROOT / '.comfyignore'}"]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines())


def test_all_that_runs_is_in_the_archive(left_out):
    assert [path for path in sorted(left_out) if path in READ or path.split("/")[0] in READ_FOLDERS] == []
    training = {path for path in left_out if path.startswith("training/")}
    assert training and all(
        path.startswith("training/demo/") for path in training
    )  # the demo model is trained by a script


def test_tests_and_pages_for_developers_are_not(left_out):
    assert {"docs/architecture.md", "scripts/test.py", "tests/conftest.py", "CONTRIBUTING.md"} <= left_out
