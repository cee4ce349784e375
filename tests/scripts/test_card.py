"""`python scripts/test.py --device cuda`, without a card."""

from __future__ import annotations

from pathlib import Path

import card
import pytest
import torch
from environment import ROOT, SetUpError


@pytest.mark.parametrize(
    ("cuda", "missing"),
    [("12.8", "finds neither a card nor a driver that fits"), (None, "is built without CUDA and ROCm")],
    ids=["no card", "torch for CPUs"],
)
def test_a_sentence_says_what_is_missing(monkeypatch, cuda, missing):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(SetUpError, match=missing):
        card.check_card()


def test_what_is_run_exists_and_is_asked_for_rightly():
    for _, (script, *args) in card.benchmarks():
        text = Path(script).read_text(encoding="utf-8")
        assert [flag for flag in args if flag.startswith("--") and f'"{flag}"' not in text] == []
    assert all((ROOT / path).exists() for path in card.TESTS)
    names = [name for name, _ in card.benchmarks()]
    assert names[2:6] == ["ring, fp16", "sphere, fp16", "depth, fp16", "windows, fp16"] and len(names) == 10
    assert set(card.PUBLISHED) < set(names)
