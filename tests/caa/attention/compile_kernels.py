"""Compiles the Triton kernels for cards that need not be there, at SD 2's widths; run by test_fast.py in a process of
its own, since Triton interprets in the tests' process."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
import in_process
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = GPUTarget("cuda", 75, 32), GPUTarget("cuda", 90, 32), GPUTarget("hip", "gfx1100", 32)


def signature(kernel, dtype: str, sizes: dict[str, int]) -> dict[str, str]:
    """The types of a kernel's arguments: pointers, sizes, and the constants that `sizes` names."""
    types = {"size": "i32", "views": "i32", "eps": "fp32", "logit_scale": "fp32", "valid": "*u8"}
    types |= dict.fromkeys(("pixels", "entry_rows", "entry_views"), "*i32")
    types |= dict.fromkeys(("weights", "unseen", "scales"), "*fp32")
    return {name: "constexpr" if name in sizes else types.get(name, f"*{dtype}") for name in kernel.arg_names}


def main() -> None:
    in_process.load_pack()
    from mvdiffusion_pack.caa.attention import triton_kernels as kernels
    from mvdiffusion_pack.caa.attention.softmax import HEAD

    for target in TARGETS:
        for dtype, width, samples, entries in (("fp16", 320, 9, 2), ("bf16", 1280, 9, 2), ("fp32", 640, 1, 11)):
            sizes = {"width": width, "samples": samples, "entries": entries, "block": kernels.BLOCK}
            for kernel, last in ((kernels.scales_kernel, "chunk"), (kernels.attend_kernel, "head")):
                constants = sizes | {last: kernels.CHUNK if last == "chunk" else HEAD}
                triton.compile(ASTSource(kernel, signature(kernel, dtype, constants), constants), target=target)
                print(f"{kernel.__name__} {dtype} {width} {target.backend} {target.arch}")  # noqa: T201


if __name__ == "__main__":
    main()
