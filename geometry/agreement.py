"""Do views agree where they show the same? The published measure: PSNR over all overlapping pixels of neighbours.

Of each two neighbouring views the pixels of the one are compared with what the other shows at the same point of the
scene, read bilinearly. In a panorama a homography finds that point. Of posed views a pixel's depth does, and the pixel
counts only where the two depth maps agree: elsewhere the other view shows something that stands before the point, or
beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .input_error import InputError, counted
from .pictures import read_continued, view_planes
from .scene import Scene
from .seen import seen_bands

MOST_DB = 100.0  # in place of the infinity of identical pictures, which JSON has no number for
LEAST_SHARE = 0.005  # of a view's pixels: pairs that share less are too small to be the worst
ROWS = 40  # of a table


@dataclass(frozen=True)
class PairAgreement:
    """How two views agree over those pixels of `view` that `other` shows too.

    panorama: which of P panoramas, or sequences, they belong to. view, other: their places among its cameras.
    names: what people call the two. title: both names, and the panorama where there are several.
    pixels: how many were compared. share: of the view's. error: their mean squared difference over the colours.
    """

    panorama: int
    view: int
    other: int
    names: tuple[str, str]
    title: str
    pixels: int
    share: float
    error: float

    @property
    def psnr(self) -> float:
        """In dB, 100 at most. Peak 1."""
        return decibels(self.error)


@dataclass(frozen=True)
class Agreement:
    """How all neighbouring views agree: the pairs, panorama by panorama. Pairs that share no pixel are not there."""

    pairs: tuple[PairAgreement, ...]

    @property
    def pixels(self) -> int:
        """How many pixels were compared in all."""
        return sum(pair.pixels for pair in self.pairs)

    @property
    def psnr(self) -> float:
        """In dB, 100 at most: of one mean squared difference over all pixels of all pairs. Peak 1."""
        return decibels(sum(pair.error * pair.pixels for pair in self.pairs) / self.pixels)

    @property
    def ranked(self) -> list[PairAgreement]:
        """The pairs, the worst first; at the end those that share too few pixels to tell."""
        return sorted(self.pairs, key=lambda pair: (pair.share < LEAST_SHARE, pair.psnr))

    @property
    def worst(self) -> PairAgreement:
        """The pair with the lowest PSNR of those that share 0.5 % of a view; of all where none does."""
        return self.ranked[0]

    def table(self) -> str:
        """Lines for people: PSNR, views, share of the first view, pixels; first the total, then the worst pairs.

        Each line says its units: not all that shows it keeps columns apart.
        """
        of = "the only pair" if len(self.pairs) == 1 else f"all {len(self.pairs)} pairs"
        lines = [(f"{self.psnr:.2f} dB", of, "", f"{self.pixels} pixels")]
        for pair in self.ranked[:ROWS]:
            lines.append((f"{pair.psnr:.2f} dB", pair.title, f"{100 * pair.share:.1f} %", f"{pair.pixels} pixels"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(map(str.rjust, (psnr, title.ljust(widths[1]), *rest), widths)) for psnr, title, *rest in lines
        ]
        if len(self.pairs) > ROWS:
            table.append(f"... and {counted(len(self.pairs) - ROWS, 'pair')} more")
        return "\n".join(table)


def decibels(error: float) -> float:
    """The PSNR of a mean squared difference of pictures whose peak is 1, MOST_DB at most."""
    return min(MOST_DB, -10 * math.log10(max(error, 10 ** (-MOST_DB / 10))))


def agreement(images: torch.Tensor, scene: Scene) -> Agreement:
    """Compares neighbouring views of P panoramas, or of P sequences.

    images: (P * V, h, w, 3 or 4) in 0..1, any floating type, any size of the cameras' aspect, panorama by panorama.
        Compared in float32 on their device.
    Neighbours are those of the attention, each pair once: pixels of the earlier view against the later one. All
    panoramas count in one total.
    Raises InputError for images that do not fit the cameras or hold NaN, for cameras without neighbours, and where no
    pixels overlap.
    """
    planes = view_planes(images, scene)
    pairs = [pair for view, other in _neighbouring_pairs(scene) for pair in _compared(planes, scene, view, other)]
    if not pairs:
        raise InputError("no pixels overlap: no view shows what a neighbour shows", f"nothing_overlaps_{scene.kind}")
    return Agreement(tuple(sorted(pairs, key=lambda pair: (pair.panorama, pair.view, pair.other))))


def seen_by_both(
    images: torch.Tensor, scene: Scene, pair: PairAgreement
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a pair compares: the view and the other one as seen from it, (3, h, w) each, and (h, w) where they overlap.

    images: as for `agreement`. Colours are float32 on the images' device, the overlap is bool.
    """
    planes = view_planes(images, scene).unflatten(1, (-1, 3))[:, pair.panorama]
    parts = zip(*_carried_over(planes[pair.other], scene, pair.view, pair.other), strict=True)
    _, theirs, overlap = (list(part) for part in parts)
    return planes[pair.view], torch.cat(theirs, dim=1), torch.cat(overlap)


def _neighbouring_pairs(scene: Scene) -> list[tuple[int, int]]:
    """The pairs of neighbouring views, each once, ascending. Raises InputError for cameras that have none."""
    if scene.views == 1:
        raise InputError("there is one camera, and a single view has nothing to agree with", "one_camera")
    pairs = {(min(view, other), max(view, other)) for view, others in enumerate(scene.neighbours()) for other in others}
    if not pairs:
        raise InputError(
            "these cameras have no neighbours (the faces of a cube do not overlap), so there is nothing to compare",
            "no_neighbours",
        )
    return sorted(pairs)


def _compared(planes: torch.Tensor, scene: Scene, view: int, other: int) -> Iterator[PairAgreement]:
    """Yields how two of (V, P * 3, h, w) views agree in each panorama; nothing where they share no pixel."""
    height, width = planes.shape[-2:]
    pixels, errors = 0, planes.new_zeros(planes.shape[1] // 3)
    for rows, theirs, overlap in _carried_over(planes[other], scene, view, other):
        squares = (theirs - planes[view, :, rows]).square_().unflatten(0, (-1, 3)).mean(1)
        pixels += int(overlap.sum())
        errors += (squares * overlap).sum((-2, -1))
    if not pixels:
        return
    names = scene.name(view), scene.name(other)
    for number, error in enumerate((errors / pixels).tolist()):
        place = f"{scene.scene_noun} {number}, " if len(errors) > 1 else ""
        title = f"{place}{names[0]} and {names[1]}"
        yield PairAgreement(number, view, other, names, title, pixels, pixels / (width * height), error)


def _carried_over(
    planes: torch.Tensor, scene: Scene, view: int, other: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yields (rows, (C, rows, w) colours, (rows, w) overlap): what the other view's (C, h, w) shows at a view's pixels.

    The overlap is true where it shows the same point; colours elsewhere mean nothing.
    """
    height, width = planes.shape[-2:]
    for rows, grid, overlap in seen_bands(scene, view, other, (width, height)):
        yield rows, read_continued(planes[None], grid.float().to(planes.device))[0], overlap.to(planes.device)
