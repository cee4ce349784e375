"""What fusing costs: sharing 8 views, against the same step of SD 2's UNet, the smallest of real ones.

    python benchmarks/fusing.py [--size 512] [--channels 4] [--device cuda]

One view's step is timed, without guidance, and counts 8 times; so does one view that SD's VAE decodes and encodes.
`once` is what cameras take to prepare.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import comfy_host
import in_process
from measuring import seconds
from sampling import randomise

VIEWS, RUNS = 8, 5


def main() -> None:
    arguments = _arguments()
    device, latent = torch.device(arguments.device), arguments.size // 8
    in_process.start_host(comfy_host.find_comfyui(), *(["--cpu"] if device.type == "cpu" else []))
    in_process.load_pack()
    with torch.inference_mode():
        step = VIEWS * median(plain_step(device, latent), device, 1)
        print(f"{VIEWS} views of {arguments.size} pixels, {arguments.channels} channels, {device}")
        print(f"a plain step: {step:.2f} s")
        once, fuse = latents_shared(device, latent, arguments)
        print(f"sharing latents: once {once:.2f} s, then {1000 * fuse:.1f} ms, {100 * fuse / step:.4f} % of a step")
        once, fuse = pictures_shared(device, arguments.size)
        print(f"sharing pictures: once {once:.2f} s, then {1000 * fuse:.0f} ms, {100 * fuse / step:.2f} % of a step")
        coding = VIEWS * median(decoded_and_encoded(device, latent), device, 1)
        print(f"and the VAE: {coding:.2f} s, {100 * coding / step:.0f} % of a step")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=512, help="pixels of a view's side")
    parser.add_argument("--channels", type=int, default=4, help="of the latents")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def median(call, device: torch.device, runs: int) -> float:
    call()
    return statistics.median(seconds(call, device) for _ in range(runs))


def plain_step(device: torch.device, latent: int):
    """A call of SD 2's UNet for one view."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from mvdiffusion_pack.host.sd2 import SD2_UNET

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    operations = comfy.ops.disable_weight_init
    unet = randomise(UNetModel(**SD2_UNET, in_channels=4, dtype=dtype, device=device, operations=operations))
    x = torch.randn(1, 4, latent, latent, dtype=dtype, device=device)
    text = torch.randn(1, 77, 1024, dtype=dtype, device=device)
    return lambda: unet(x, torch.ones(1, device=device), context=text)


def latents_shared(device: torch.device, latent: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds of making what a run shares by, and of sharing in one step."""
    from types import SimpleNamespace

    from comfy.latent_formats import SD15
    from comfy.model_sampling import ModelSamplingDiscrete

    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host.fuse import Fuser
    from mvdiffusion_pack.host.setup import Fusing

    parts = {"latent_format": SD15(), "model_sampling": ModelSamplingDiscrete()}
    guider = SimpleNamespace(model_patcher=SimpleNamespace(get_model_object=parts.get))
    fuser = Fuser(ring(VIEWS, 90, arguments.size, arguments.size), Fusing(), torch.tensor([1.0, 0.0]), guider)
    latents = torch.randn(VIEWS, arguments.channels, latent, latent, device=device)
    once = seconds(lambda: fuser(latents, 1.0), device)
    return once, median(lambda: fuser(latents, 1.0), device, RUNS)


def pictures_shared(device: torch.device, size: int) -> tuple[float, float]:
    """The same of pictures, without their VAE."""
    from mvdiffusion_pack.geometry.fusing import picture_reads, shared_pictures
    from mvdiffusion_pack.geometry.layouts import ring

    start = time.perf_counter()
    reads = picture_reads(ring(VIEWS, 90, size, size), size, size).to(device)
    once = time.perf_counter() - start
    pictures = torch.rand(VIEWS, 3, size, size, device=device)
    return once, median(lambda: shared_pictures(pictures, reads), device, RUNS)


def decoded_and_encoded(device: torch.device, latent: int):
    """A call of SD's VAE for one view, there and back."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    sizes = {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "resolution": 256}
    channels = {"in_channels": 3, "out_ch": 3, "z_channels": 4, "double_z": True, "dropout": 0.0}
    vae = randomise(AutoencoderKL(ddconfig=sizes | channels, embed_dim=4).to(device, dtype))
    z = torch.randn(1, 4, latent, latent, dtype=dtype, device=device)
    return lambda: vae.encode(vae.decode(z))


if __name__ == "__main__":
    main()
