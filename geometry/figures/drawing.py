"""How the pack draws: colours that fit ComfyUI's, lines, and texts that keep out of each other's way."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
from PIL import Image, ImageDraw, ImageFont

FINE = 2  # how much finer a drawing is than the picture made of it: antialiases lines
# All lengths are pixels of the drawing.
THIN, THICK = FINE, 2 * FINE
LARGE, MEDIUM, SMALL = 30 * FINE, 24 * FINE, 20 * FINE  # heights of text
GROUND, SHADE, HATCH, LINE, DIM, BRIGHT = (
    (27, 28, 31),
    (20, 21, 23),
    (48, 50, 56),
    (66, 68, 75),
    (160, 164, 172),
    (238, 240, 244),
)

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[int, ...]


def view_colour(view: int, views: int, strength: float = 1.0) -> Colour:
    """A colour of its own for each of the views: all hues in turn, of one brightness."""
    turn = 0.58 + view / views
    return tuple(round(strength * (158 + 92 * math.cos(2 * math.pi * (turn + third / 3)))) for third in range(3))


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, so that pictures are alike everywhere. It has no minus and no multiplication sign."""
    return ImageFont.load_default(size)


def points(places: torch.Tensor) -> list[Point]:
    """(n, 2) places as Pillow takes them."""
    return [(x, y) for x, y in places.tolist()]


def hatched(size: tuple[int, int]) -> Image.Image:
    """A dark ground with oblique lines, for what is not there."""
    picture = Image.new("RGB", size, SHADE)
    draw = ImageDraw.Draw(picture)
    for x in range(0, sum(size), 12 * FINE):
        draw.line((x, 0, x - size[1], size[1]), HATCH, THIN)
    return picture


class Labels:
    """Texts on a picture, none over another."""

    def __init__(self, picture: Image.Image):
        self._draw = ImageDraw.Draw(picture)
        self._taken: list[Box] = []

    def write(self, texts: Iterable[tuple[Point, str]], size: int, room: int) -> None:
        """Writes the texts that find `room` around their points; where they are dense every second, fourth ... one."""
        texts = list(texts)
        widest = max(font(size).getlength(text) for _, text in texts)
        # The first one, then those whose number is divisible by the highest power of two.
        for number in sorted(range(len(texts)), key=lambda number: -(number & -number or len(texts))):
            self.write_all([texts[number]], size, room, widest)

    def write_all(self, texts: Iterable[tuple[Point, str]], size: int, room: int, width: float = 0.0) -> None:
        """Writes the texts, taken to be `width` wide at least, if all of them find room, else none."""
        texts, taken = list(texts), list(self._taken)
        for (x, y), text in texts:
            across, along = max(width, font(size).getlength(text)) / 2 + room, size / 2 + room
            box = x - across, y - along, x + across, y + along
            if any(_meet(box, other) for other in taken):
                return
            taken.append(box)
        self._taken = taken
        for point, text in texts:
            self._draw.text(point, text, BRIGHT, font(size), anchor="mm", stroke_width=THICK, stroke_fill=SHADE)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
