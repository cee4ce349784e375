"""Lint of web/ with ESLint and Prettier, where Node.js is installed: their versions stand in package-lock.json."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

from environment import ROOT, VENV

LOCK = ROOT / "package-lock.json"
MODULES = ROOT / "node_modules"
STAMP = MODULES / "installed.json"


def lint_web() -> dict[str, int]:
    """Exit codes by tool; none where Node.js is missing or too old, which is said in one line."""
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["engines"]["node"]
    node, npm = shutil.which("node"), shutil.which("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node and npm else ""
    if _numbers(version) < _numbers(wanted):
        found = f"Node.js {version.strip()} is too old" if version else "there is no Node.js with npm"
        print(f"\nweb/ is not linted: {found} ({wanted} is needed)", flush=True)
        return {}
    if not _install(npm):
        return {"npm ci": 1}  # the tests are run all the same
    tools = {
        "eslint": ["eslint/bin/eslint.js", "web"],
        "prettier": ["prettier/bin/prettier.cjs", "--check", "--log-level=warn", "web"],
    }
    return {
        name: subprocess.run([node, MODULES / program, *arguments], cwd=ROOT).returncode
        for name, (program, *arguments) in tools.items()
    }


def _install(npm: str) -> bool:
    """Whether the tools are there."""
    lock = LOCK.read_text(encoding="utf-8")
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == lock:
        return True
    print("installing ESLint and Prettier ...", flush=True)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", f"--cache={VENV / 'npm'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"npm could not install what package-lock.json lists:\n{done.stderr.strip()}", flush=True)
        return False
    STAMP.write_text(lock, encoding="utf-8")
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """(20, 19) of '>=20.19' and of 'v20.19.0', whose rest does not matter; smaller than all where there are none."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
