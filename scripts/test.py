"""Lints the project and runs its tests, in an environment that it makes itself.

    python scripts/test.py [--quick] [--host FOLDER]... [--all-hosts] [argument for pytest ...]
    python scripts/test.py --device cuda [argument for pytest ...]

The ComfyUI that is found (COMFYUI_PATH, the one the pack is installed in, ~/ComfyUI, ~/comfy/ComfyUI) runs all tests
that need one, each further one those that its version may change; tests that need none run beside them. `--quick` runs
lint and mathematics alone, in a minute or two. `--device cuda` runs what a graphics card has to show
(NVIDIA's or AMD's): the tests that use it, then benchmarks; what it prints is meant to be pasted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import card
from comfy_host import HOW_TO_GET_COMFYUI, checked_host, find_comfyui, host_environment, host_version
from environment import ROOT, VENV, SetUpError, enter, run_script
from web_lint import lint_web

NUMBERS = itertools.count(1)  # of the logs of what runs beside
NO_TESTS = 5  # pytest's exit code when it found none
HOSTLESS = ["--no-host", "-m", "not (host or server)"]
FIRST = ["-m", "host or server"]
FURTHER = ["-m", "(host or server) and not (slow or once)"]  # of hosts beside the first
QUICK = ["--no-host", "-m", "not (host or server or slow or thorough)"]


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="lint and mathematics alone, without a ComfyUI")
    parser.add_argument("--host", action="append", type=Path, default=[], metavar="FOLDER", help="one more ComfyUI")
    parser.add_argument("--all-hosts", action="store_true", help="also every ComfyUI-VERSION beside the found one")
    parser.add_argument("--device", choices=["cuda"], help="the tests that use a graphics card, and benchmarks on it")
    return parser.parse_known_args()


def chosen_hosts(main: Path | None, args: argparse.Namespace) -> list[Path]:
    """The found host first, then those asked for, each once."""
    hosts = ([main] if main else []) + [checked_host(path, "--host") for path in args.host]
    if args.all_hosts and main:
        beside = sorted(main.parent.glob(f"{main.name}-*"))
        hosts += [checked_host(path, "--all-hosts") for path in beside if (path / "main.py").exists()]
    return list({host.resolve(): host for host in hosts}.values())


def program(name: str, *args: str) -> list[str]:
    """The command that runs a program of `.venv`. Not `python -m`: that would put the root on Python's path, where the
    pack's folders hide the host's modules of the same names."""
    return [str(Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else ""))), *args]


def tool(name: str, *args: str, environment: dict[str, str] | None = None) -> int:
    """The exit code of a program of `.venv`, run in the project's root."""
    sys.stdout.flush()
    return subprocess.run(program(name, *args), cwd=ROOT, env=environment).returncode


def pytest_in(hosts: list[Path], args: list[str]) -> dict[str, int]:
    """pytest's exit codes. The first host's tests run here; others', and those without one, beside it into logs."""
    first, *further = (f"with ComfyUI {host_version(host)} in {host}" for host in hosts)
    environments = [{**shared_cores(len(hosts) + 1), **host_environment(host)} for host in hosts]
    environments = [{**of, "COMFYUI_PATH": str(host)} for of, host in zip(environments, hosts, strict=True)]
    with ExitStack() as stack:
        beside = {"without ComfyUI": stack.enter_context(Beside(["pytest", *HOSTLESS, *args], environments[0], "none"))}
        for name, host, environment in zip(further, hosts[1:], environments[1:], strict=True):
            beside[name] = stack.enter_context(Beside(["pytest", *FURTHER, *args], environment, host_version(host)))
        print(f"\ntesting {first}")
        codes = {first: tool("pytest", *FIRST, *args, environment=environments[0])}
        for name, other in beside.items():
            print(f"\ntesting {name}")
            codes[name] = other.wait()
    if set(codes.values()) != {NO_TESTS}:  # a selection of tests may leave some without any
        codes = {name: 0 if code == NO_TESTS else code for name, code in codes.items()}
    return {f"pytest {name}": code for name, code in codes.items()}


def shared_cores(runs: int) -> dict[str, str]:
    """Variables with which so many runs of torch at once do not stand in each other's way."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // runs)), **os.environ}


class Beside:
    """A program of `.venv` that runs beside this one; what it says is shown when it has ended."""

    def __init__(self, command: list[str], environment: dict[str, str], name: str) -> None:
        self.log = VENV / f"test-{name}-{next(NUMBERS)}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                program(*command), cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing goes on when this program ends early."""
        if self.process.poll() is None:
            # Not as Ctrl-C does: what a shell starts in the background does not hear that. Servers end by themselves.
            self.process.terminate()
            self.process.wait()

    def wait(self) -> int:
        code = self.process.wait()
        print(self.log.read_text(encoding="utf-8", errors="replace"), flush=True)
        return code


def lint() -> dict[str, int]:
    """Exit codes by tool."""
    return {
        "ruff check": tool("ruff", "check"),
        "ruff format": tool("ruff", "format", "--check"),
        **lint_web(),
    }


def on_card(host: Path | None, args: list[str]) -> int:
    """Runs what a card can show, in turns, and goes on where something fails. The exit code is 1 then."""
    if host is None:
        raise SetUpError(f"no ComfyUI found, whose UNet is measured: {HOW_TO_GET_COMFYUI}")
    enter(host, development=True)
    card.check_card()
    print(f"{card.described()}, ComfyUI {host_version(host)}", flush=True)
    environment = {**os.environ, **host_environment(host), "COMFYUI_PATH": str(host)}
    results = {"tests": tool("pytest", "--no-host", "-q", *card.TESTS, *args, environment=environment)}
    for name, command in card.benchmarks():
        print(f"\n{name}", flush=True)
        results[name] = tool("python", *command, environment=environment)
    return said(results)


def said(results: dict[str, int]) -> int:
    """Prints what passed and what failed; 1 if anything did."""
    print()
    for name, code in results.items():
        print(f"{name}: {f'FAILED ({code})' if code else 'passed'}")
    return int(any(results.values()))


def main() -> int:
    args, pytest_args = arguments()
    if args.device:
        return on_card(find_comfyui(), pytest_args)
    hosts = [] if args.quick else chosen_hosts(find_comfyui(), args)
    enter(hosts[0] if hosts else None, development=True)
    print(f"ComfyUI to test with: {', '.join(map(host_version, hosts)) or 'none'}", flush=True)
    with Beside(["basedpyright", "--level=error"], dict(os.environ), "types") as types:
        results = lint()
        if args.quick:
            results["quick tests"] = tool("pytest", *QUICK, *pytest_args)
        elif not hosts:
            print(f"\nno ComfyUI found, so no test that needs one is run: {HOW_TO_GET_COMFYUI}")
            results["pytest without ComfyUI"] = tool("pytest", *HOSTLESS, *pytest_args)
        else:
            results |= pytest_in(hosts, pytest_args)
        print("\ntypes")
        results["types"] = types.wait()
    return said(results)


if __name__ == "__main__":
    run_script(main)
