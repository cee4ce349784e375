"""One difference between host versions, bridged once: older hosts know fewer schema fields."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "MVDiffusion"
MVCameras = io.Custom("MV_CAMERAS")


def schema(**fields) -> io.Schema:
    """An `io.Schema` of this pack's category from the fields that this host knows (0.3.64 lacks search_aliases)."""
    known = io.Schema.__dataclass_fields__
    return io.Schema(category=CATEGORY, **{name: value for name, value in fields.items() if name in known})
