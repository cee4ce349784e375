"""Files of the published layout, made from nothing: small ones for the recorded cases, full-size ones for the host."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import pathlib
import sys
import types
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
SEEDS = {"pano": 1, "outpaint": 2, "depth": 3}
CONV_IN = "mv_base_model.unet.conv_in.weight"
Shapes = Mapping[str, tuple[int, ...]]


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of 'pano', 'outpaint', 'depth' or, at SD 2's widths, 'pano_sd2', 'outpaint_sd2', 'depth_sd2'.

    An outpainting file differs from a panorama file in the inputs of its UNet alone.
    """
    text = (GOLDEN / f"{name.replace('outpaint', 'pano')}_manifest.json").read_text(encoding="utf-8")
    shapes = {key: tuple(shape) for key, shape in json.loads(text).items()}
    if name.startswith("outpaint"):
        width, _, *kernel = shapes[CONV_IN]
        shapes[CONV_IN] = (width, 9, *kernel)
    return shapes


def golden_weights(name: str, seed: int | None = None) -> dict[str, torch.Tensor]:
    """The weights of a recorded case: the frozen random stream for every key of the manifest `name`."""
    return dict(_golden_weights(name, SEEDS[name] if seed is None else seed))


@functools.cache
def _golden_weights(name: str, seed: int) -> dict[str, torch.Tensor]:
    return frozen_weights(manifest(name), seed)


def frozen_weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """The frozen random stream, keyed by name; position codes get the published frequencies."""
    return {key: _frozen(key, shape, seed) for key, shape in shapes.items()}


def _frozen(key: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if key.endswith("freq_bands"):
        return published_frequencies(shape[-1]).reshape(shape)
    stream = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    values = torch.from_numpy(stream.standard_normal(shape).astype(np.float32))
    if len(shape) > 1:
        return values / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values


def published_frequencies(count: int) -> torch.Tensor:
    """(count,) float32: powers of 2, or from 81 on of 5000^(2.5 / count)."""
    base = 2.0 if count <= 80 else 5000.0 ** (1 / (count / 2.5))
    return torch.tensor([base**k for k in range(count)], dtype=torch.float64).float()


def full_size_weights(name: str, dtype: torch.dtype, v_like: bool = False) -> dict[str, torch.Tensor]:
    """The whole content of an authors' file: UNet, blocks, VAE and text encoder at SD 2's sizes ('pano_sd2', ...).

    All are views of one random array (std 0.02), so they take 100 to 200 MB in memory and in a file. `v_like`: one bias
    is large, by which the host takes the UNet for a v-prediction model.
    """
    pool = _pool(dtype)
    shapes = manifest(name)
    shapes |= {f"vae.{key}": shape for key, shape in vae_shapes().items()}
    shapes |= {f"text_encoder.{key}": shape for key, shape in text_encoder_shapes().items()}
    weights = {key: _from_pool(key, shape, pool) for key, shape in shapes.items()}
    weights["text_encoder.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    if v_like:
        weights["mv_base_model.unet.up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"] = 10 * pool[:320]
    return weights


@functools.cache
def _pool(dtype: torch.dtype) -> torch.Tensor:
    return (0.02 * torch.randn(2**26, generator=torch.Generator().manual_seed(0))).to(dtype)


def _from_pool(key: str, shape: tuple[int, ...], pool: torch.Tensor) -> torch.Tensor:
    if key.endswith("freq_bands"):
        return published_frequencies(shape[-1]).reshape(shape)
    count = int(np.prod(shape))
    if len(shape) == 1 and key.endswith("weight"):
        return torch.ones(shape, dtype=pool.dtype)
    begin = zlib.crc32(key.encode()) % (len(pool) - count)
    return pool[begin : begin + count].view(shape)


def vae_shapes() -> dict[str, tuple[int, ...]]:
    """SD's VAE as diffusers 0.16 names it."""
    widths = (128, 256, 512, 512)
    shapes = _conv("encoder.conv_in", 128, 3) | _conv("decoder.conv_in", 512, 4)
    for side, channels, layers in (("encoder.down", widths, 2), ("decoder.up", widths[::-1], 3)):
        sampler = "downsamplers" if layers == 2 else "upsamplers"
        before = channels[0]
        for i, width in enumerate(channels):
            for j in range(layers):
                shapes |= _vae_resnet(f"{side}_blocks.{i}.resnets.{j}", before, width)
                before = width
            if i < 3:
                shapes |= _conv(f"{side}_blocks.{i}.{sampler}.0.conv", width, width)
    for side, last, out in (("encoder", 512, 8), ("decoder", 128, 3)):
        shapes |= _vae_resnet(f"{side}.mid_block.resnets.0", 512, 512) | _vae_resnet(
            f"{side}.mid_block.resnets.1", 512, 512
        )
        shapes |= _norm(f"{side}.mid_block.attentions.0.group_norm", 512)
        for layer in ("query", "key", "value", "proj_attn"):
            shapes |= _linear(f"{side}.mid_block.attentions.0.{layer}", 512, 512)
        shapes |= _norm(f"{side}.conv_norm_out", last) | _conv(f"{side}.conv_out", out, last)
    return shapes | _conv("quant_conv", 8, 8, 1) | _conv("post_quant_conv", 4, 4, 1)


def text_encoder_shapes() -> dict[str, tuple[int, ...]]:
    """SD 2's text encoder as transformers 4.28 names it: 23 of OpenCLIP's 24 layers, 1024 wide."""
    shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, 1024),
        "text_model.embeddings.position_embedding.weight": (77, 1024),
    }
    for i in range(23):
        layer = f"text_model.encoder.layers.{i}"
        for name in "kvq":
            shapes |= _linear(f"{layer}.self_attn.{name}_proj", 1024, 1024)
        shapes |= _linear(f"{layer}.self_attn.out_proj", 1024, 1024)
        shapes |= _norm(f"{layer}.layer_norm1", 1024) | _norm(f"{layer}.layer_norm2", 1024)
        shapes |= _linear(f"{layer}.mlp.fc1", 4096, 1024) | _linear(f"{layer}.mlp.fc2", 1024, 4096)
    return shapes | _norm("text_model.final_layer_norm", 1024)


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, out: int, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _conv(name: str, out: int, width: int, size: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, width, size, size), f"{name}.bias": (out,)}


def _vae_resnet(name: str, before: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes = _norm(f"{name}.norm1", before) | _conv(f"{name}.conv1", width, before)
    shapes |= _norm(f"{name}.norm2", width) | _conv(f"{name}.conv2", width, width)
    return shapes if before == width else shapes | _conv(f"{name}.conv_shortcut", width, before, 1)


def write_published(
    path: Path, weights: Mapping[str, torch.Tensor], extra: object = None, legacy: bool = False
) -> None:
    """Write `weights` as PyTorch Lightning 1.5 dumps a training run: with all its state, and `extra` among it.

    The classes in it come from a module that exists only while the file is written. legacy: torch's format before 1.6.
    """
    state = OrderedDict(weights)
    state._metadata = OrderedDict({"": {"version": 1}})
    trained = [tensor for key, tensor in weights.items() if "cp_blocks" in key and tensor.ndim == 2]
    with _trainer_module() as trainer:
        dump = {
            "epoch": 9,
            "global_step": 44000,
            "pytorch-lightning_version": "1.5.0",
            "state_dict": state,
            "callbacks": {trainer.ModelCheckpoint: _callback_state()},
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 10}}}},
            "optimizer_states": [_adam_state(trained)],
            "lr_schedulers": [
                {"T_max": 10, "base_lrs": [2e-4], "_step_count": 11, "anneal": trainer.ModelCheckpoint()}
            ],
            "hparams_name": "config",
            "hyper_parameters": {"config": _hyper_parameters(trainer), "extra": extra},
        }
        torch.save(dump, path, _use_new_zipfile_serialization=not legacy)


def _callback_state() -> dict[str, object]:
    return {
        "monitor": "train_loss",
        "best_model_score": torch.tensor(0.25),
        "best_model_path": pathlib.PurePosixPath("logs/last.ckpt"),
        "current_score": np.float64(0.25),
        "kth_best_model": {"scores": np.arange(3.0)},
    }


def _adam_state(parameters: list[torch.Tensor]) -> dict[str, object]:
    state = {i: {"step": torch.tensor(44000), "exp_avg": p, "exp_avg_sq": p} for i, p in enumerate(parameters)}
    return {"state": state, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999), "params": list(state)}]}


def _hyper_parameters(trainer: types.ModuleType) -> object:
    config = trainer.CfgNode(train={"lr": 2e-4, "nested": trainer.CfgNode.Nested()})
    config.update(
        phase=trainer.Phase.FIT, partial=functools.partial(dict, a=1), sizes={1, 2}, device=torch.device("cpu")
    )
    return config


@contextlib.contextmanager
def _trainer_module() -> Iterator[types.ModuleType]:
    """A module with classes of a trainer, which is gone afterwards: their pickles name what nobody can import."""
    module = types.ModuleType("trainer_gone")
    module.Phase = enum.Enum("Phase", "FIT TEST", module=module.__name__)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    nested = type("Nested", (list,), {"__module__": module.__name__, "__qualname__": "CfgNode.Nested"})
    module.CfgNode = type("CfgNode", (dict,), {"__module__": module.__name__, "Nested": nested})
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]
