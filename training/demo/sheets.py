"""Contact sheets: views in a grid with a line of text below each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

COLUMNS, LINE = 8, 11  # views beside each other; height of a line of text in pixels


def save_sheet(path: Path, views: torch.Tensor, texts: Sequence[str] = (), columns: int = COLUMNS) -> None:
    """Writes (N, 3, H, W) views in -1..1 as a PNG, row by row, with `texts` below those that have one."""
    count, _, height, width = views.shape
    pixels = ((views.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    wrapped = [textwrap.wrap(text, width // 6) for text in texts]
    below = LINE * max((len(lines) for lines in wrapped), default=0)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + below)), "white")
    write = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pixels):
        left, top = i % columns * width, i // columns * (height + below)
        sheet.paste(Image.fromarray(picture), (left, top))
        for line, text in enumerate(wrapped[i] if i < len(wrapped) else ()):
            write.text((left + 2, top + height + line * LINE), text, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
