"""Gain compensation: views and photos that differ in brightness or tint are levelled before they are joined.

Brown and Lowe, Automatic panoramic image stitching using invariant features (2007), section 6: gains by least squares
over the means of overlaps. Here they are sought as logarithms: then no gain can shrink to please the sum, and the prior
that hinders it, and takes from the differences, too, may be weak. Colours are compared as they are stored, for display:
there a factor of the light is a factor as well, save in the darkest tones.
"""

from __future__ import annotations

import torch

from ..cameras import Cameras
from ..threads import SERIAL
from .equirect import equirect_angles
from .lattice import PER_POINT, Projection
from .overlay import Overlay, read_photos

LATTICE = 512  # points around the sphere, at which views are compared
BAND = 32  # rows of the lattice compared at once: bounds memory
CLIPPED = 1.5 / 255  # from 0 and 1: who knows how dark or bright that was
PRIOR = 0.001  # how much a gain of 1 counts, beside an overlap that is white: too little to matter but in the dark


def view_gains(views: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """(V, C, 1, 1) factors that level (V, C, h, w) views, each channel by itself.

    Over views that overlap, directly or through others, their geometric mean is 1, weighed by how much they share. A
    view that overlaps nothing keeps 1. What is clipped in one view of a pair does not count for the pair.
    """
    lattice = Projection.of(cameras, *equirect_angles(LATTICE, LATTICE // 2), views.device)
    area = views.new_zeros(views.shape[1], len(views), len(views))
    total = torch.zeros_like(area)
    for top in range(0, LATTICE // 2, BAND):
        rows = slice(top, top + BAND)
        colours, counts = _seen(views, lattice, rows)
        weighed = (counts * lattice.level[rows]).flatten(2)
        area += weighed @ counts.flatten(2).mT
        total += (colours.flatten(2) * weighed) @ counts.flatten(2).mT
    return _solved(area, total).mT[..., None, None].to(views)


def photo_gains(overlay: Overlay, equirect: torch.Tensor) -> torch.Tensor:
    """(P, 3, 1, 1) factors that level photos to the (P, H, 2 H, 3) panoramas under them, each channel by itself.

    What is clipped in either does not count; nor does what nothing looked at, since that is black. Over that alone
    photos keep 1.
    Raises InputError for photos that no pixel's centre lies in.
    """
    panoramas, height, width, _ = equirect.shape
    level = equirect_angles(width, height)[1].cos()[:, None].to(equirect)
    area = equirect.new_zeros(panoramas, 3)
    total = equirect.new_zeros(2, panoramas, 3)
    for rows, columns, photos, distance in read_photos(overlay, width, equirect.device):
        below = equirect[:, rows, columns].movedim(-1, 1)
        counts = (distance > 0) & _unclipped(photos) & _unclipped(below)
        weighed = counts * level[rows]
        area += weighed.sum((-2, -1))
        total += torch.stack([(colours * weighed).sum((-2, -1)) for colours in (photos, below)])
    pairs = total.flatten(1).mT[..., None].expand(-1, -1, 2)  # of each channel: photo and panorama, a pair of two
    gains = _solved(area.flatten()[:, None, None].expand_as(pairs), pairs)
    return (gains[:, 0] / gains[:, 1]).to(equirect).view(panoramas, 3, 1, 1)


def _seen(views: torch.Tensor, lattice: Projection, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, V, rows, columns) colours of views on rows of the lattice, and 1 where they count, else 0."""
    columns = slice(0, LATTICE)
    colours = views.new_zeros(len(views), views.shape[1], rows.stop - rows.start, LATTICE)
    counts = torch.zeros_like(colours)
    high = BAND
    if views.device.type == "cpu":  # steps so small wake none of torch's threads
        high = max(1, SERIAL // (max(PER_POINT, views.shape[1]) * LATTICE))
    for view, picture in enumerate(views):
        for top in range(0, BAND, high):
            own = slice(top, min(top + high, BAND))
            part = slice(rows.start + own.start, rows.start + own.stop)
            inside = lattice.distance(view, part, columns) > 0
            if inside.any():
                read = lattice.sample(picture, view, part, columns)
                colours[view, :, own], counts[view, :, own] = read, inside & _unclipped(read)
    return colours.transpose(0, 1), counts.transpose(0, 1)


def _unclipped(colours: torch.Tensor) -> torch.Tensor:
    return (colours > CLIPPED) & (colours < 1 - CLIPPED)


def _solved(area: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """(C, V) gains g: least squares of log(g_i mean_i) - log(g_j mean_j) over pairs, and of log g_i, the prior.

    area: (C, V, V), how much views i and j share. total: (C, V, V), the sum of view i's colours there.
    A pair weighs area * mean_i * mean_j, since logarithms of dark means are the least certain.
    """
    area, total = (part.cpu().double() for part in (area, total))
    mean = torch.where(area > 0, total / area, 1)
    own = torch.eye(area.shape[-1], dtype=torch.bool)
    area = area.masked_fill(own, 0)
    weight = area * mean * mean.mT
    brighter = weight * (mean.mT.log() - mean.log())
    diagonal = weight.sum(-1) + PRIOR * area.sum(-1)
    alone = diagonal == 0
    system = (diagonal + alone).diag_embed() - weight
    return torch.linalg.solve(system, brighter.sum(-1)).exp()
