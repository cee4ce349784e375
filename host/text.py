"""Prompts per view as one CONDITIONING of the host."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

CLIP_TOKENS = 77  # CLIP makes these of a prompt, or a multiple
MASK = "attention_mask"  # the host's name: 1 for tokens, 0 for what fills up


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

    Rows of unequal token length get a common one, and what encoders give beside them (SDXL's pooled outputs) is
    stacked. Raises ValueError where clip is missing, and where that cannot be stacked.
    """
    if clip is None:
        raise ValueError("Multi-View Text Encode: clip is empty. The checkpoint loaded has no text encoder.")
    encoded = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in dict.fromkeys(prompts)}
    rows = [encoded[prompt] for prompt in prompts]
    # Scheduled hooks give a prompt several entries, the same number for each.
    return [_stack(entries) for entries in zip(*rows, strict=True)]


def _stack(entries: tuple) -> list:
    """One conditioning entry [tensor, options] from one per view."""
    tensors, options = _of_one_length([entry[0] for entry in entries], [dict(entry[1]) for entry in entries])
    return [torch.cat(tensors), options[0] | {name: _stacked(name, options) for name in options[0]}]


def _of_one_length(tensors: list[torch.Tensor], options: list[dict]) -> tuple[list[torch.Tensor], list[dict]]:
    """Text of CLIP, whose lengths are few, is repeated, which leaves its attention what it is. Other encoders make as
    many tokens as a prompt needs: theirs is filled up with zeros, and masked as the host masks it."""
    lengths = [tensor.shape[1] for tensor in tensors]
    masked = any(MASK in own for own in options)
    if not masked and not any(length % CLIP_TOKENS for length in lengths):
        common = math.lcm(*lengths)
        return [tensor.repeat(1, common // tensor.shape[1], 1) for tensor in tensors], options
    longest = max(lengths)
    if masked or min(lengths) < longest:
        ones = [torch.ones((1, length), dtype=torch.long) for length in lengths]
        masks = [own.get(MASK, all_of_it) for own, all_of_it in zip(options, ones, strict=True)]
        masks = [F.pad(mask, (0, longest - mask.shape[1])) for mask in masks]
        options = [own | {MASK: mask} for own, mask in zip(options, masks, strict=True)]
    return [F.pad(tensor, (0, 0, 0, longest - tensor.shape[1])) for tensor in tensors], options


def _stacked(name: str, options: list[dict]):
    """What all rows have of this name; what is no tensor is that of the first."""
    values = [own.get(name) for own in options]
    if not isinstance(values[0], torch.Tensor):
        return values[0]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if len(tensors) < len(values) or len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(
            f"Multi-View Text Encode: this text encoder gives '{name}' in another size for each of these lines, which "
            "cannot be joined: write 1 line for all views."
        )
    return torch.cat(tensors)
