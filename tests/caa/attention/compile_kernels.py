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
MODELS = ("fp16", 320, 9, 2), ("bf16", 1280, 9, 2), ("fp32", 352, 1, 11)  # dtype, width, samples, entries
TYPES = {"eps": "fp32", "logit_scale": "fp32", "valid": "*u8"}
TYPES |= dict.fromkeys(("size", "views", "sources", "asked", "together", "channels", "count"), "i32")
TYPES |= dict.fromkeys(("pixels", "entry_rows", "entry_views", "ends", "readers"), "*i32")
TYPES |= dict.fromkeys(("weights", "reader_weights", "unseen", "scales", "levels", "means"), "*fp32")
TYPES |= dict.fromkeys(("of_keys", "of_values", "of_spreads"), "*fp32")


def main() -> None:
    in_process.load_pack()
    from mvdiffusion_pack.caa.attention import triton_gradients, triton_kernels, triton_passes
    from mvdiffusion_pack.caa.attention.softmax import HEAD

    files = triton_kernels, triton_gradients, triton_passes
    kernels = [getattr(file, name) for file in files for name in vars(file) if "_kernel" in name]
    for target in TARGETS:
        for dtype, width, samples, entries in MODELS:
            sizes = {"width": width, "samples": samples, "entries": entries, "readings": samples * entries}
            sizes |= {"block": triton_kernels.QUERIES, "chunk": triton_kernels.CHUNK, "head": HEAD}
            sizes |= {"tile": triton_passes.TILE, "rows": triton_passes.ROWS, "padded": triton.next_power_of_2(width)}
            of_kernel = {
                "attend_kernel": {"block": triton_kernels.FEW, "heads": triton_kernels.heads_of(width)},
                "gated_kernel": {"block": triton_passes.NUMBERS, "width": 4 * width},
            }
            for kernel in kernels:
                own = sizes | of_kernel.get(kernel.__name__, {})
                constants = {name: size for name, size in own.items() if name in kernel.arg_names}
                types = {name: TYPES.get(name, f"*{dtype}") for name in kernel.arg_names}
                types |= dict.fromkeys(constants, "constexpr")
                options = {"num_warps": triton_kernels.WARPS} if kernel.__name__ == "attend_kernel" else {}
                triton.compile(ASTSource(kernel, types, constants), target=target, options=options)
                print(f"{kernel.__name__} {dtype} {width} {target.backend} {target.arch}")  # noqa: T201


if __name__ == "__main__":
    main()
