"""Captions as the UNet is trained on them: the host's tokens, a small table, and nothing learnt from strange words."""

from __future__ import annotations

from random import Random

import pytest
import torch

from mvdiffusion_pack.training.demo import config
from mvdiffusion_pack.training.demo.text import (
    END,
    LENGTH,
    PADDING,
    START,
    UNKNOWN,
    TextEncoder,
    Words,
    shortened,
    with_strangers,
)

CAPTION = "a room with a red sofa, two green chairs and a floor lamp with a pink shade, blue walls, wooden floor"


def test_rows_of_the_table():
    words = Words([900, 500, 900])
    assert words.tokens == [PADDING, 500, 900, START, END]
    assert len(words) == 6
    assert words.rows([START, 500, 7, 900, END, PADDING]) == [4, 2, UNKNOWN, 3, 5, 1]
    assert Words(words.tokens).tokens == words.tokens


def test_strangers_come_among_words_only():
    words = Words([500, 900])
    start, end, padding = words.rows([START, END, PADDING])
    one = torch.tensor([start, *words.rows([500, 900] * 5), end, *[padding] * (LENGTH - 12)])
    rows = with_strangers(one.repeat(4000, 1), end, torch.Generator().manual_seed(0))
    assert (rows[:, 0] == start).all()
    assert ((rows == end).sum(1) == 1).all()
    ends = (rows == end).int().argmax(1)
    assert set(ends.tolist()) == {11, 12}
    assert all((row[last + 1 :] == padding).all() for row, last in zip(rows, ends.tolist(), strict=True))
    assert 0.5 < (rows == UNKNOWN).sum(1).float().mean() < 0.8
    known = rows[0][(rows[0] != UNKNOWN) & (torch.arange(LENGTH) < ends[0])]
    assert len(known) >= 8


def test_shortened_captions_say_nothing_new():
    made = {shortened(CAPTION, Random(seed)) for seed in range(200)}
    assert len(made) > 50
    assert "a room with a floor lamp with a pink shade and a red sofa, blue walls" in made
    said = set(CAPTION.replace(",", "").split(" "))
    for text in made:
        assert text.startswith("a room with ")
        assert set(text.replace(",", "").split(" ")) <= said


@pytest.mark.parametrize("caption", ["an empty part of a room, blue walls", "an empty part of a room"])
def test_shortened_captions_of_nothing(caption: str):
    assert {shortened(caption, Random(seed)) for seed in range(20)} <= {"a room", "a room, blue walls"}


def test_later_words_change_nothing_before_them():
    torch.manual_seed(0)
    text = TextEncoder(9, **config.TEXT)
    rows = torch.randint(9, (2, LENGTH))
    other = rows.clone()
    other[:, 40:] = 3
    with torch.no_grad():
        assert torch.allclose(text(rows)[:, :40], text(other)[:, :40], atol=1e-5)


@pytest.mark.host
def test_the_host_computes_the_same(comfy):
    """The host's CLIP, built as the demo model is, with the trained layers and a last one of zeros."""
    import comfy.sd
    import comfy.supported_models
    import host_modules

    tokens = host_modules.HostModules().tokens
    captions = [CAPTION, "a castle beside the sea", "", "red sofa " * 40]
    words = Words(tokens(CAPTION))
    torch.manual_seed(0)
    text = TextEncoder(len(words), **config.TEXT)
    with torch.no_grad():
        for parameter in text.parameters():  # as they are shipped, in fp16
            parameter.copy_((parameter + 0.2 * torch.randn_like(parameter)).half())

    width = config.TEXT["width"]
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": config.TEXT["heads"]}
    options = {
        "clip_h_model_config": {**sizes, "num_hidden_layers": config.TEXT["layers"] + 1},
        "initial_device": torch.device("cpu"),
    }
    clip = comfy.sd.CLIP(comfy.supported_models.SD20({}).clip_target(), model_options=options)
    weights = {key: torch.zeros_like(value) for key, value in clip.cond_stage_model.state_dict().items()}
    for key, value in text.state_dict().items():
        if key == "embeddings.token_embedding.weight":
            table = value[UNKNOWN].expand(49408, -1).clone()
            table[words.tokens] = value[1:]
            value = table
        key = f"clip_h.transformer.text_model.{key}"
        assert key in weights
        weights[key] = value
    clip.load_sd(weights, full_model=True)

    for caption in captions:
        with torch.no_grad():
            ours = text(torch.tensor([words.rows(tokens(caption))]))
        theirs = clip.encode_from_tokens(clip.tokenize(caption))[:, :LENGTH]
        assert (ours - theirs).abs().max() < 1e-4
