"""Live previews of a run over cameras: the panorama so far, where the host's sampler nodes would show one view.

The host's callback asks a previewer object, made for this one run by the user's preview method, for a picture of the
first latent. For the time of the run that object answers with all views joined.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable

import latent_preview
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image

from ..geometry.cameras import Cameras
from ..geometry.mosaic import Mosaic
from ..geometry.stitch import native_width

SECONDS = 0.5  # between two previews


def with_live_preview(cameras: Cameras, executor, guider, sigmas, extra_args, callback, *args, **kwargs):
    """The host's SAMPLER_SAMPLE wrapper (its first argument bound): lets the callback's previewer show all views."""
    previewer = _previewer_of(callback)
    if previewer is None:  # previews are off, or the callback is not the host's
        return executor(guider, sigmas, extra_args, callback, *args, **kwargs)
    preview = LivePreview(cameras, previewer.decode_latent_to_preview)

    def timed_callback(step, x0, x, total_steps):
        preview.announce(step + 1 == total_steps)
        return callback(step, x0, x, total_steps)

    own = previewer.decode_latent_to_preview_image
    previewer.decode_latent_to_preview_image = preview.picture
    try:
        return executor(guider, sigmas, extra_args, timed_callback, *args, **kwargs)
    finally:
        previewer.decode_latent_to_preview_image = own


def _previewer_of(callback):
    """The previewer that a callback of latent_preview.prepare_callback holds, if it has one."""
    if not inspect.isfunction(callback):
        return None
    return inspect.getclosurevars(callback).nonlocals.get("previewer")


class LivePreview:
    """Pictures of a run so far: panoramas, or a sheet of all views where the cameras stand in different places.

    decode: takes latents (1, C, h, w) to a PIL image, by the user's preview method.
    """

    def __init__(self, cameras: Cameras, decode: Callable[[torch.Tensor], Image.Image]) -> None:
        self.cameras, self._decode = cameras, decode
        self._due, self._drawn = True, -math.inf
        self._mosaic: Mosaic | None = None

    def announce(self, last: bool) -> None:
        """Says before each picture whether it is the last; the others are drawn when SECONDS have passed."""
        self._due = last or time.monotonic() - self._drawn >= SECONDS

    def picture(self, format: str, x0: torch.Tensor) -> tuple[str, Image.Image, int] | None:
        """What the host sends as a preview of (P V, C, h, w) latents; None between two pictures."""
        if not self._due:
            return None
        joined = self.join([self._decode(latents) for latents in x0.split(1)])
        self._drawn = time.monotonic()
        return format, joined, latent_preview.MAX_PREVIEW_RESOLUTION

    def join(self, images: list[Image.Image]) -> Image.Image:
        """P V pictures of views, panorama by panorama, in one: panoramas below each other, or a sheet."""
        if not self.cameras.in_one_point:
            return _as_image(_sheet(_as_tensor(images)))
        native = native_width(self.cameras, images[0].width)
        width = min(native, latent_preview.MAX_PREVIEW_RESOLUTION // 2 * 2)
        views = _as_tensor([image.reduce(native // width) for image in images])
        if self._mosaic is None:
            self._mosaic = Mosaic.of(self.cameras, (views.shape[2], views.shape[1]), width)
        return _as_image(torch.cat([self._mosaic.draw(panorama) for panorama in views.split(self.cameras.views)]))


def _sheet(views: torch.Tensor) -> torch.Tensor:
    """(N, h, w, 3) pictures in rows, as nearly square as they go, black where the last row ends early."""
    count, height, width, _ = views.shape
    columns = max(1, round(math.sqrt(count * height / width)))
    views = F.pad(views, (0, 0, 0, 0, 0, 0, 0, -count % columns))
    return rearrange(views, "(r c) h w k -> (r h) (c w) k", c=columns)


def _as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def _as_image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture.to(torch.uint8).numpy())
