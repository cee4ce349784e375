"""The layouts of folders with frames, told apart by what lies in a folder."""

from __future__ import annotations

from pathlib import Path

from .listing import Layout
from .nerfstudio_folder import NERFSTUDIO
from .scannet_folder import SCANNET
from .sens_folder import SENS
from .tum_folder import TUM

LAYOUTS = (SCANNET, NERFSTUDIO, TUM, SENS)  # the first that fits is taken


def layout_of(folder: Path) -> Layout | None:
    """The layout of a folder; None for one that holds no sequence."""
    return next((layout for layout in LAYOUTS if layout.fits(folder)), None)
