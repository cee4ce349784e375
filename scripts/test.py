"""Lints the project and runs its tests, in an environment that it makes itself.

    python scripts/test.py [--quick] [--host FOLDER]... [--all-hosts] [argument for pytest ...]

The ComfyUI that is found (COMFYUI_PATH, the one the pack is installed in, ~/ComfyUI, ~/comfy/ComfyUI) runs all tests,
each further one those that touch the host. Without any, the tests that need none are run. `--quick` runs lint and
mathematics alone, in less than a minute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from comfy_host import HOW_TO_GET_COMFYUI, checked_host, find_comfyui, host_environment, host_version
from environment import ROOT, enter, run_script
from web_lint import lint_web

NO_TESTS = 5  # pytest's exit code when it found none
HOSTLESS = ["--no-host", "-m", "not (host or server)"]
QUICK = ["--no-host", "-m", "not (host or server or slow or thorough)"]


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="lint and mathematics alone, without a ComfyUI")
    parser.add_argument("--host", action="append", type=Path, default=[], metavar="FOLDER", help="one more ComfyUI")
    parser.add_argument("--all-hosts", action="store_true", help="also every ComfyUI-VERSION beside the found one")
    return parser.parse_known_args()


def chosen_hosts(main: Path | None, args: argparse.Namespace) -> list[Path]:
    """The found host first, then those asked for, each once."""
    hosts = ([main] if main else []) + [checked_host(path, "--host") for path in args.host]
    if args.all_hosts and main:
        beside = sorted(main.parent.glob(f"{main.name}-*"))
        hosts += [checked_host(path, "--all-hosts") for path in beside if (path / "main.py").exists()]
    return list({host.resolve(): host for host in hosts}.values())


def tool(name: str, *args: str, environment: dict[str, str] | None = None) -> int:
    """Runs a program of `.venv` in the project's root. Not `python -m`: that would put the root on Python's path, where
    the pack's folders hide the host's modules of the same names."""
    program = Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else ""))
    sys.stdout.flush()
    return subprocess.run([str(program), *args], cwd=ROOT, env=environment).returncode


def run_pytest(host: Path, selection: list[str], args: list[str]) -> int:
    print(f"\ntesting with ComfyUI {host_version(host)} in {host}")
    environment = {**os.environ, **host_environment(host), "COMFYUI_PATH": str(host)}
    return tool("pytest", *selection, *args, environment=environment)


def lint() -> dict[str, int]:
    """Exit codes by tool."""
    return {
        "ruff check": tool("ruff", "check"),
        "ruff format": tool("ruff", "format", "--check"),
        "types": tool("basedpyright", "--level=error"),
        **lint_web(),
    }


def main() -> int:
    args, pytest_args = arguments()
    hosts = [] if args.quick else chosen_hosts(find_comfyui(), args)
    enter(hosts[0] if hosts else None, development=True)
    print(f"ComfyUI to test with: {', '.join(map(host_version, hosts)) or 'none'}", flush=True)
    results = lint()
    if args.quick:
        results["quick tests"] = tool("pytest", *QUICK, *pytest_args)
    elif not hosts:
        print(f"\nno ComfyUI found, so no test that needs one is run: {HOW_TO_GET_COMFYUI}")
        results["pytest without ComfyUI"] = tool("pytest", *HOSTLESS, *pytest_args)
    for number, host in enumerate(hosts):
        selection = ["-m", "(host or server) and not slow"] if number else []
        code = run_pytest(host, selection, pytest_args)
        results[f"pytest with ComfyUI {host_version(host)} in {host}"] = 0 if number and code == NO_TESTS else code
    print()
    for name, code in results.items():
        print(f"{name}: {f'FAILED ({code})' if code else 'passed'}")
    return int(any(results.values()))


if __name__ == "__main__":
    run_script(main)
