"""Panorama Cameras in the host."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.host


def test_preview_is_the_picture_of_the_cameras(comfy):
    from mvdiffusion_pack.geometry.diagram import diagram
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras

    with torch.inference_mode():  # as the host's executor runs nodes
        cameras, preview = PanoramaCameras.execute("ring", 5, 100.0, 320, 256, 30.0, 10.0).args
    assert torch.equal(preview, diagram(cameras))
