"""How rooms are lit: what every way of rendering reads, so that all of them make the same pictures."""

from __future__ import annotations

import torch

GAMMA = 2.2  # of displays
LAMP_BELOW_CEILING, LAMP_WIDTH = 0.35, 0.4  # metres
AMBIENT, LAMP, FALLOFF = 0.50, 1.15, 0.07  # FALLOFF: per square metre
FROM_ABOVE = 0.12  # how much more ambient light reaches what faces up, and less what faces down
CORNER, CORNER_WIDTH = 0.35, 0.3  # how much darker corners are, and how many metres that reaches
AT_THE_POINT = 1e-3  # of the way from a point to the lamp, in which nothing casts a shadow on it


def lamps(height: float, samples: int) -> torch.Tensor:
    """(3, samples^2) float64 points of the lamp in a room, one per sample of a pixel: its shadows are soft.

    height: of the room; the lamp hangs under the middle of its ceiling.
    """
    x, z = torch.meshgrid(offsets(samples), offsets(samples), indexing="ij")
    y = torch.full_like(x, LAMP_BELOW_CEILING - height)
    # Turned by a quarter against the pixel's own samples, which have the same order.
    return torch.stack((z * LAMP_WIDTH, y, -x * LAMP_WIDTH)).view(3, -1)


def offsets(samples: int) -> torch.Tensor:
    """(samples,) evenly spread over -0.5..0.5."""
    return (torch.arange(samples, dtype=torch.float64) + 0.5) / samples - 0.5
