"""Who may import whom: no import runs up, packages form no circle, and the pack loads without optional libraries."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
from in_process import ROOT

# A package may import itself and these. docs/architecture.md shows the same as a figure.
BELOW = {
    "geometry": set(),
    "caa": {"geometry"},
    "scenes": {"geometry"},
    "training": {"caa", "geometry", "scenes"},
    "host": {"caa", "geometry", "training"},
    "nodes": {"host", "caa", "geometry", "training"},
}
KNOWS_THE_HOST = {"host", "nodes"}
HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "execution", "folder_paths", "latent_preview", "nodes", "server"}
FOLDERS_OF_GEOMETRY = {"panorama", "sequence", "figures"}  # which build on what stands in geometry/ itself
# Libraries that may be missing or take long to load, and what needs them at once: others import that only in functions.
OPTIONAL = {"cv2", "kornia", "numba", "triton"}
IMPORTED_AS = {"PIL": "pillow"}
NEED_THEM = (
    "caa/attention/triton_gradients",
    "caa/attention/triton_kernels",
    "caa/attention/triton_passes",
    "scenes/compiled",
)


@dataclass(frozen=True)
class Import:
    """One import in a file of the pack.

    target: a path below the root for the pack's own modules ('geometry/cameras'), else a module's name ('torch').
    own: whether it is the pack's own. at_once: whether it happens when the file is imported.
    """

    file: str
    line: int
    target: str
    own: bool
    at_once: bool

    @property
    def package(self) -> str:
        return self.target.split("/" if self.own else ".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def imports_of(file: str, source: str) -> Iterator[Import]:
    """All imports in a file's source; those for type checkers alone are none."""
    folder = PurePosixPath(file).parent.parts

    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(file, node.lineno, name.name, False, at_once)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(file, node.lineno, node.module, False, at_once)
        elif isinstance(node, ast.ImportFrom):
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            module = "/".join(part for part in base if part)
            # `from .attention import fast` names a module where there is one, else something in the package.
            named = [path for name in node.names if is_module(path := f"{module}/{name.name}".lstrip("/"))]
            for target in named if len(named) == len(node.names) else [module, *named]:
                yield Import(file, node.lineno, target, True, at_once)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            within = at_once and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, within)

    return walk(ast.parse(source), True)


def is_module(path: str) -> bool:
    return (ROOT / f"{path}.py").is_file() or (ROOT / path / "__init__.py").is_file()


def all_imports() -> list[Import]:
    files = [path for package in BELOW for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 50
    return [one for path in files for one in imports_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))]


IMPORTS = all_imports()


def test_no_import_runs_up():
    allowed = {package: {package, *below} for package, below in BELOW.items()}
    wrong = [str(one) for one in IMPORTS if one.own and one.package not in allowed[one.file.split("/")[0]]]
    assert wrong == []


def test_the_packages_form_no_circle():
    """The table above is the rule, so the rule itself must be one of layers."""
    left = dict(BELOW)
    while left:
        lowest = [package for package, below in left.items() if not below & left.keys()]
        assert lowest, f"a circle among {sorted(left)}"
        for package in lowest:
            del left[package]


def test_no_files_form_a_circle():
    """Such files can only be imported in a certain order, which nobody knows."""
    below: dict[str, set[str]] = {}
    for one in IMPORTS:
        if one.own and one.at_once:
            below.setdefault(module_of(one.file), set()).add(one.target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(below.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(below):
        visit(module, ())


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__")


def test_what_attention_consumes_knows_no_panorama_sequence_or_figure():
    folders = {f"geometry/{folder}" for folder in FOLDERS_OF_GEOMETRY}
    roots = [one for one in IMPORTS if one.own and PurePosixPath(one.file).parent.name == "geometry"]
    wrong = [str(one) for one in roots if "/".join(one.target.split("/")[:2]) in folders]
    assert roots
    assert wrong == []


def test_only_host_and_nodes_know_comfyui():
    wrong = [
        str(one)
        for one in IMPORTS
        if not one.own and one.package in HOST_MODULES and one.file.split("/")[0] not in KNOWS_THE_HOST
    ]
    assert wrong == []


def test_optional_libraries_are_imported_only_where_they_are_used():
    needed = [one for one in IMPORTS if one.target.startswith(NEED_THEM) or (not one.own and one.package in OPTIONAL)]
    assert needed
    assert [str(one) for one in needed if one.at_once and not one.file.startswith(NEED_THEM)] == []


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower() for line in requirements}


@pytest.fixture
def required() -> set[str]:
    """What is installed with the pack; two files say so, in the same words."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert sorted(lines) == sorted(project["dependencies"])
    return names_of(lines)


def test_what_is_required_is_imported_and_the_other_way_round(required):
    foreign = [one for one in IMPORTS if not one.own and one.package not in {*sys.stdlib_module_names, *HOST_MODULES}]
    name = {one.package: IMPORTED_AS.get(one.package, one.package) for one in foreign}
    at_once = {name[one.package] for one in foreign if one.at_once and not one.file.startswith(NEED_THEM)}
    assert required - set(name.values()) == set()
    assert at_once - required == {"torch"}  # which ComfyUI brings, for the machine that it runs on


def test_no_opencv_is_required(required):
    """Any of its four distributions replaces files of the others: another pack's functions are gone afterwards."""
    assert [name for name in required if name.startswith("opencv")] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", [("torch.nn", False, True)]),
        ("from comfy import ops", [("comfy", False, True)]),
        ("from ..geometry.cameras import Cameras", [("geometry/cameras", True, True)]),
        (
            "from .attention import fast, plain",
            [("caa/attention/fast", True, True), ("caa/attention/plain", True, True)],
        ),
        ("from .attention.tables import Tables", [("caa/attention/tables", True, True)]),
        ("from ..nodes import NOBODY", [("nodes", True, True)]),
        ("def f():\n    import cv2", [("cv2", False, False)]),
        ("class A:\n    import cv2", [("cv2", False, True)]),
        ("if TYPE_CHECKING:\n    from ..nodes import cameras", []),
    ],
)
def test_imports_are_found(source, expected):
    found = [(one.target, one.own, one.at_once) for one in imports_of("caa/blocks.py", source)]
    assert found == expected
