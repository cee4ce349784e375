"""The three kinds of demo model: they share one UNet but for its first convolution, which is fed more than noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .latents import Latents

CHANNELS = {"panorama": 4, "outpainting": 9, "depth": 5}
SHARES = {"panorama": 0.5, "outpainting": 0.2, "depth": 0.3}  # of the batches
NOTHING, ALL = 0.35, 0.3  # shares of outpainting's views that are given not at all and whole; the others partly


def drawn_by_shares(shares: Mapping[str, float], random: torch.Generator) -> str | None:
    """One of the names, by their shares; None: what these leave over."""
    drawn, most = torch.rand((), generator=random).item(), 0.0
    for name, share in shares.items():
        most += share
        if drawn < most:
            return name
    return None


def draw_kind(random: torch.Generator) -> str:
    """One of the kinds, by their shares, which leave nothing over but what rounding does."""
    return drawn_by_shares(SHARES, random) or next(reversed(SHARES))


def draw_views(count: int, data: Latents, kind: str, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(count,) rooms and views; half of outpainting's are among those that are there with parts masked."""
    rooms = torch.randint(len(data.clean), (count,), generator=random)
    views = torch.randint(data.clean.shape[1], (count,), generator=random)
    if kind == "outpainting":
        partly = torch.rand(count, generator=random) < 0.5
        one = torch.randint(data.partial_views.shape[1], (count,), generator=random)
        views = torch.where(partly, data.partial_views[rooms, one], views)
    return rooms, views


def extra_channels(
    kind: str, data: Latents, grey: torch.Tensor, rooms: torch.Tensor, views: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """(N, channels - 4, h, w) float32 what follows the noisy latents of N views.

    grey: (4, h, w) latents of a grey picture, which is what masked views show.
    """
    if kind == "depth":
        return data.depth[rooms, views].float()[:, None]
    count, (height, width) = len(rooms), data.clean.shape[-2:]
    if kind == "panorama":
        return torch.empty(count, 0, height, width)
    mask = torch.zeros(count, 1, height, width)
    given = data.clean[rooms, views].float()
    for i, share in enumerate(torch.rand(count, generator=random).tolist()):
        partial = (data.partial_views[rooms[i]] == views[i]).nonzero()
        if share < NOTHING:
            mask[i], given[i] = 1, grey
        elif share >= NOTHING + ALL and len(partial):
            place = int(partial[0, 0])
            mask[i, 0], given[i] = data.masks[rooms[i], place].float(), data.partial[rooms[i], place].float()
    return torch.cat((mask, given), 1)
