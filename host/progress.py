"""How far a node has come, in the host's progress bar, and whether it is to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import comfy.model_management
import comfy.utils

Item = TypeVar("Item")


def progress_bar() -> Callable[[int, int], None]:
    """Shows that `done` of `total` is done, and raises the host's exception where people have stopped the run.

    Where less is done than before, something else has begun.
    """
    bar = comfy.utils.ProgressBar(1)

    def show(done: int, total: int) -> None:
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done < bar.current:  # newer hosts do not show a bar that goes back
            bar = comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total)

    return show


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """The items; before each, the host's exception is raised where people have stopped the run."""
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
