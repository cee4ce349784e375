"""The help pages say what the nodes have, and quote what the pack says."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from in_process import ROOT

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture(scope="module")
def schemas(comfy) -> dict:
    """The schemas of the pack's nodes by node id."""
    from mvdiffusion_pack.nodes import MVDiffusionExtension

    schemas = [node.GET_SCHEMA() for node in asyncio.run(MVDiffusionExtension().get_node_list())]
    return {schema.node_id: schema for schema in schemas}


def section(page: Path, title: str) -> str:
    """The text under a heading of the second level, empty where there is none."""
    parts = re.split(r"^## (.*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(title, "")


def explained(page: Path, title: str) -> list[str]:
    """What the items of a section are about: - `name`: advice."""
    return re.findall(r"^- `(\w+)`: ", section(page, title), flags=re.MULTILINE)


@pytest.mark.host
@by_page
def test_heading_is_the_display_name(page: Path, schemas: dict):
    assert page.read_text(encoding="utf-8").splitlines()[0] == f"# {schemas[page.stem].display_name}"


@pytest.mark.host
@by_page
def test_every_input_is_explained_in_order(page: Path, schemas: dict):
    assert explained(page, "Inputs") == [part.id for part in schemas[page.stem].inputs]


@pytest.mark.host
@by_page
def test_every_output_is_explained_in_order(page: Path, schemas: dict):
    assert explained(page, "Outputs") == [part.display_name for part in schemas[page.stem].outputs]


def text_of(node: ast.AST) -> str:
    """The text of a string in source code, with `...` for the values in it; empty for everything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "..." for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Every text in the source of the pack."""
    files = [file for folder in ("nodes", "host", "caa", "geometry") for file in (ROOT / folder).rglob("*.py")]
    return [text_of(node) for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]


@by_page
def test_quoted_errors_are_what_the_pack_says(page: Path, messages: list[str]):
    quotes = re.findall(r"^- \*(.+?)\*", section(page, "If it does not work"), flags=re.MULTILINE)
    assert quotes
    unknown = [quote for quote in quotes if not any(quote in message for message in messages)]
    assert unknown == []


@pytest.mark.host
def test_readme_and_docs_name_every_node(schemas: dict):
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert [schema.display_name for schema in schemas.values() if schema.display_name not in text] == []
