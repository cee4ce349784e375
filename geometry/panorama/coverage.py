"""Panoramas of which only a part is known, as their coverage says: 1 where a picture is, 0 where nothing is."""

from __future__ import annotations

import torch

from ..input_error import InputError
from .equirect import check_panoramas


def panoramas_and_coverage(
    equirect: torch.Tensor, coverage: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """P panoramas as (P, H, 2 H, 3) in 0..1 and their coverage, if there is one, as (P, H, 2 H) in 0..1; float32.

    equirect: (P, H, 2 H, C). coverage: (P, H, 2 H) or (1, H, 2 H).
    Raises InputError as `check_panoramas` does, and for a coverage that is 0 everywhere.
    """
    check_panoramas(equirect, coverage, mask_name="coverage")
    pictures = equirect[..., :3].float().clamp(0, 1)
    if coverage is None:
        return pictures, None
    coverage = coverage.float().clamp(0, 1).expand(len(pictures), -1, -1)
    if empty := (coverage.amax((1, 2)) == 0).nonzero().flatten().tolist():
        raise InputError(f"the coverage of panorama {empty[0]} is 0 everywhere", "no_coverage")
    return pictures, coverage
