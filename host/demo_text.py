"""The demo model's text: the host's tokenizer and text model of SD 2, over a table of the few words that it knows."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from functools import partial
from types import SimpleNamespace

import comfy.supported_models
import torch
from comfy.text_encoders.sd2_clip import SD2Tokenizer

VOCABULARY = 49408  # tokens of the host's tokenizer
MODEL = "clip_h.transformer."
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
logger = logging.getLogger("MVDiffusion")


class DemoTokenizer(SD2Tokenizer):
    """SD 2's tokenizer, which says once of each word that the demo model does not know it.

    known: the tokens that have a row of their own. All others mean nothing in particular.
    """

    def __init__(self, known: Collection[int], **options) -> None:
        super().__init__(**options)
        self._known, self._told = set(known), set()

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options):
        """As the host's; logs the words that are new to the model in one line."""
        new = [word for word in dict.fromkeys(WORD.findall(text.lower())) if not self._knows(word)]
        new = [word for word in new if word not in self._told]
        if new:
            self._told.update(new)
            logger.warning(
                "The demo model does not know %s: it passes them over.", ", ".join(f"'{word}'" for word in new)
            )
        return super().tokenize_with_weights(text, return_word_ids, **options)

    def _knows(self, word: str) -> bool:
        return word.isdigit() or self._known.issuperset(self.clip_h.tokenizer(word)["input_ids"])


def text_target(weights: Mapping[str, torch.Tensor]) -> SimpleNamespace:
    """SD 2's text model as the host's CLIP is built from, with the tokenizer of the words in `weights`."""
    target = comfy.supported_models.SD20({}).clip_target()
    return SimpleNamespace(
        clip=target.clip, params=target.params, tokenizer=partial(DemoTokenizer, weights["tokens"].tolist())
    )


def text_weights(weights: Mapping[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The state dict of the host's text model, of trained weights.

    Their token table has row 0 for all tokens but `tokens`, and row 1 + i for tokens[i]. The host has one layer more
    than is read: of zeros, so that it adds nothing.
    """
    compact = weights["embeddings.token_embedding.weight"]
    table = compact[:1].repeat(VOCABULARY, 1)
    table[weights["tokens"].long()] = compact[1:]
    own = {key: value for key, value in weights.items() if key != "tokens"}
    own["embeddings.token_embedding.weight"] = table
    last = {
        key.replace("layers.0.", f"layers.{layers}."): torch.zeros_like(value)
        for key, value in weights.items()
        if key.startswith("encoder.layers.0.")
    }
    return {
        **{f"{MODEL}text_model.{key}": value for key, value in {**own, **last}.items()},
        f"{MODEL}text_projection.weight": torch.eye(compact.shape[1]),
        "clip_h.logit_scale": torch.tensor(4.6055),
    }
