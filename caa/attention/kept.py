"""What follows from cameras alone outlives its run, so that the next one over the same cameras finds it made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from ...geometry.scene import Scene
from .memory import MB, Memory, nbytes
from .projected import LayerWeights
from .tables import Tables

KEPT_BYTES = 512 * MB  # between runs, in all
T = TypeVar("T")


class Kept:
    """What follows from the cameras that are in use somewhere: it goes with them.

    Between runs nothing stays on a card, and of the rest no more than KEPT_BYTES or an eighth of what is free: the last
    scenes first, and of each its smaller parts first.
    """

    def __init__(self) -> None:
        self._scenes: WeakKeyDictionary[Scene, dict[tuple, Any]] = WeakKeyDictionary()
        self._weights = LayerWeights()

    def tables(self, scene: Scene, height: int, width: int, way: str, memory: Memory, device: torch.device) -> Tables:
        """The tables of a sampling run over `scene` at one feature size; asked for once per run.

        way: one of `tables.WAYS`. memory: what the run may use on `device`; what there is already counts.
        """
        made = self.made(
            scene,
            ("tables", height, width, way),
            lambda: Tables(scene.correspondences(height, width), memory, way, True, self._weights),
        )
        made.begin(memory, device)
        return made

    def made(self, scene: Scene, key: tuple, make: Callable[[], T]) -> T:
        """What else follows from a scene alone, on the CPU: made when it is first asked for."""
        items = self._scenes.pop(scene, {})
        self._scenes[scene] = items  # used last
        if key not in items:
            with torch.inference_mode(False), torch.no_grad():
                items[key] = make()
        return items[key]

    def rest(self, free: int) -> None:
        """Called after a run, with the bytes that are free on the CPU: gives back what is not to be kept."""
        left = min(KEPT_BYTES, free // 8)
        left -= self._weights.rest(left)
        for items in reversed(list(self._scenes.values())):
            for key, item in sorted(items.items(), key=lambda entry: _size(entry[1])):
                if isinstance(item, Tables):
                    left -= item.rest(left)
                elif _size(item) <= left:
                    left -= _size(item)
                else:
                    del items[key]


def _size(item: Any) -> int:
    return item.nbytes if isinstance(item, Tables) else nbytes(item)


KEPT = Kept()
