"""Prompts per view as one CONDITIONING of the host."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch


def view_prompts(text: str, prefix: str, views: int) -> list[str]:
    """The prompts in `text`, each after `prefix`: 1, `views`, or a multiple of `views` (several panoramas).

    Lines without text do not count; no text at all is one empty prompt. Raises ValueError for any other number.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if len(lines) > 1 and len(lines) % views:
        raise ValueError(
            f"Multi-View Text Encode: {len(lines)} lines of text for {views} cameras. Write 1 line for all views, "
            f"{views} lines (one per view), or {views} for each of several panoramas."
        )
    return [prefix + line for line in lines]


def prompt_lines(prompts: Iterable[str]) -> str:
    """One line per prompt; line breaks and other space inside a prompt become single spaces."""
    return "\n".join(" ".join(prompt.split()) for prompt in prompts)


def prompts_of_lines(text: str) -> list[str]:
    """The prompts of `prompt_lines`, also the empty ones between others; none where there is no text at all."""
    return text.splitlines() if text.strip() else []


def encode_views(clip, prompts: list[str]) -> list:
    """The host's CONDITIONING with one row per prompt.

    Rows of unequal token length are repeated to a common one, which leaves their attention what it is. Pooled outputs
    (SDXL) are stacked. Raises ValueError where clip is missing.
    """
    if clip is None:
        raise ValueError("Multi-View Text Encode: clip is empty. The checkpoint loaded has no text encoder.")
    encoded = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in dict.fromkeys(prompts)}
    rows = [encoded[prompt] for prompt in prompts]
    # Scheduled hooks give a prompt several entries, the same number for each.
    return [_stack(entries) for entries in zip(*rows, strict=True)]


def _stack(entries: tuple) -> list:
    """One conditioning entry [tensor, options] from one per view."""
    tensors, options = [entry[0] for entry in entries], dict(entries[0][1])
    length = math.lcm(*(tensor.shape[1] for tensor in tensors))
    stacked = torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])
    if options.get("pooled_output") is not None:
        options["pooled_output"] = torch.cat([entry[1]["pooled_output"] for entry in entries])
    return [stacked, options]
