"""What a view of a room shows, in words."""

from __future__ import annotations

from collections import Counter

import torch

from .room import Room

LEAST = 0.006  # of a view's pixels, from which on a thing is named
MOST = 5  # things that a caption names besides walls and floor, those that cover most of it
NUMBERS = {2: "two", 3: "three", 4: "four"}
SURFACES = {0: 0.1, 1: 0.1}  # walls and floor, and from which share on they are named; the ceiling never is


def caption(room: Room, things: torch.Tensor) -> str:
    """'a room with a red sofa and a wooden table, blue walls, wooden floor' of one view's (H, W) `Rendering.things`.

    Names what covers enough of the view, the largest first.
    """
    shares = torch.bincount(things.flatten().cpu(), minlength=len(room.names)).double() / things.numel()
    seen = [thing for thing in shares.argsort(descending=True, stable=True).tolist() if shares[thing] >= LEAST]
    named = Counter(room.names[thing] for thing in [thing for thing in seen if thing > 2][:MOST])
    phrases = [_counted(name, count) for name, count in named.items()]
    surfaces = [room.names[thing] for thing, least in SURFACES.items() if shares[thing] >= least]
    return ", ".join([f"a room with {_listed(phrases)}" if phrases else "an empty part of a room", *surfaces])


def captions_of(room: Room, things: torch.Tensor) -> list[str]:
    """The caption of each of (V, H, W) views."""
    return [caption(room, view) for view in things.cpu()]


def _counted(name: str, count: int) -> str:
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    noun, *rest = name.split(" with ")
    plural = f"{noun[:-1]}ves" if noun.endswith("shelf") else f"{noun}s"
    return " with ".join([f"{NUMBERS.get(count, 'several')} {plural}", *rest])


def _listed(phrases: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))
