from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import environment
import pytest
from environment import SetUpError, install_differing, prepare, requirements, run_script


def write_wheel(folder: Path, name: str) -> Path:
    """A package that pip can install without a network: one module, `name`."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


def has(module: str) -> bool:
    return subprocess.run([environment.PYTHON, "-c", f"import {module}"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """An environment in another folder, with one package in torch's place and nothing asked beyond it."""
    folder = tmp_path_factory.mktemp("clone")
    venv = folder / ".venv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "PYTHON", venv / environment.PYTHON.relative_to(environment.VENV))
        patch.setattr(environment, "VENV", venv)
        patch.setattr(environment, "STAMP", venv / "installed.txt")
        patch.setattr(environment, "PIP_LOG", venv / "pip.log")
        patch.setattr(environment, "TORCH", [str(write_wheel(folder, "in_place_of_torch"))])
        prepare([], [])
        yield folder


def write_requirements(folder: Path, *names: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("# comment\n" + "".join(f"{write_wheel(folder, name)}\n" for name in names), encoding="utf-8")
    return file


def test_environment_is_made(made: Path):
    assert has("in_place_of_torch")


def test_second_run_skips_pip(made: Path, tmp_path: Path):
    file = write_requirements(tmp_path, "one", "two")
    prepare([file], [])
    environment.PIP_LOG.unlink()
    prepare([write_requirements(tmp_path, "two")], [])
    assert not environment.PIP_LOG.exists()


def test_more_asked_runs_pip_again(made: Path, tmp_path: Path):
    prepare([write_requirements(tmp_path, "three")], [])
    prepare([write_requirements(tmp_path, "three", "four")], [])
    assert has("four")


def test_packages_are_installed_beside_files(made: Path, tmp_path: Path):
    prepare([write_requirements(tmp_path, "five")], [str(write_wheel(tmp_path, "six"))])
    assert has("six")


def test_environment_without_pip_is_made_anew(made: Path, tmp_path: Path):
    environment.STAMP.unlink(missing_ok=True)
    for pip in environment.VENV.rglob("site-packages/pip"):
        shutil.rmtree(pip)
    prepare([write_requirements(tmp_path, "seven")], [])
    assert has("seven") and has("pip")


def test_failure_shows_the_end_of_the_log_and_is_not_taken_for_done(made: Path, tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text(str(tmp_path / "missing-1.0-py3-none-any.whl"), encoding="utf-8")
    with pytest.raises(SetUpError, match=r"pip could not install what ComfyUI(.|\n)*missing-1\.0"):
        prepare([file], [])
    assert not environment.STAMP.exists()


def test_requirements_without_comments(tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text("# a\n\na==1 # b\n  c>=2\n", encoding="utf-8")
    assert requirements(file) == ["a==1", "c>=2"]


def test_tools_of_the_test_command_stand_in_pyproject_alone():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((environment.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert environment.development_requirements() == project["optional-dependencies"]["dev"]


def test_the_hook_before_commits_is_the_ruff_of_the_test_command():
    hook = (environment.ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    version = re.search(r"ruff-pre-commit\n    rev: v(\S+)", hook)[1]
    assert f"ruff=={version}" in environment.development_requirements()


def test_equal_versions_need_no_folder(tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text(f"Ruff == {metadata.version('ruff')}\npytest>=3\n", encoding="utf-8")
    assert not install_differing(file, tmp_path / "folder")


def test_other_pin_is_installed_into_the_folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_wheel(tmp_path, "ruff")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    file = tmp_path / "requirements.txt"
    file.write_text("pytest>=3\nruff==1.0\n", encoding="utf-8")
    assert install_differing(file, tmp_path / "folder")
    assert (tmp_path / "folder" / "ruff.py").exists()


def test_missing_package_is_installed_into_the_folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_wheel(tmp_path, "a_package_nobody_has")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    file = tmp_path / "requirements.txt"
    file.write_text("a-package-nobody-has>=1\n", encoding="utf-8")
    install_differing(file, tmp_path / "folder")
    assert (tmp_path / "folder" / "a_package_nobody_has.py").exists()


def test_folder_is_filled_once(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "installed.txt").write_text("ruff==0.0.0.1\n", encoding="utf-8")
    file = tmp_path / "requirements.txt"
    file.write_text("ruff==0.0.0.1\n", encoding="utf-8")
    assert install_differing(file, tmp_path / "folder")


@pytest.fixture
def own_sigterm():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_set_up_error_is_one_sentence(own_sigterm: None):
    def main() -> int:
        raise SetUpError("this is wrong")

    with pytest.raises(SystemExit) as raised:
        run_script(main)
    assert raised.value.code == "error: this is wrong"


def test_sigterm_unwinds_the_script(own_sigterm: None):
    ended = []

    def main() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append(True)
        return 0

    with pytest.raises(SystemExit) as raised:
        run_script(main)
    assert (raised.value.code, ended) == (143, [True])


def test_old_python_is_refused(own_sigterm: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.10 or later is needed"):
        run_script(lambda: 0)
