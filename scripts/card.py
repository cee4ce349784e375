"""What a graphics card is tried with: the tests that use it, and benchmarks of sampling and stitching."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from environment import ROOT, SetUpError

TESTS = ["tests/caa", "tests/scenes/test_render.py"]  # those that compute on a card where there is one
# A batch with and without the prompt, as users sample. Of the published way once is enough: it takes its time.
SCENES = {"ring": ["--guidance"], "sphere": ["--latent", "64", "--guidance"], "depth": ["--guidance"], "windows": []}
PUBLISHED = "ring, fp16", "depth, fp16"
DTYPES = "fp16", "bf16"


def check_card() -> None:
    """Raises SetUpError where torch finds no card: one sentence that says what is missing."""
    import torch

    if torch.cuda.is_available():
        return
    if torch.version.cuda or torch.version.hip:
        raise SetUpError(
            f"no graphics card: torch {torch.__version__} can use one, but finds neither a card nor a driver that fits"
        )
    raise SetUpError(
        f"no graphics card: torch {torch.__version__} in .venv is built without CUDA and ROCm; where there is a card, "
        "put one with it into .venv (https://pytorch.org/get-started/locally)"
    )


def described() -> str:
    """The card, its driver, and the software that its speed depends on, in a line."""
    import torch

    card, (major, minor) = torch.cuda.get_device_properties(0), torch.cuda.get_device_capability(0)
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    triton = f"Triton {metadata.version('triton')}" if util.find_spec("triton") else "no Triton"
    parts = [f"{card.name}, {card.total_memory / 2**30:.0f} GiB, capability {major}.{minor}, driver {_driver()}"]
    return ", ".join([*parts, f"torch {torch.__version__}, {runtime}, {triton}", platform.platform()])


def _driver() -> str:
    """NVIDIA's driver or, with ROCm, the kernel's."""
    amd = Path("/sys/module/amdgpu/version")
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return amd.read_text(encoding="utf-8").strip() if amd.exists() else "unknown"


def benchmarks() -> Iterator[tuple[str, list[str]]]:
    """Names, and what Python is to run. Stitching computes in fp32 whatever it is given: it has no other dtype."""
    sampling, stitching = (str(ROOT / "benchmarks" / name) for name in ("sampling.py", "stitching.py"))
    for layout in ("ring", "sphere"):
        yield f"stitching, {layout}", [stitching, "--device", "cuda", "--layout", layout]
    for dtype in DTYPES:
        for scene, how in SCENES.items():
            name = f"{scene}, {dtype}"
            ways = ["published"] * (name in PUBLISHED) + ["torch", "auto"]
            ways = [] if scene == "windows" else ["--ways", *ways]
            yield name, [sampling, scene, *how, "--device", "cuda", "--dtype", dtype, *ways]
