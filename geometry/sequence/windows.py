"""Which views of a sequence are denoised together, where there are more than memory holds or a model was trained with.

A window is an ascending tuple of views. Windows of one group share views, which have one latent in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, zip_longest

Window = tuple[int, ...]
Group = list[Window]
Stage = list[Group]


def sliding_windows(views: int, window: int, shared: int) -> Group:
    """Windows over all views, each sharing at least `shared` views with the next; the last one ends with the views.

    window: how many views each holds, more than `shared`; 0: all of them in one.
    """
    if not window or window >= views:
        return [tuple(range(views))]
    last = views - window
    firsts = [*range(0, last, window - shared), last]
    return [tuple(range(first, first + window)) for first in firsts]


def interpolation_stages(keyframes: tuple[int, ...], window: int, shared: int) -> list[Stage]:
    """Groups of windows in which all views between known ones are made, stage by stage.

    When a stage is done, its views are known, too. The first and the last view of every window are known before its
    stage. Where two key frames are farther apart than a window, inner anchors come first. Groups know nothing of each
    other: as published, each gap between two key frames is made by itself.
    """
    return _together(_gap_stages(tuple(range(a, b + 1)), window, shared) for a, b in pairwise(keyframes))


def rows_of_stage(stage: Stage) -> tuple[list[int], list[Window]]:
    """How a stage is one run: which view each of its rows is, and its windows over these rows.

    A view that stands in several groups has a row in each.
    """
    rows: list[int] = []
    windows = []
    for group in stage:
        views = sorted({view for window in group for view in window})
        row = {view: len(rows) + number for number, view in enumerate(views)}
        windows += [tuple(row[view] for view in window) for window in group]
        rows += views
    return rows, windows


def _gap_stages(views: Window, window: int, shared: int) -> list[Stage]:
    """The stages of the views between two known ones, which are the first and the last of them."""
    if len(views) <= 2:
        return []
    if not window or len(views) <= window:
        return [[[views]]]
    windows = [tuple(views[i] for i in indices) for indices in sliding_windows(len(views), window, shared)]
    ends = tuple(sorted({end for one in windows for end in (one[0], one[-1])}))
    if len(ends) <= window:
        return [[[ends]], [windows]]
    # Too far apart for one window of anchors: a coarse one, and then what is between.
    anchors = tuple(views[i * (len(views) - 1) // (window - 1)] for i in range(window))
    gaps = [views[views.index(a) : views.index(b) + 1] for a, b in pairwise(anchors)]
    return [[[anchors]], *_together(_gap_stages(gap, window, shared) for gap in gaps)]


def _together(gaps: Iterable[list[Stage]]) -> list[Stage]:
    """The first stages of all gaps as one stage, then the second ones, and so on."""
    return [[group for stage in stages for group in stage] for stages in zip_longest(*gaps, fillvalue=())]
