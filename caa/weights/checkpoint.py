"""CAA weights: read from the authors' checkpoints and from slim files, written to slim files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mode

import torch
from safetensors.torch import save_file

from ...geometry.files import appearing_whole
from ...geometry.input_error import InputError
from ..attention import codes
from .kinds import Kind, Shapes, Widths, caa_prefix, identify
from .shapes import FREQUENCIES, expected_shapes, frequencies_key
from .tensor_files import TensorFile

BASE = "Stable Diffusion 2"


@dataclass(frozen=True)
class CAAWeights:
    """The blocks of one checkpoint, without the UNet.

    tensors: `encoder.{i}.*`, `mid.*`, `decoder.{j}.*` with the published names below (`transformer.attn1.to_q.weight`,
        depth: `attn1.transformer.*`, `resnet.*`), and depth's `condition_*` keys as published; dtype as stored.
    frequencies: (N,) float32 on the CPU by block ('encoder.0'). They reach 2^79, which half precision does not hold.
    base: the model that the blocks were trained on, for people to read. prediction: what that model predicts, the noise
        ('eps') or 'v'; blocks fit no other.
    """

    kind: Kind
    widths: Widths
    tensors: dict[str, torch.Tensor]
    frequencies: dict[str, torch.Tensor]
    base: str = BASE
    prediction: str = "eps"


def read_caa(path: str | Path) -> CAAWeights:
    """CAA weights from the authors' single file (.ckpt) or a slim file (.safetensors), memory-mapped.

    Reading a 6.9 GB dump at SD 2's widths takes 8 MB of memory; what is used of its blocks (590 MB in fp32) is paged in
    later, and can be paged out again.

    Raises InputError for a file that is not MVDiffusion's (and what it is), missing or unexpected keys, wrong shapes.
    """
    return caa_of(TensorFile(path))


def caa_of(file: TensorFile) -> CAAWeights:
    """`read_caa` of a file that is open."""
    try:
        kind = identify(file.shapes, file.metadata)
        prefix = caa_prefix(file.shapes) or ""
        ours = {_own_name(key, prefix): shape for key, shape in file.shapes.items() if _is_own(key, prefix)}
        widths = _widths(ours)
        _check(ours, expected_shapes(kind, widths))
    except InputError as error:
        raise InputError(f"{file.path}: {error}", error.remedy) from None
    tensors = {_own_name(key, prefix): tensor for key, tensor in file.tensors(_prefixes(prefix)).items()}
    told = file.metadata.get("base", BASE), file.metadata.get("prediction", "eps")
    return CAAWeights(kind, widths, *_split_frequencies(tensors, kind, widths), *told)


def write_slim(path: str | Path, weights: CAAWeights, dtype: torch.dtype) -> None:
    """Write the blocks alone, in `dtype`, as safetensors with the published key names (without `mv_base_model.`).

    Frequencies stay float32. Metadata: format, kind, widths, base, prediction. The file appears whole or not at all.
    """
    tensors = {_published_name(key): tensor.to("cpu", dtype, copy=True) for key, tensor in weights.tensors.items()}
    for block, bands in weights.frequencies.items():
        key = frequencies_key(block, weights.kind)
        tensors[_published_name(key)] = bands.float().reshape(1, 1, -1).clone()
    metadata = {
        "format": "mvdiffusion",
        "kind": weights.kind.name,
        "widths": json.dumps(asdict(weights.widths)),
        "base": weights.base,
        "prediction": weights.prediction,
    }
    with appearing_whole(Path(path)) as unfinished:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, unfinished, metadata)


def _prefixes(prefix: str) -> tuple[str, ...]:
    return prefix + "cp_blocks_", prefix + "condition_"


def _is_own(key: str, prefix: str) -> bool:
    return key.startswith(_prefixes(prefix))


def _own_name(key: str, prefix: str) -> str:
    return key.removeprefix(prefix).removeprefix("cp_blocks_")


def _published_name(key: str) -> str:
    return key if key.startswith("condition_") else "cp_blocks_" + key


def _widths(shapes: Shapes) -> Widths:
    """Widths from the first dimension that most of a block's tensors share. Blocks left out are an InputError."""
    firsts: dict[str, list[int]] = {}
    for key, shape in shapes.items():
        if not key.startswith("condition_") and FREQUENCIES not in key:
            block = key.split(".")[0] if key.startswith("mid.") else ".".join(key.split(".")[:2])
            firsts.setdefault(block, []).append(shape[0] if shape else 0)
    levels = range(max(1, len(firsts) // 2))
    missing = [
        block for block in ("mid", *(f"{s}.{i}" for s in ("encoder", "decoder") for i in levels)) if block not in firsts
    ]
    if missing:
        raise InputError(f"the blocks {_some(map(_published_name, missing))} are missing", "get_again")
    width = {block: mode(values) for block, values in firsts.items()}
    return Widths(
        encoder=tuple(width[f"encoder.{level}"] for level in levels),
        mid=width["mid"],
        decoder=tuple(width[f"decoder.{level}"] for level in levels),
    )


def _check(shapes: Shapes, expected: Shapes) -> None:
    """Raises InputError unless the keys and shapes are those expected."""
    missing = [_published_name(key) for key in expected if key not in shapes]
    unexpected = [_published_name(key) for key in shapes if key not in expected]
    wrong = [
        f"{_published_name(key)} is {list(shapes[key])} and should be {list(expected[key])}"
        for key in expected
        if key in shapes and shapes[key] != expected[key]
    ]
    faults = [
        f"{fault}: {_some(keys)}"
        for fault, keys in (("missing keys", missing), ("unexpected keys", unexpected), ("wrong shapes", wrong))
        if keys
    ]
    if faults:
        raise InputError(f"the CAA weights do not fit together ({'; '.join(faults)})", "get_again")


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _split_frequencies(
    tensors: Mapping[str, torch.Tensor], kind: Kind, widths: Widths
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(the other tensors, (N,) frequencies by block). Files cut to half precision have lost theirs: made anew."""
    frequencies = {}
    for block, width in widths.by_block().items():
        stored = tensors[frequencies_key(block, kind)]
        exact = stored.dtype in (torch.float32, torch.float64)
        frequencies[block] = stored.flatten().float().clone() if exact else codes.frequencies(width, kind.code_dims)
    return {key: tensor for key, tensor in tensors.items() if FREQUENCIES not in key}, frequencies
