"""What lies below the nodes knows none of them: it says facts, which nodes/remedies.py makes sentences of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import ROOT

from mvdiffusion_pack.geometry.input_error import counted, there_are


def parsed(path: Path) -> Iterator[ast.AST]:
    """All parts of a file."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def display_names() -> set[str]:
    """What the nodes are called on the canvas: as given to `schema`, or under a name of the file's."""
    names = set()
    for path in (ROOT / "nodes").glob("*.py"):
        parts = list(parsed(path))
        texts = {
            target.id: part.value.value
            for part in parts
            if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant)
            for target in part.targets
            if isinstance(target, ast.Name)
        }
        calls = [part for part in parts if isinstance(part, ast.Call) and ast.unparse(part.func) == "schema"]
        titles = [key.value for call in calls for key in call.keywords if key.arg == "display_name"]
        names |= {title.value if isinstance(title, ast.Constant) else texts[title.id] for title in titles}
    return names


def test_the_nodes_are_found():
    assert {"Panorama Cameras", "Stitch Equirect", "Load MVDiffusion"} < display_names()


@pytest.mark.parametrize("folder", ["geometry", "caa", "scenes"])
def test_no_text_names_a_node(folder):
    names, found = display_names(), []
    for path in sorted((ROOT / folder).rglob("*.py")):
        texts = [part for part in parsed(path) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        found += [f"{path.name}:{text.lineno} {name}" for text in texts for name in names if name in text.value]
    assert found == []


def test_nothing_that_training_says_names_a_node():
    """Its docstrings may, since they say what a thing is for; its words are read beside the script's options, too."""
    names, found = display_names(), []
    for path in sorted((ROOT / "training").rglob("*.py")):
        parts = list(parsed(path))
        docs = {id(part.value) for part in parts if isinstance(part, ast.Expr)}
        texts = [part for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        said = [text for text in texts if id(text) not in docs]
        found += [f"{path.name}:{text.lineno} {name}" for text in said for name in names if name in text.value]
    assert found == []


def test_one_of_a_thing_is_no_plural():
    assert [counted(number, "view") for number in (0, 1, 2)] == ["0 views", "1 view", "2 views"]
    assert [there_are(number, "view") for number in (1, 2)] == ["there is 1 view", "there are 2 views"]
