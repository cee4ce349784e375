"""What lies below the nodes knows none of them: it says facts, which nodes/remedies.py makes sentences of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import ROOT


def parsed(path: Path) -> Iterator[ast.AST]:
    """All parts of a file."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def display_names() -> set[str]:
    """What the nodes are called on the canvas."""
    calls = [part for path in (ROOT / "nodes").glob("*.py") for part in parsed(path) if isinstance(part, ast.Call)]
    schemas = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "schema"]
    return {key.value.value for call in schemas for key in call.keywords if key.arg == "display_name"}


def test_every_node_is_known():
    assert len(display_names()) >= 17


@pytest.mark.parametrize("folder", ["geometry", "caa", "scenes"])
def test_no_text_names_a_node(folder):
    names, found = display_names(), []
    for path in sorted((ROOT / folder).rglob("*.py")):
        texts = [part for part in parsed(path) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        found += [f"{path.name}:{text.lineno} {name}" for text in texts for name in names if name in text.value]
    assert found == []
