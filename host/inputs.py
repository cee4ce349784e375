"""What a UNet that takes images is fed beside the latents: given pictures and masks, view by view.

The host's InpaintModelConditioning puts both into the conditionings: latents (rows, 4, h, w), masks (rows, 1, H, W).
"""

from __future__ import annotations

import torch

LATENTS, MASKS = "concat_latent_image", "concat_mask"  # the host's names


def repeat_given_images(conds: dict[str, list[dict]], views: int, batch: int) -> dict[str, list[dict]]:
    """A run's conditionings with the given images and masks of V views repeated for each panorama of the batch.

    The host repeats prompts and noise masks in their order, 0 1 2 3 0 1 2 3, but stretches these rows over the batch,
    0 0 1 1 2 2 3 3: with more than one panorama views would get pictures of other views. Rows of any other number than
    V stay as they are. Nothing given is changed, since its tensors are the user's.
    """
    panoramas = batch // views
    if panoramas == 1:
        return conds
    return {name: [_repeated(entry, views, panoramas) for entry in entries] for name, entries in conds.items()}


def mask_rows(mask: torch.Tensor) -> torch.Tensor:
    """(rows, 1, H, W) as the host reads a mask of (rows, 1, H, W), (rows, H, W) or (H, W)."""
    mask = mask[:, :1] if mask.ndim == 4 else mask
    return mask.reshape(-1, 1, *mask.shape[-2:])


def _repeated(entry: dict, views: int, panoramas: int) -> dict:
    rows = {key: entry[key] for key in (LATENTS, MASKS) if entry.get(key) is not None}
    if MASKS in rows:
        rows[MASKS] = mask_rows(rows[MASKS])
    return entry | {key: value.repeat(panoramas, 1, 1, 1) for key, value in rows.items() if len(value) == views}
