from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import web_lint

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs in these tests are shell scripts")


def on_path(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (None, "there is no Node.js with npm (>=20.19 is needed)"),
        ("v18.20.4", "Node.js v18.20.4 is too old (>=20.19 is needed)"),
    ],
)
def test_without_a_node_that_serves_one_line_says_so(tmp_path, monkeypatch, capfd, node, said):
    if node:
        for name in ("node", "npm"):
            on_path(tmp_path, name, f"echo {node}")
    monkeypatch.setattr(web_lint.shutil, "which", lambda name, which=shutil.which: which(name, path=str(tmp_path)))
    assert web_lint.lint_web() == {}
    assert capfd.readouterr().out == f"\nweb/ is not linted: {said}\n"


def test_what_npm_says_is_shown_when_it_cannot_install(tmp_path, monkeypatch, capfd):
    on_path(tmp_path, "npm", "echo no network >&2; exit 1")
    monkeypatch.setattr(web_lint, "STAMP", tmp_path / "installed.json")
    assert not web_lint._install(str(tmp_path / "npm"))
    assert "npm could not install what package-lock.json lists:\nno network" in capfd.readouterr().out
    assert not web_lint.STAMP.exists()


def test_what_is_installed_is_not_installed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(web_lint, "STAMP", tmp_path / "installed.json")
    count = tmp_path / "count"
    on_path(tmp_path, "npm", f"echo once >> '{count}'")
    web_lint._install(str(tmp_path / "npm"))
    web_lint._install(str(tmp_path / "npm"))
    assert count.read_text(encoding="utf-8") == "once\n"
