"""What the schemas of all nodes have in common."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.quirks import known_schema_fields

CATEGORY = "MVDiffusion"
MVCameras = io.Custom("MV_CAMERAS")


def schema(**fields) -> io.Schema:
    """An `io.Schema` of this pack's category from the fields that this host knows."""
    return io.Schema(category=CATEGORY, **known_schema_fields(fields))
