"""The pack's nodes. Each reads its inputs, calls one function and returns; the work is done in host/ and geometry/."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .agreement import OverlapPSNR
from .cameras import PanoramaCameras
from .fusing import FuseViews
from .loaders import (
    LoadDemoModel,
    LoadMVDiffusion,
    LoadMVDiffusionCheckpoint,
    SaveMVDiffusion,
    register_models_folder,
)
from .output import PreviewPanorama, SavePanorama
from .panorama import EquirectToViews, SourceImageToViews, StitchEquirect
from .panorama_files import LoadPanorama, RotatePanorama
from .sampling import ApplyCameras, InterpolateKeyframes, MultiViewKSampler
from .sequence import DepthCameras, SavePosedViews
from .text import MultiViewTextEncode
from .training import TrainCAA

register_models_folder()


class MVDiffusionExtension(ComfyExtension):
    """What the host asks for the pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadMVDiffusion,
            LoadMVDiffusionCheckpoint,
            LoadDemoModel,
            PanoramaCameras,
            DepthCameras,
            SourceImageToViews,
            MultiViewTextEncode,
            ApplyCameras,
            FuseViews,
            MultiViewKSampler,
            InterpolateKeyframes,
            StitchEquirect,
            EquirectToViews,
            LoadPanorama,
            RotatePanorama,
            PreviewPanorama,
            SavePanorama,
            SavePosedViews,
            OverlapPSNR,
            SaveMVDiffusion,
            TrainCAA,
        ]
