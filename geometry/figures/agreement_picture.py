"""A picture of the pair of views that agree worst: both, and how much they differ, pixel by pixel."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from ..agreement import Agreement, PairAgreement, seen_by_both
from ..cameras import Cameras
from .drawing import BRIGHT, DIM, FINE, GROUND, LARGE, LINE, MEDIUM, SMALL, THICK, THIN, font, hatched

PANEL, TALLEST = 512, 1024  # pixels of the picture: a panel's width, and the most that it may be high
GAP, HEADING, CAPTION, LEGEND = 24 * FINE, 72 * FINE, 48 * FINE, 64 * FINE
BAR = 220 * FINE, 18 * FINE
DIMMED = 0.35  # brightness of what only the first view shows
SPECK = 3 * FINE  # half as wide as the holes and islands of an overlap that get no line of their own
OUTLINE = (92, 225, 230)  # around the overlap: a colour that heat has not
# Of a difference, from none to the largest that the bar shows. It grows brighter all the way.
HEAT = (8, 6, 18), (72, 18, 98), (158, 38, 92), (226, 82, 48), (250, 164, 40), (255, 250, 200)
FULL = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # differences that the bar may end at
COVERED = 0.99  # of the overlap's pixels: as many lie within the bar at least


def worst_pair_picture(images: torch.Tensor, cameras: Cameras, found: Agreement) -> torch.Tensor:
    """(1, h, 1632, 3) float32 on the CPU: the pair of views that agree worst, in three panels.

    The first view, darker where the other one shows none of it; the other one as the first would see it, hatched there;
    and the root of the mean squared difference of their colours as heat. A line goes round the overlap.
    images: as for `agreement`, which found `found`.
    """
    pair = found.worst
    view, other, overlap = (part.cpu() for part in seen_by_both(images, cameras, pair))
    difference = (other - view).square().mean(0).sqrt()
    full = _full_scale(difference[overlap])
    size = _panel_size(view.shape[-1], view.shape[-2])
    ground, within = hatched(size), _mask(overlap, size)
    first, second = _photo(view, size), _photo(other, size)
    heat = Image.fromarray(_heat(difference / full)).resize(size, Image.Resampling.NEAREST)
    panels = [
        Image.composite(first, first.point(lambda value: value * DIMMED), within),
        Image.composite(second, ground, within),
        Image.composite(heat, ground, within),
    ]
    outline = _outline(within)
    for panel in panels:
        panel.paste(OUTLINE, (0, 0), outline)
    one, two = pair.names
    captions = one, f"{two}, as seen from {one}", "difference"
    picture = _arranged(_heading(pair), panels, captions)
    _draw_legend(picture, full)
    return torch.from_numpy(np.array(picture.reduce(FINE))).div(255)[None]


def _heading(pair: PairAgreement) -> str:
    return f"Worst pair: {pair.title}, {pair.psnr:.1f} dB over {100 * pair.share:.0f} % of {pair.names[0]}"


def _full_scale(differences: torch.Tensor) -> float:
    """What the bar ends at: a round number that (n,) differences, all but a few, do not exceed."""
    most = np.quantile(differences.numpy(), COVERED)
    return next((full for full in FULL if most <= full), FULL[-1])


def _panel_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a panel's picture, in pixels of the drawing."""
    scale = min(PANEL / width, TALLEST / height)
    return FINE * max(1, round(scale * width)), FINE * max(1, round(scale * height))


def _photo(colours: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    """(3, h, w) colours in 0..1 at a panel's size; each pixel of the final picture is one of the drawing's squares."""
    pixels = colours.clamp(0, 1).mul(255).round().to(torch.uint8).movedim(0, -1).numpy()
    shown = Image.fromarray(pixels).resize([side // FINE for side in size], Image.Resampling.BICUBIC)
    return shown.resize(size, Image.Resampling.NEAREST)


def _mask(overlap: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(overlap.to(torch.uint8).mul(255).numpy()).resize(size, Image.Resampling.NEAREST)


def _outline(mask: Image.Image) -> Image.Image:
    """The inner border of a mask, also where it ends at the picture's; around its shape, not around every speck."""
    shape = ImageOps.expand(_where_blurred(mask, SPECK, 128), THICK)
    return ImageOps.crop(ImageChops.subtract(shape, _where_blurred(shape, THICK, 255)), THICK)


def _where_blurred(mask: Image.Image, radius: int, least: int) -> Image.Image:
    """A mask of where the mean of a mask around a pixel is `least` or more."""
    return mask.filter(ImageFilter.BoxBlur(radius)).point(lambda mean: 255 * (mean >= least))


def _heat(values: torch.Tensor) -> np.ndarray:
    """(...) values in 0..1 as (..., 3) colours, uint8; larger ones as 1."""
    stops = np.linspace(0, 1, len(HEAT))
    bands = [np.interp(values.numpy(), stops, band) for band in zip(*HEAT, strict=True)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


def _arranged(heading: str, panels: list[Image.Image], captions: tuple[str, ...]) -> Image.Image:
    """The panels side by side, each with its caption above, under the heading; room for the legend is below."""
    cell, height = FINE * PANEL, panels[0].height
    picture = Image.new("RGB", (3 * cell + 4 * GAP, HEADING + CAPTION + height + LEGEND), GROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((picture.width / 2, HEADING / 2), heading, BRIGHT, font(LARGE), anchor="mm")
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        middle = GAP + cell / 2 + number * (cell + GAP)
        draw.text((middle, HEADING + CAPTION / 2), caption, BRIGHT, font(MEDIUM), anchor="mm")
        picture.paste(panel, (round(middle - panel.width / 2), HEADING + CAPTION))
    return picture


def _draw_legend(picture: Image.Image, full: float) -> None:
    """Below the panels: what the line is, and what heat means."""
    draw, middle = ImageDraw.Draw(picture), picture.height - LEGEND / 2
    draw.line((GAP, middle, GAP + BAR[1] * 2, middle), OUTLINE, 2 * THICK)
    draw.text((GAP + BAR[1] * 3, middle), "around the pixels compared", DIM, font(SMALL), anchor="lm")
    bar = Image.fromarray(_heat(torch.linspace(0, 1, BAR[0]).expand(BAR[1], -1)))
    left, top = picture.width - GAP - FINE * PANEL // 2 - BAR[0] // 2, round(middle) - BAR[1] // 2
    picture.paste(bar, (left, top))
    draw.rectangle((left, top, left + BAR[0], top + BAR[1]), outline=LINE, width=THIN)
    draw.text((left - GAP / 2, middle), "0", DIM, font(SMALL), anchor="rm")
    draw.text((left + BAR[0] + GAP / 2, middle), f"{full:g} or more", DIM, font(SMALL), anchor="lm")
