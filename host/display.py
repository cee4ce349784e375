"""Texts and pictures inside nodes."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui


def shown_in_node(text: str, pictures: torch.Tensor, cls: type[io.ComfyNode]) -> dict:
    """What a node returns as `ui` to show pictures (B, h, w, 3), which are temporary files, and to say a text.

    The front end shows the text of few nodes of its own; all others have to send theirs. That text shows in the node
    whose hidden unique_id `cls` has; without one, outside of a run, nothing is sent.
    """
    if cls.hidden and cls.hidden.unique_id:
        from server import PromptServer  # the host has loaded it in a run; elsewhere it may not load

        # With Vue's nodes it is Markdown, where two spaces at its end keep a line apart from the next one.
        PromptServer.instance.send_progress_text(text.replace("\n", "  \n"), cls.hidden.unique_id)
    return {**ui.PreviewImage(pictures, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
