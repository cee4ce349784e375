"""Patterns of surfaces, computed where they are seen."""

from __future__ import annotations

import torch

TEXTURES = ("plain", "checker", "stripes", "planks", "grain", "bricks", "landscape")
# Rows of boards, by texture: a board's length and rows per period, how far each row is shifted against the one before,
# and width and height of the gaps. Lengths in periods, gaps and shifts in boards.
COURSES = {
    "planks": (8.0, 1.0, 0.37, 0.004, 0.03),
    "grain": (20.0, 1.0, 0.37, 0.0, 0.0),
    "bricks": (1.0, 3.0, 0.5, 0.025, 0.07),
}
SPREAD = (0.7, 0.7548777, 0.5698403)  # the most that boards have; steps that spread them, so that no neighbours match
BRICKS = 0.3  # of what boards have: the rest is their mortar's
HILLS = (0.1, 0.12, 3.1, 0.05, 7.3, 1.0)  # height, then height and frequency of two waves, and the second one's phase


def accent_share(texture: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """How much of the accent colour points have, 0..1.

    texture: int64 places in TEXTURES. u, v: places on the surface to the right and down, in the texture's periods; a
    landscape lies around v = 0. All of one shape.
    """
    checker = (u.floor() + v.floor()).remainder(2)
    stripes = u.floor().remainder(2)
    (planks, in_seam), (grain, _), (bricks, in_mortar) = (_courses(u, v, *courses) for courses in COURSES.values())
    planks, bricks = planks.masked_fill(in_seam, 1.0), (BRICKS * bricks).masked_fill(in_mortar, 1.0)
    low, wave, often, second, oftener, phase = HILLS
    hills = 1.0 * (v > low + wave * torch.sin(often * u) + second * torch.sin(oftener * u + phase))
    patterns = torch.stack((torch.zeros_like(u), checker, stripes, planks, grain, bricks, hills))
    return patterns.gather(0, texture[None])[0]


def _courses(
    u: torch.Tensor, v: torch.Tensor, length: float, rows: float, shift: float, gap_width: float, gap_height: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of the board that a point lies on, which is every board's own, and whether it lies in a gap."""
    v = v * rows
    row = v.floor()
    along = u / length + shift * row
    most, step, row_step = SPREAD
    share = most * (step * along.floor() + row_step * row).remainder(1)
    return share, (along.remainder(1) < gap_width) | (v.remainder(1) < gap_height)
