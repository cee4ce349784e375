"""Live previews of a run over cameras: the panorama so far, where the host's sampler nodes would show one view.

The host's callback asks a previewer object, made for this one run by the user's preview method, for a picture of the
first latent. For the time of the run that object answers with all views joined.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import latent_preview
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image

from ..geometry.cameras import Cameras
from ..geometry.panorama.mosaic import Mosaic
from ..geometry.panorama.stitch import native_width
from ..geometry.scene import Scene
from .quirks import previewer_of

SECONDS = 0.5  # between two previews, at least
SHARE = 0.03  # of a run's time that pictures may take

Join = Callable[[list[Image.Image]], Image.Image]


def with_live_preview(cameras: Scene, executor, guider, sigmas, extra_args, callback, *args, **kwargs):
    """The host's SAMPLER_SAMPLE wrapper (its first argument bound): lets the callback's previewer show all views."""
    previewer = previewer_of(callback)
    if previewer is None:  # previews are off, or another pack makes its own
        return executor(guider, sigmas, extra_args, callback, *args, **kwargs)
    preview = LivePreview(cameras, previewer)
    last: tuple[int, torch.Tensor, torch.Tensor, int] | None = None

    def timed_callback(step, x0, x, total_steps):
        nonlocal last
        last = step, x0, x, total_steps
        preview.announce(step + 1 == total_steps)
        return callback(*last)

    previewer.decode_latent_to_preview_image = preview.picture
    try:
        samples = executor(guider, sigmas, extra_args, timed_callback, *args, **kwargs)
        if last is not None and not preview.due:  # samplers that choose their steps do not say which is the last
            preview.announce(last=True)
            callback(*last)
        return samples
    finally:
        del previewer.decode_latent_to_preview_image


class LivePreview:
    """Pictures of a run so far.

    previewer: the host's, which takes latents to a picture of the first by the user's preview method.
    due: whether the next picture is drawn.
    """

    def __init__(self, cameras: Scene, previewer: latent_preview.LatentPreviewer) -> None:
        self.due = True
        self._cameras = cameras
        self._decode, self._first = previewer.decode_latent_to_preview, previewer.decode_latent_to_preview_image
        self._join: Join | None = None
        self._drawn, self._cost = -math.inf, 0.0

    def announce(self, last: bool) -> None:
        """Says before each picture whether it is the last, which is always drawn."""
        self.due = last or time.monotonic() - self._drawn >= max(SECONDS, self._cost / SHARE)

    def picture(self, format: str, x0: torch.Tensor) -> tuple[str, Image.Image, int] | None:
        """What the host sends as a preview of (P V, C, h, w) latents; None between two pictures."""
        if not self.due:
            return None
        begin = time.monotonic()
        images = [] if len(x0) % self._cameras.views else [self._decode(latents) for latents in x0.split(1)]
        if not images or not all(isinstance(image, Image.Image) for image in images):
            return self._first(format, x0)  # another pack asks for latents, or decodes them, in its own way
        self._join = self._join or view_joiner(self._cameras, images[0].size)
        joined = self._join(images)
        self._drawn = time.monotonic()
        self._cost = self._drawn - begin
        return format, joined, latent_preview.MAX_PREVIEW_RESOLUTION


def view_joiner(cameras: Scene, size: tuple[int, int]) -> Join:
    """Makes a function that joins P V pictures of views of this (width, height), panorama by panorama, to one picture.

    Panoramas come below each other. Views of cameras in different places come as a sheet. All that follows from the
    cameras is done here.
    """
    largest = max(2, latent_preview.MAX_PREVIEW_RESOLUTION // 2 * 2)
    if cameras.in_one_point:
        placed = cast(Cameras, cameras)  # as all scenes are
        native = native_width(placed, size[0])
        width = min(native, largest)
        shrink = native // width
        mosaic = Mosaic.of(placed, (-(-size[0] // shrink), -(-size[1] // shrink)), width)
        draw = partial(_stack, mosaic, cameras.views)
    else:
        columns = max(1, round(math.sqrt(cameras.views * size[1] / size[0])))
        shrink = max(1, columns * size[0] // largest)
        draw = partial(_sheet, columns)

    def join(images: list[Image.Image]) -> Image.Image:
        views = np.stack([np.asarray(image.reduce(shrink)) for image in images])
        return Image.fromarray(draw(torch.from_numpy(views)).to(torch.uint8).numpy())

    return join


def _stack(mosaic: Mosaic, count: int, views: torch.Tensor) -> torch.Tensor:
    """(P count, h, w, 3) views to P panoramas below each other."""
    return torch.cat([mosaic.draw(panorama) for panorama in views.split(count)])


def _sheet(columns: int, views: torch.Tensor) -> torch.Tensor:
    """(N, h, w, 3) views in rows; black where the last row ends early."""
    views = F.pad(views, (0, 0, 0, 0, 0, 0, 0, -len(views) % columns))
    return rearrange(views, "(r c) h w k -> (r h) (c w) k", c=columns)
