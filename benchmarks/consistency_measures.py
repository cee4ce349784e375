"""What consistency.py measures on views: agreement, sharpness, and whether colours are those of the captions."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mvdiffusion_pack.geometry.agreement import PairAgreement, agreement, decibels
from mvdiffusion_pack.scenes.furniture import BRIGHT, COLOURS

WALL, FLOOR = re.compile(r"(\w+)(?: striped)? walls"), re.compile(r", ([\w ]+ (?:floor|carpet))$")
LARGEST = re.compile(r"^a room with (?:an?|two|three|four|several) (\w+) ")
PATTERNED = re.compile(r"striped walls|brick walls")  # finer than what the autoencoder keeps
SATURATED = 0.25  # of a colour, from which on its hue counts
WALL_ROWS, FLOOR_ROWS = (0.19, 0.47), (0.88, 1.0)  # of a level view


@dataclass(frozen=True)
class Colours:
    """Tells colours of walls, floors and things, as seen in rendered views whose captions say them.

    walls, floors: by name the (3,) median colour. things: by name the mean and spread of the share of its hue.
    """

    walls: dict[str, torch.Tensor]
    floors: dict[str, torch.Tensor]
    things: dict[str, tuple[float, float]]

    @staticmethod
    def of(rooms: list) -> Colours:
        walls, floors, shares = defaultdict(list), defaultdict(list), []
        for room in rooms:
            for image, caption in zip(room.images, room.captions, strict=True):
                for pattern, rows, found in ((WALL, WALL_ROWS, walls), (FLOOR, FLOOR_ROWS, floors)):
                    if said := pattern.search(caption):
                        found[said.group(1)].append(_median(image, rows))
                shares.append(hue_shares(image))
        all_shares = torch.stack(shares)
        spread = all_shares.std(0).clamp(min=0.01)
        things = {name: (all_shares[:, i].mean().item(), spread[i].item()) for i, name in enumerate(BRIGHT)}
        means = [
            {name: torch.stack(seen).median(0).values for name, seen in found.items()} for found in (walls, floors)
        ]
        return Colours(*means, things)

    def right(self, images: torch.Tensor, captions: list[str]) -> dict[str, list[bool]]:
        """Of (V, h, w, 3) views whose captions say it: whether wall, floor and largest thing are so."""
        found = defaultdict(list)
        for image, caption in zip(images, captions, strict=True):
            for name, pattern, rows, known in (
                ("wall", WALL, WALL_ROWS, self.walls),
                ("floor", FLOOR, FLOOR_ROWS, self.floors),
            ):
                said = pattern.search(caption)
                if said and said.group(1) in known:
                    hit = _nearest(_median(image, rows), known) == said.group(1)
                    found[name].append(hit)
                    if name == "wall" and not PATTERNED.search(caption):
                        found["plain wall"].append(hit)
            said = LARGEST.match(caption)
            if said and said.group(1) in self.things:
                found["thing"].append(self._thing(image) == said.group(1))
        return found

    def _thing(self, image: torch.Tensor) -> str:
        """The colour of which a view has most beyond what views have of it."""
        shares = hue_shares(image).tolist()
        beyond = {
            name: (share - self.things[name][0]) / self.things[name][1]
            for name, share in zip(BRIGHT, shares, strict=True)
        }
        return max(beyond, key=beyond.get)


def hue_shares(image: torch.Tensor) -> torch.Tensor:
    """(colours,) the shares of an (h, w, 3) view's pixels whose hue is nearest to that of each of BRIGHT."""
    hue, saturation = _hue(image.reshape(-1, 3))
    known, _ = _hue(torch.tensor([COLOURS[name] for name in BRIGHT]))
    away = ((hue[:, None] - known + 0.5) % 1 - 0.5).abs()
    nearest = away.argmin(1)[saturation >= SATURATED]
    return torch.bincount(nearest, minlength=len(BRIGHT)).float() / len(hue)


def _hue(colours: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hue in 0..1 and saturation of (n, 3) colours."""
    r, g, b = colours.unbind(-1)
    hue = torch.atan2(math.sqrt(3) * (g - b), 2 * r - g - b) / (2 * math.pi) % 1
    high, low = colours.amax(-1), colours.amin(-1)
    return hue, (high - low) / high.clamp(min=1e-3)


def _median(image: torch.Tensor, rows: tuple[float, float]) -> torch.Tensor:
    first, last = (round(share * len(image)) for share in rows)
    return image[first:last].flatten(0, 1).median(0).values


def _nearest(colour: torch.Tensor, known: dict[str, torch.Tensor]) -> str:
    return min(known, key=lambda name: (known[name] - colour).square().sum().item())


def figures(shown: list, rooms: list, colours: Colours | None, given: list | None = None) -> dict[str, float]:
    """The figures of the views of all rooms, by name. given: what the first view of each should be.

    colours: of level views; None: colours are not judged.
    """
    pairs = [pair for images, room in zip(shown, rooms, strict=True) for pair in agreement(images, room.cameras).pairs]
    level = next(iter(getattr(rooms[0].cameras, "rings", ())), 0)  # views of the level ring; of a walk there is none
    found = {
        "Overlap PSNR": _together(pairs),
        "closing pair": _together([pair for pair in pairs if (pair.view, pair.other) == (0, level - 1)]),
        "other pairs": _together([pair for pair in pairs if (pair.view, pair.other) != (0, level - 1)]),
        "sharpness": torch.stack([sharpness(images) for images in shown]).mean().item(),
    }
    right = defaultdict(list)
    for images, room in zip(shown, rooms, strict=True) if colours else ():
        for name, hits in colours.right(images, room.captions).items():
            right[name] += hits
    found |= {name: sum(hits) / len(hits) for name, hits in right.items()}
    if given is not None:
        errors = [(images[0] - was[0]).square().mean().item() for images, was in zip(shown, given, strict=True)]
        found["given view"] = decibels(sum(errors) / len(errors))
        found["pairs with it"] = _together([pair for pair in pairs if pair.view == 0])
        found["pairs without"] = _together([pair for pair in pairs if pair.view != 0])
    return found


def _together(pairs: list[PairAgreement]) -> float:
    pixels = sum(pair.pixels for pair in pairs)
    return decibels(sum(pair.error * pair.pixels for pair in pairs) / pixels) if pixels else math.nan


def sharpness(images: torch.Tensor) -> torch.Tensor:
    """The variance of the Laplacian of (V, h, w, 3) views."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return F.conv2d(images.mean(-1)[:, None].float(), kernel).var()


def table(rows: dict[str, dict[str, float]]) -> str:
    """Lines for people, a row for each way."""
    names = list(next(iter(rows.values())))
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>15}" for name in names)]
    for way, found in rows.items():
        lines.append(
            way.ljust(width)
            + "".join(f"{found[name]:15.5f}" if name == "sharpness" else f"{found[name]:15.2f}" for name in names)
        )
    return "\n".join(lines)
