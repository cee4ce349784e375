"""Blocks with random weights, and what they give, for the tests of the ways to compute the attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from published_files import frozen_weights

from mvdiffusion_pack.caa.attention.codes import frequencies
from mvdiffusion_pack.caa.attention.memory import Memory
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.caa.blocks import PanoramaBlock
from mvdiffusion_pack.geometry.correspondence import Correspondences

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def block_of(width: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> PanoramaBlock:
    block = PanoramaBlock(width, torch.nn, dtype, None)
    block.load_state_dict(frozen_weights({key: tuple(value.shape) for key, value in block.state_dict().items()}, seed))
    return block


def features(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.manual_seed(seed), dtype=torch.float64)


def attended(
    corr: Correspondences, x: torch.Tensor, *, memory: Memory | None = None, way: str = "auto", sampling: bool = True
) -> torch.Tensor:
    """What a block adds to (B, V, C, h, w) features, computed on the GPU where there is one."""
    block, bands = block_of(x.shape[2], x.dtype).to(DEVICE), frequencies(x.shape[2], 2)
    with torch.inference_mode():
        return block(x.to(DEVICE), Tables(corr, memory, way, sampling), bands).cpu() - x


def gradients(block: PanoramaBlock, x: torch.Tensor, tables: Tables, forward=None) -> dict[str, torch.Tensor]:
    """Those of features and of every parameter, for one random gradient of the result; while sampling, of those that
    have one."""
    block.zero_grad()
    x, bands = x.clone().requires_grad_(), frequencies(x.shape[2], 2)
    result = (forward or block)(x, tables, bands)
    result.backward(features(*x.shape, seed=5).to(result))
    grads = {name: parameter.grad for name, parameter in block.named_parameters()} | {"x": x.grad}
    return {name: gradient.double() for name, gradient in grads.items() if gradient is not None or not tables.sampling}


def kept_by(forward: Callable[[], torch.Tensor]) -> int:
    """How many bytes `forward` keeps for the gradients."""
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result
    return sum(storages.values())


def assert_agree(result: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert expected.std() > 0.01
    assert (result.double() - expected.double()).norm() <= tolerance * expected.double().norm()


def assert_gradients_agree(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= tolerance * gradient.norm().clamp(min=1e-12), name
