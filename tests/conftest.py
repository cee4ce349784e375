"""Loads the pack under a private name, as the host does: by path, whatever its folder is called.

Tests marked `host` run inside the ComfyUI that scripts/comfy_host.py finds, and skip with one line where there is none
or --no-host is given.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests"))

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: its kernels then run on the CPU

import comfy_host  # noqa: E402
import in_process  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-host", action="store_true", help="do not look for a ComfyUI: skip the tests that need one")


def pytest_configure(config: pytest.Config) -> None:
    config.host = None if config.getoption("--no-host") else comfy_host.find_comfyui(ROOT)
    if config.host is not None:
        in_process.start_host(config.host, "--cpu")
    in_process.load_pack()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hostless tests first; host tests skip where no host is."""
    rank = {"host": 1, "server": 2, "slow": 3}
    items.sort(key=lambda item: max((rank.get(mark.name, 0) for mark in item.iter_markers()), default=0))
    if config.host is None:
        skip = pytest.mark.skip(reason="no ComfyUI found: set COMFYUI_PATH, or run `python scripts/demo.py` once")
        for item in items:
            if item.get_closest_marker("host") or item.get_closest_marker("server"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def comfy():
    """The host's `comfy` package, in process, on the CPU."""
    import comfy
    import nodes  # noqa: F401  (the host's)

    return comfy
