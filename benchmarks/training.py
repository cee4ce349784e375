"""What training CAA costs: forward and backward of all views with the blocks, against the frozen UNet without them.

    python benchmarks/training.py                 8 views of 32 x 32 latents, fp32
    python benchmarks/training.py --dtype bf16    what the blocks compute in; their weights are fp32 in both

At SD 2's widths, with random weights. The UNet is frozen, and gradients flow through all of it, down to its input. The
steps of the ways are timed in turns in one process, and the ratio of medians counts: machines differ and are shared. On
a CPU the seconds are the processor's, so that what else the machine does counts little. `published` is the published
attention written directly, view by view (tests/published_block.py), with its geometry made once.

Memory is what is kept between forward and backward pass, beyond what the UNet alone keeps; weights and tables are not
in it. With checkpointing, the layers of the UNet and the blocks keep their inputs alone, and are computed again for the
gradients.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from sampling import DTYPES, Steps, comfy_host, in_process
from torch.utils.checkpoint import checkpoint

WAYS = "published", "plain", "torch", "auto"


class Run:
    """What the UNet's sites call while blocks learn."""

    def __init__(self, steps: TrainingSteps, way: str, checkpointing: bool) -> None:
        self._steps, self._way, self._checkpointing = steps, way, checkpointing
        self._tables = {}

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """(V, C, h, w) features to those that the block at this site makes of them."""
        found = self._steps.caa.at_site(name)
        if found is None:
            return x
        with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
            if self._checkpointing:
                KEPT.take([x])
                return checkpoint(self._block, *found, x, use_reentrant=False).to(x.dtype)
            return self._block(*found, x).to(x.dtype)

    def _block(self, block: torch.nn.Module, bands: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        from published_block import published_block

        tables = self._tables_of(*x.shape[-2:])
        if self._way == "published":
            return published_block(block, x, tables.correspondences, bands)
        return block(x[None], tables, bands)[0]

    def _tables_of(self, height: int, width: int):
        from mvdiffusion_pack.caa.attention.memory import Memory
        from mvdiffusion_pack.caa.attention.tables import Tables

        if (height, width) not in self._tables:
            on_cpu = self._steps.device.type == "cpu"
            memory = Memory.within(2**36, on_cpu, 2**36)
            correspondences = self._steps.cameras.correspondences(height, width)
            self._tables[height, width] = Tables(
                correspondences, memory, way="auto" if self._way == "published" else self._way
            )
        return self._tables[height, width]


class TrainingSteps(Steps):
    """Steps of training: one forward and one backward pass each."""

    def __init__(self, arguments) -> None:
        from mvdiffusion_pack.caa.blocks import CAA
        from mvdiffusion_pack.caa.weights.kinds import PANORAMA
        from mvdiffusion_pack.geometry.layouts import ring

        side = arguments.latent
        super().__init__(arguments, PANORAMA, ring(arguments.views, 90, 8 * side, 8 * side), (side, side))
        weights = self.caa.state_dict()
        self.caa = CAA(PANORAMA, self.caa.widths, self.caa.frequencies, torch.nn, device=self.device)
        self.caa.load_state_dict(weights)

    def pass_of(self, way: str | None, checkpointing: bool) -> Callable[[], torch.Tensor]:
        """A forward pass with the blocks, which attend in one of WAYS, or (None) of the UNet alone, to a loss."""
        from mvdiffusion_pack.host.inject import RUN

        options = self.options() | ({} if way is None else {RUN: Run(self, way, checkpointing)})

        def forward() -> torch.Tensor:
            self.caa.zero_grad()
            x = self.x.clone().requires_grad_()
            with self._checkpointed() if checkpointing else contextlib.nullcontext():
                return self.unet(x, self.timesteps, self.context, transformer_options=dict(options)).square().mean()

        return forward

    @contextlib.contextmanager
    def _checkpointed(self):
        """The layers of the UNet compute again what they need for the gradients."""
        from mvdiffusion_pack.host.inject import Site

        blocks = (*self.unet.input_blocks, self.unet.middle_block, *self.unet.output_blocks)
        layers = [layer for block in blocks for layer in block if not isinstance(layer, Site)]
        for layer in layers:
            layer.forward = _again(layer.forward)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward


def _again(forward: Callable) -> Callable:
    def checkpointed(*args, **kwargs):
        KEPT.take(args)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return checkpointed


class Kept:
    """The bytes of what is kept for the gradients, weights aside."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}

    def take(self, tensors: Iterable[object]) -> None:
        """Counts tensors, each storage once."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter):
                self._storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    def by(self, forward: Callable[[], torch.Tensor]) -> int:
        """What one pass keeps."""

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            self.take([tensor])
            return tensor

        self._storages.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = forward()
        kept = sum(self._storages.values())
        loss.backward()
        return kept


KEPT = Kept()


def seconds(call: Callable[[], None], device: torch.device) -> float:
    """What one call takes: of the processor's time on a CPU, else of the clock's, with the device's queue drained."""
    if device.type == "cpu":
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(steps: TrainingSteps, arguments, checkpointing: bool) -> None:
    """Times all ways in turns, after a first step of each, and prints a row for each."""
    passes = {way: steps.pass_of(way, checkpointing) for way in (None, *arguments.ways)}
    kept = {way: KEPT.by(forward) for way, forward in passes.items()}
    turns = [
        {way: seconds(lambda forward=forward: forward().backward(), steps.device) for way, forward in passes.items()}
        for _ in range(arguments.repeats)
    ]
    median = {way: statistics.median(turn[way] for turn in turns) for way in passes}
    for way, time_of_step in median.items():
        name, memory = ("UNet alone", kept[way]) if way is None else (way, kept[way] - kept[None])
        row = f"| {name} | {'on' if checkpointing else 'off'} | {time_of_step:.2f} s "
        print(row + f"| {time_of_step / median[None]:.2f} | {memory / 2**20:+.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", type=int, default=32, help="latent height and width: pixels / 8, a multiple of 8")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=["published", "plain", "auto"], help="how blocks attend"
    )
    parser.add_argument("--checkpointing", nargs="+", choices=("off", "on"), default=("off", "on"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the UNet and of what the blocks compute in")
    arguments = parser.parse_args()
    arguments.guidance = False
    if arguments.latent % 8:
        parser.error(f"--latent must be a multiple of 8, not {arguments.latent}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    host = comfy_host.find_comfyui(in_process.ROOT)
    if host is None:
        parser.error(comfy_host.HOW_TO_GET_COMFYUI)
    in_process.start_host(host, *(["--cpu"] if arguments.device.type == "cpu" else []))
    in_process.load_pack()
    steps = TrainingSteps(arguments)
    scene = f"{arguments.views} views of {arguments.latent} x {arguments.latent}"
    print(
        f"{scene}, {arguments.dtype}, {arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print("| attention | checkpointing | step | ratio | memory |\n|---|---|---|---|---|")
    for checkpointing in arguments.checkpointing:
        measure(steps, arguments, checkpointing == "on")


if __name__ == "__main__":
    main()
