"""The pack, and ComfyUI without its server, imported into this process: for tests and benchmarks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mvdiffusion_pack"


def load_pack(name: str = PACKAGE):
    """Imports the pack by path under `name`, as the host does: whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def start_host(host: Path, *arguments: str) -> None:
    """Puts ComfyUI's modules on sys.path, with command line `arguments` such as --cpu, before it reads its own."""
    sys.path.insert(0, str(host))
    own, sys.argv = sys.argv, ["main.py", *arguments]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args

    sys.argv = own
