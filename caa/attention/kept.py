"""Tables that outlive their run, so that the next one over the same cameras finds them made."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from ...geometry.scene import Scene
from .memory import MB, Memory
from .tables import Tables

KEPT_BYTES = 512 * MB  # between runs, in all
Key = tuple[int, int, str]


class Kept:
    """The tables of the cameras that are in use somewhere: they go with them.

    Between runs nothing stays on a card, and of the rest no more than KEPT_BYTES or an eighth of what is free: the last
    scenes first, and of each its smaller tables first.
    """

    def __init__(self) -> None:
        self._scenes: WeakKeyDictionary[Scene, dict[Key, Tables]] = WeakKeyDictionary()

    def tables(self, scene: Scene, height: int, width: int, way: str, memory: Memory, device: torch.device) -> Tables:
        """The tables of a sampling run over `scene` at one feature size; asked for once per run.

        way: one of `tables.WAYS`. memory: what the run may use on `device`; what there is already counts.
        """
        tables = self._scenes.setdefault(scene, {})
        self._scenes[scene] = self._scenes.pop(scene)  # used last
        key = height, width, way
        if key not in tables:
            tables[key] = Tables(scene.correspondences(height, width), memory, way, sampling=True)
        tables[key].begin(memory, device)
        return tables[key]

    def rest(self, free: int) -> None:
        """Called after a run, with the bytes that are free on the CPU: gives back what is not to be kept."""
        left = min(KEPT_BYTES, free // 8)
        for tables in reversed(list(self._scenes.values())):
            for one in sorted(tables.values(), key=lambda one: one.correspondences.height):
                left -= one.rest(left)


KEPT = Kept()
