"""Pictures of depth, for people: near is bright, far is dark, and a scale below tells the metres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw

from .drawing import BRIGHT, DIM, FINE, GROUND, LINE, THIN, font, hatched

NARROWEST, WIDEST = 256, 512  # pixels: smaller maps are enlarged by a whole number, of larger ones every n-th is shown
STRIP, MARGIN, BAR, TEXT = 38 * FINE, 6 * FINE, 10 * FINE, 15 * FINE  # of the scale: heights, and the room around
PERCENTILES = 1, 99  # of depth, for the scale's ends: a few wrong readings far away must not darken everything
SAMPLES = 2**20  # depths that they are taken of
VIRIDIS = (
    "453781 404588 3a538b 34608d 2e6d8e 29798e 25848e 21918c 1e9d89 22a884 2fb47c 44bf70 5cc863 7ad151 9bd93c bade28 "
    "dde318 fde725"
)
CENTIMETRES = -2  # power of ten: the scale's ends are not given more finely


def depth_picture(depth: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """(V, h, w, 3) float32 in 0..1, of V depth maps (V, H, W) in metres with 0 = no reading, and their names.

    All share one scale, that of `depth_range`, so that they can be compared. Hatched where there is no reading.
    w is at least 256 and about 512 at most; the scale below the map is 38 pixels high.
    """
    ends = depth_range(depth)
    step = math.ceil(max(depth.shape[1:]) / WIDEST)
    shown = depth[:, ::step, ::step]
    times = math.ceil(NARROWEST / shown.shape[2])
    width = times * shown.shape[2]
    pictures = []
    for view, name in zip(shown, names, strict=True):
        title = f"frame {name}" if view.any() else f"frame {name}: no depth"
        pictures.append(np.concatenate((_map(view.numpy(), times, ends), _scale(width, title, ends))))
    return torch.from_numpy(np.stack(pictures)).float().div_(255)


def depth_range(depth: torch.Tensor) -> tuple[float, float] | None:
    """The nearest and the farthest metres of the scale, rounded outwards to about two digits; None without readings.

    Between them lie all readings but the nearest and the farthest hundredth.
    """
    readings = depth[depth > 0].numpy()
    if not len(readings):
        return None
    low, high = np.percentile(readings[:: len(readings) // SAMPLES + 1], PERCENTILES).tolist()
    power = max(CENTIMETRES, math.floor(math.log10(high - low)) - 1) if high > low else CENTIMETRES
    unit = 10.0**power
    first, last = math.floor(low / unit), math.ceil(high / unit)
    return first * unit, max(last, first + 1) * unit


def written(ends: tuple[float, float] | None) -> tuple[str, str]:
    """The texts at both ends of a scale: '0.8 m', '5.2 m'."""
    return ("", "") if ends is None else (f"{ends[0]:g} m", f"{ends[1]:g} m")


@cache
def _colours() -> np.ndarray:
    """(256, 3) uint8 from dark to bright, without the darkest: those are too near to the colours of no reading."""
    try:
        import cv2  # here, so that the other nodes load where it does not

        return cv2.applyColorMap(np.linspace(40, 255, 256).astype(np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    except (ImportError, AttributeError):  # the latter where another distribution of it was removed, and left a folder
        return _colours_without_opencv()


def _colours_without_opencv() -> np.ndarray:
    """The same within 4 / 255, from every fifteenth of them."""
    given = np.array([tuple(bytes.fromhex(colour)) for colour in VIRIDIS.split()])
    places = np.linspace(0, 255, len(given))
    channels = [np.interp(np.arange(256), places, channel) for channel in given.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _map(depth: np.ndarray, times: int, ends: tuple[float, float] | None) -> np.ndarray:
    """(times H, times W, 3) uint8 of an (H, W) depth map."""
    depth = depth.repeat(times, 0).repeat(times, 1)
    height, width = depth.shape
    nothing = np.array(hatched((FINE * width, FINE * height)).reduce(FINE))
    if ends is None:
        return nothing
    near, far = ends
    bright = (255 * (far - depth) / (far - near)).clip(0, 255).round().astype(np.uint8)
    return np.where(depth[..., None] > 0, _colours()[bright], nothing)


def _scale(width: int, title: str, ends: tuple[float, float] | None) -> np.ndarray:
    """(h, width, 3) uint8: a bar from near to far with its metres below, and a title between them."""
    strip = Image.new("RGB", (FINE * width, STRIP), GROUND)
    draw, left, right, y = ImageDraw.Draw(strip), MARGIN, FINE * width - MARGIN, STRIP - MARGIN
    near, far = written(ends)
    if ends is not None:
        bar = Image.fromarray(_colours()[None, ::-1]).resize((right - left, BAR), Image.Resampling.BILINEAR)
        strip.paste(bar, (left, MARGIN))
    draw.rectangle((left, MARGIN, right - 1, MARGIN + BAR - 1), outline=LINE, width=THIN)
    draw.text((left, y), near, BRIGHT, font(TEXT), anchor="ls")
    draw.text((right, y), far, BRIGHT, font(TEXT), anchor="rs")
    taken = 2 * max(draw.textlength(text, font(TEXT)) + MARGIN for text in (near, far))
    draw.text((FINE * width / 2, y), _cut(title, right - left - taken), DIM, font(TEXT), anchor="ms")
    return np.array(strip.reduce(FINE))


def _cut(text: str, room: float) -> str:
    """As much of a text's beginning as finds room."""
    while font(TEXT).getlength(text) > room:
        text = text[:-1]
    return text
