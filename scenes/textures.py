"""Patterns of surfaces, computed where they are seen."""

from __future__ import annotations

import torch

TEXTURES = ("plain", "checker", "stripes", "planks", "grain", "bricks", "landscape")


def accent_share(texture: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """How much of the accent colour points have, 0..1.

    texture: int64 places in TEXTURES. u, v: places on the surface to the right and down, in the texture's periods; a
    landscape lies around v = 0. All of one shape.
    """
    checker = (u.floor() + v.floor()).remainder(2)
    stripes = u.floor().remainder(2)
    planks = _courses(u / 8, v, 0.37, (0.004, 0.03))
    grain = _courses(u / 20, v, 0.37, (0.0, 0.0))
    mortar = _courses(u, v * 3, 0.5, (0.025, 0.07)) == 1
    bricks = mortar + ~mortar * 0.3 * _courses(u, v * 3, 0.5, (0.0, 0.0))
    hills = 1.0 * (v > 0.1 + 0.12 * torch.sin(3.1 * u) + 0.05 * torch.sin(7.3 * u + 1))
    patterns = torch.stack((torch.zeros_like(u), checker, stripes, planks, grain, bricks, hills))
    return patterns.gather(0, texture[None])[0]


def _courses(u: torch.Tensor, v: torch.Tensor, shift: float, seam: tuple[float, float]) -> torch.Tensor:
    """Boards of size 1 x 1 in rows, each row shifted against the one before; every board has its own share below 0.7.

    seam: the width and height of the gaps, whose share is 1.
    """
    row = v.floor()
    along = u + shift * row
    share = 0.7 * (0.7548777 * along.floor() + 0.5698403 * row).remainder(1)  # evenly spread, no two neighbours alike
    in_seam = (along.remainder(1) < seam[0]) | (v.remainder(1) < seam[1])
    return share.masked_fill(in_seam, 1.0)
