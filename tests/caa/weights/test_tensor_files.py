"""Torch and safetensors files: code in them never runs, broken ones are named, only what is asked for is mapped."""

from __future__ import annotations

import contextlib
import copy
import copyreg
import functools
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from published_files import write_published
from safetensors.torch import save_file

from mvdiffusion_pack.caa.weights import tensor_files
from mvdiffusion_pack.caa.weights.tensor_files import TensorFile
from mvdiffusion_pack.caa.weights.torch_dumps import Dump, _Placeholder, _Unpickler
from mvdiffusion_pack.geometry.input_error import InputError

WEIGHTS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.bias": torch.ones(3, dtype=torch.float16),
    "b.weight": torch.arange(12.0, dtype=torch.float64).reshape(3, 4).T,
    "b.steps": torch.tensor(7),
    "c.mask": torch.tensor([True, False, True]),
    "c.weight": torch.nn.Parameter(torch.ones(5, dtype=torch.bfloat16)),
    "d.nothing": torch.zeros(0, 3),
}
FORMATS = ["zip", "legacy", "torch", "safetensors"]


def write(path: Path, form: str) -> Path:
    if form == "safetensors":
        save_file({key: tensor.detach().contiguous() for key, tensor in WEIGHTS.items()}, path)
    elif form == "torch":
        torch.save({"state_dict": WEIGHTS, "epoch": 3}, path)
    else:
        write_published(path, WEIGHTS, legacy=form == "legacy")
    return path


def torch_zip(path: Path, content: bytes) -> Path:
    """A torch file around any pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_all_dtypes_and_strides_are_read(form, tmp_path):
    path = write(tmp_path / "weights.bin", form)
    tensors = TensorFile(path).tensors([""])
    assert tensors.keys() == WEIGHTS.keys()
    for key, tensor in WEIGHTS.items():
        assert tensors[key].dtype == tensor.dtype
        assert torch.equal(tensors[key], tensor)


@pytest.mark.parametrize("form", FORMATS)
def test_shapes_are_those_of_the_tensors(form, tmp_path):
    shapes = TensorFile(write(tmp_path / "weights.bin", form)).shapes
    assert shapes == {key: tuple(tensor.shape) for key, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(("form", "by_torch"), [("torch", True), ("zip", False), ("legacy", False)])
def test_torch_reads_what_it_does_not_refuse(form, by_torch, tmp_path, monkeypatch):
    """And the two readers agree."""
    path, dumps = write(tmp_path / "weights.ckpt", form), []
    monkeypatch.setattr(tensor_files, "Dump", lambda path: dumps.append(path) or Dump(path))
    file, dump = TensorFile(path), Dump(path)
    assert (not dumps) == (by_torch and torch.__version__ >= tensor_files.SOUND)
    assert file.shapes == dump.shapes
    assert all(torch.equal(tensor, dump.tensor(key)) for key, tensor in file.tensors([""]).items())
    assert not any(tensor.requires_grad for tensor in file.tensors([""]).values())


def test_before_its_loader_was_sound_torch_is_not_asked(tmp_path, monkeypatch):
    path = write(tmp_path / "weights.ckpt", "torch")
    monkeypatch.setattr(tensor_files, "SOUND", (99,))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was asked"))
    assert TensorFile(path).tensors(["a.w"]).keys() == {"a.weight"}


@pytest.mark.parametrize("form", FORMATS)
def test_only_the_keys_asked_for_are_read(form, tmp_path):
    assert TensorFile(write(tmp_path / "weights.bin", form)).tensors(["a.", "b.s"]).keys() == {
        "a.weight",
        "a.bias",
        "b.steps",
    }


@pytest.mark.parametrize("form", FORMATS)
def test_names_are_not_trusted(form, tmp_path):
    wrong = "weights.ckpt" if form == "safetensors" else "weights.safetensors"
    assert TensorFile(write(tmp_path / wrong, form)).shapes.keys() == WEIGHTS.keys()


def test_metadata_of_safetensors(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"kind": "depth"})
    assert TensorFile(tmp_path / "a.safetensors").metadata == {"kind": "depth"}


def test_plain_state_dicts_need_no_wrapping(tmp_path):
    torch.save(OrderedDict(WEIGHTS), tmp_path / "plain.pt")
    assert TensorFile(tmp_path / "plain.pt").shapes.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_pickle_protocols(protocol, tmp_path):
    torch.save(WEIGHTS, tmp_path / "weights.pt", pickle_protocol=protocol)
    assert torch.equal(TensorFile(tmp_path / "weights.pt").tensors(["a.w"])["a.weight"], WEIGHTS["a.weight"])


def test_a_tensor_owns_its_part_of_the_file_only(tmp_path):
    """Else a deep copy of a module would copy the whole file for each of its parameters."""
    tensor = TensorFile(write(tmp_path / "weights.ckpt", "zip")).tensors(["a.weight"])["a.weight"]
    assert tensor.untyped_storage().nbytes() == 6 * 4
    assert torch.equal(copy.deepcopy(tensor), WEIGHTS["a.weight"])


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    path = write(tmp_path / "weights.ckpt", "zip")
    before = path.read_bytes()
    TensorFile(path).tensors(["a.weight"])["a.weight"].zero_()
    assert path.read_bytes() == before


# Code inside. Each of these makes a folder or a file when an ordinary unpickler meets it.


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


def torch_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


HOSTILE_OBJECTS = {
    "function": lambda marker: Call(os.mkdir, marker),
    "eval": lambda marker: Call(eval, f"__import__('os').mkdir({marker!r})"),
    "exec": lambda marker: Call(exec, f"__import__('os').mkdir({marker!r})"),
    "method by getattr or dotted name": lambda marker: Call(Path.mkdir, Path(marker)),
    "partial": lambda marker: Call(functools.partial(os.mkdir, marker)),
    "constructor": lambda marker: Call(io.FileIO, marker, "w"),
    "pickle in a pickle": lambda marker: Call(pickle.loads, pickle.dumps(Call(os.mkdir, marker))),
    "torch file in a pickle": lambda marker: Call(torch.storage._load_from_bytes, torch_bytes(Call(os.mkdir, marker))),
}
HOSTILE_OPCODES = {
    "GLOBAL REDUCE": b"c_io\nFileIO\n(S%r\nS'w'\ntR.",
    "INST": b"(S%r\nS'w'\ni_io\nFileIO\n.",
    "OBJ": b"(c_io\nFileIO\nS%r\nS'w'\no.",
    "EXT1": b"\x80\x02\x82\xf0(S%r\nS'w'\ntR.",
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("make", HOSTILE_OBJECTS.values(), ids=HOSTILE_OBJECTS.keys())
def test_calls_in_a_file_are_not_made(make, protocol, tmp_path):
    marker = tmp_path / "ran"
    torch.save({"state_dict": WEIGHTS, "extra": make(str(marker))}, tmp_path / "evil.ckpt", pickle_protocol=protocol)
    assert TensorFile(tmp_path / "evil.ckpt").tensors([""]).keys() == WEIGHTS.keys()
    assert not marker.exists()


@pytest.mark.parametrize("make", HOSTILE_OBJECTS.values(), ids=HOSTILE_OBJECTS.keys())
def test_those_calls_would_be_made_by_torch(make, tmp_path):
    marker = tmp_path / "ran"
    torch.save({"extra": make(str(marker))}, tmp_path / "evil.ckpt")
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert marker.exists()


@pytest.fixture
def _extension():
    copyreg.add_extension("_io", "FileIO", 0xF0)
    yield
    copyreg.remove_extension("_io", "FileIO", 0xF0)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("_extension")
@pytest.mark.parametrize("opcodes", HOSTILE_OPCODES.values(), ids=HOSTILE_OPCODES.keys())
def test_opcodes_that_call_do_not(opcodes, tmp_path):
    marker = tmp_path / "ran"
    content = opcodes % (str(marker).encode(),)
    content = content.replace(b"Sb'", b"S'")
    pickle.loads(content).close()  # it works, and leaves the extension in pickle's cache
    marker.unlink()
    TensorFile(torch_zip(tmp_path / "evil.ckpt", content))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "__builtins__"),
        ("torch._utils._rebuild_tensor_v2", "__call__"),
        ("torch", "load"),
        ("torch", "FloatStorage.from_file"),
        ("torch", "UntypedStorage"),
        ("torch.storage", "FloatStorage"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.hub", "load"),
        ("collections", "OrderedDict.update"),
        ("collections", "namedtuple"),
        ("operator", "attrgetter"),
        ("builtins", "type"),
        ("builtins", "getattr.__self__"),
        ("copyreg", "_reconstructor"),
    ],
)
def test_names_must_match_exactly(module, name):
    assert _Unpickler(io.BytesIO()).find_class(module, name) is _Placeholder


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "FloatStorage"),
        ("collections", "OrderedDict"),
        ("builtins", "getattr"),
        ("os", "mkdir"),
    ],
)
@pytest.mark.parametrize("state", [b"N}X\x04\x00\x00\x00evilK\x01s\x86", b"}X\x04\x00\x00\x00evilK\x01s"])
def test_a_pickle_cannot_change_what_it_is_given(module, name, state, tmp_path):
    """BUILD with a slot state or a dict sets attributes, on functions, methods and classes too."""
    content = b"\x80\x02c" + f"{module}\n{name}\n".encode() + state + b"b."
    with contextlib.suppress(ValueError):
        TensorFile(torch_zip(tmp_path / "evil.ckpt", content))
    found = _Unpickler(io.BytesIO()).find_class(module, name)
    assert not hasattr(found, "evil") and not hasattr(getattr(found, "_function", None), "evil")


@pytest.mark.parametrize("padding", range(0, 256, 8))
def test_safetensors_of_any_header_length_are_known(padding, tmp_path):
    """The length stands first in the file, and 1 in 32 looks like the start of a pickle."""
    save_file({"a": torch.ones(2)}, tmp_path / "any.safetensors", {"note": "x" * padding})
    assert TensorFile(tmp_path / "any.safetensors").shapes == {"a": (2,)}


def test_tensors_cannot_reach_outside_their_storage(tmp_path):
    class Outside(torch.Tensor):
        def __reduce_ex__(self, protocol):
            function, args = torch.zeros(3).__reduce_ex__(protocol)
            return function, (*args[:2], (1000,), *args[3:])

    torch.save({"a": Outside()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt is damaged.*no data for a"):
        TensorFile(tmp_path / "evil.ckpt").tensors(["a"])


# Broken files.

HTML = b"\n<!DOCTYPE html><html><body>Not found</body></html>" * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5600000000\n"
BROKEN = {
    "empty": (b"", r"is empty \(0 bytes\)", "replace_file"),
    "web page": (HTML, "is a web page", "replace_file"),
    "Git LFS pointer": (POINTER, "is a Git LFS pointer", "git_lfs_pull"),
    "text": (b"Access denied: sign in first.\n" * 5, "is a text file", "replace_file"),
    "random": (bytes(range(200)), "is neither a safetensors nor a torch file", "replace_file"),
    "cut safetensors header": (b"\xff\x10\0\0\0\0\0\0" + b'{"a": {"dtype"', "damaged or cut short", "get_again"),
    "another pickle": (pickle.dumps({"a": 1}), "not a torch file", "get_again"),
    "half a pickle": (pickle.dumps({"a": list(range(999))}, 2)[:100], "not a torch file", "get_again"),
}


@pytest.mark.parametrize("name", ["weights.ckpt", "weights.safetensors"])
@pytest.mark.parametrize(("content", "fact", "remedy"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_named_with_what_to_do(content, fact, remedy, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^[^\n]*{name} [^\n]*{fact}[^\n]*$") as raised:
        TensorFile(tmp_path / name)
    assert raised.value.remedy == remedy


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_cut_files_are_named(form, share, tmp_path):
    path = write(tmp_path / "weights.ckpt", form)
    content = path.read_bytes()
    path.write_bytes(content[: max(20, int(share * len(content)))])
    with pytest.raises(InputError, match=r"^[^\n]*weights\.ckpt [^\n]*damaged[^\n]*$"):
        TensorFile(path).tensors([""])


def test_archives_of_something_else_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.ckpt", "w") as archive:
        archive.writestr("weights.safetensors", b"")
    with pytest.raises(InputError, match=r"weights\.ckpt is not a torch file.*without data\.pkl"):
        TensorFile(tmp_path / "weights.ckpt")


def test_archives_without_a_storage_are_named(tmp_path):
    torch.save(WEIGHTS, tmp_path / "whole.ckpt")
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, zipfile.ZipFile(tmp_path / "part.ckpt", "w") as part:
        for entry in whole.infolist():
            if not entry.filename.endswith("/data/0"):
                part.writestr(entry.filename, whole.read(entry))
    with pytest.raises(InputError, match=r"part\.ckpt is damaged.*no data for a\.weight"):
        TensorFile(tmp_path / "part.ckpt").tensors([""])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        TensorFile(tmp_path / "none.ckpt")
