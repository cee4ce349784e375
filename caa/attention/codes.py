"""Position codes: what tells a key where it lies, seen from its query."""

from __future__ import annotations

import torch

from .memory import split

ROUNDING = 2.0**30
PIECE = {True: 2**16, False: 2**20}  # angles at once: on a CPU, as many as stay in its caches


def frequencies(width: int, dims: int) -> torch.Tensor:
    """(N,) float32 frequencies of a block `width` wide whose code has `dims` coordinates (2: panorama, 1: depth).

    N = width / 4 for two coordinates, width / 2 for one. Checkpoints carry their own, which are to be preferred.
    """
    count = width // (2 * dims)
    base = 2.0 if count <= 80 else 5000.0 ** (1 / (count / 2.5))
    return torch.pow(torch.tensor(base, dtype=torch.float64), torch.arange(count)).to(torch.float32)


def position_code(
    numbers: torch.Tensor,
    bands: torch.Tensor,
    cosines: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    centred: bool = False,
) -> torch.Tensor:
    """(..., 2) float64 numbers x, y to (..., 4 N) codes: sines of x, of y, then cosines of x, of y.

    They are computed in float64 where the numbers are, and come in `dtype`; centred: less their means over the 4 N.
    cosines: (...) bool, or None: codes are halves, (..., 2 N), the cosines where it is True and the sines elsewhere.
    With base-2 frequencies (up to 2^79) the numbers are rounded to a multiple of 2^-30 first: finer digits are the
    rounding error of the geometry, and would give each machine its own code.
    """
    if len(bands) > 1 and bands[1] == 2:
        numbers = torch.round(numbers * ROUNDING) / ROUNDING
    flat, bands, half = numbers.reshape(-1, 2, 1), bands.to(numbers), 2 * len(bands)
    codes = torch.empty(len(flat), half if cosines is not None else 2 * half, dtype=dtype, device=numbers.device)
    at_once = max(1, PIECE[numbers.device.type == "cpu"] // half)
    angles = codes.new_empty(min(at_once, len(flat)), half, dtype=torch.float64)
    both = codes.new_empty(len(angles), 2 * half, dtype=torch.float64)
    for part in split(slice(0, len(flat)), at_once):
        angle, code = angles[: part.stop - part.start], both[: part.stop - part.start]
        torch.mul(flat[part], bands, out=angle.unflatten(1, (2, -1)))
        torch.sin(angle, out=code[:, :half])
        torch.cos(angle, out=code[:, half:])
        if cosines is not None:
            code = code[:, half:].where(cosines.reshape(-1, 1)[part], code[:, :half])
        codes[part] = code - code.mean(1, keepdim=True) if centred else code
    return codes.view(*numbers.shape[:-1], codes.shape[1])


def code_of_zero(bands: torch.Tensor) -> torch.Tensor:
    """(4 N,) the code of a query, which lies at displacement 0."""
    return torch.cat((torch.zeros(2 * len(bands)), torch.ones(2 * len(bands))))
