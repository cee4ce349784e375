"""Position codes: what tells a key where it lies, seen from its query."""

from __future__ import annotations

import torch

ROUNDING = 2.0**30


def frequencies(width: int, dims: int) -> torch.Tensor:
    """(N,) float32 frequencies of a block `width` wide whose code has `dims` coordinates (2: panorama, 1: depth).

    N = width / 4 for two coordinates, width / 2 for one. Checkpoints carry their own, which are to be preferred.
    """
    count = width // (2 * dims)
    base = 2.0 if count <= 80 else 5000.0 ** (1 / (count / 2.5))
    return torch.pow(torch.tensor(base, dtype=torch.float64), torch.arange(count)).to(torch.float32)


def position_code(numbers: torch.Tensor, bands: torch.Tensor, cosines: torch.Tensor | None = None) -> torch.Tensor:
    """(..., 2) float64 numbers x, y to (..., 4 N) codes: sines of x, of y, then cosines of x, of y.

    cosines: (...) bool, or None: codes are halves, (..., 2 N), the cosines where it is True and the sines elsewhere.
    With base-2 frequencies (up to 2^79) the numbers are rounded to a multiple of 2^-30 first: finer digits are the
    rounding error of the geometry, and would give each machine its own code.
    """
    if len(bands) > 1 and bands[1] == 2:
        numbers = torch.round(numbers * ROUNDING) / ROUNDING
    angles = (numbers[..., None] * bands.double()).flatten(-2)
    if cosines is not None:
        return torch.where(cosines[..., None], angles.cos(), angles.sin())
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def code_of_zero(bands: torch.Tensor) -> torch.Tensor:
    """(4 N,) the code of a query, which lies at displacement 0."""
    return torch.cat((torch.zeros(2 * len(bands)), torch.ones(2 * len(bands))))
