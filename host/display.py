"""Texts and pictures inside nodes."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from server import PromptServer


def shown_in_node(text: str, pictures: torch.Tensor, cls: type[io.ComfyNode]) -> dict:
    """What a node returns as `ui` to show pictures (B, h, w, 3), which are temporary files, and to say a text.

    The front end shows the text of few nodes of its own; all others have to send theirs. That text shows in the node
    whose hidden unique_id `cls` has; without one, outside of a run, nothing is sent.
    """
    if cls.hidden and cls.hidden.unique_id:
        PromptServer.instance.send_progress_text(text, cls.hidden.unique_id)
    return {**ui.PreviewImage(pictures, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
