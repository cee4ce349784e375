"""Which views of a sequence are denoised together, where there are more than memory holds or a model was trained with.

A window is an ascending tuple of views. Between key frames, the first and the last view of a window are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, zip_longest

Window = tuple[int, ...]


def sliding_windows(views: int, window: int, overlap: int) -> list[Window]:
    """Windows over all views, each sharing at least `overlap` views with the next; the last one ends with the views.

    window: how many views each holds, more than `overlap`; 0: all of them in one.
    """
    if not window or window >= views:
        return [tuple(range(views))]
    last = views - window
    firsts = [*range(0, last, window - overlap), last]
    return [tuple(range(first, first + window)) for first in firsts]


def interpolation_stages(keyframes: tuple[int, ...], window: int, overlap: int) -> list[list[Window]]:
    """Windows in which all views between known ones are made, stage by stage.

    Those of one stage run together; when it is done, its views are known, too. The first and the last view of every
    window are known before its stage. Where two key frames are farther apart than a window, inner anchors come first.
    """
    gaps = pairwise(keyframes)
    return _together(_gap_stages(tuple(range(first, last + 1)), window, overlap) for first, last in gaps)


def _together(gaps: Iterable[list[list[Window]]]) -> list[list[Window]]:
    """The first stages of all gaps as one stage, then the second ones, and so on."""
    return [[window for stage in stages for window in stage] for stages in zip_longest(*gaps, fillvalue=())]


def _gap_stages(views: Window, window: int, overlap: int) -> list[list[Window]]:
    """The stages of the views between two known ones, which are the first and the last of them."""
    if len(views) <= 2:
        return []
    if not window or len(views) <= window:
        return [[views]]
    windows = [tuple(views[i] for i in indices) for indices in sliding_windows(len(views), window, overlap)]
    ends = tuple(sorted({end for one in windows for end in (one[0], one[-1])}))
    if len(ends) <= window:
        return [[ends], windows]
    # Too far apart for one window of anchors: a coarse one, and then what is between.
    anchors = tuple(views[i * (len(views) - 1) // (window - 1)] for i in range(window))
    gaps = [views[views.index(a) : views.index(b) + 1] for a, b in pairwise(anchors)]
    return [[anchors], *_together(_gap_stages(gap, window, overlap) for gap in gaps)]
