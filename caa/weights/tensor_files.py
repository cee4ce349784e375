"""Tensors by name from safetensors and torch files. Nothing that a file contains is ever executed.

torch's own loader either refuses the authors' Lightning dumps (weights_only) or runs whatever their pickles say. Here
a pickle can name no class and no function: it yields records of where each tensor lies, and only the tensors asked for
are then mapped into memory.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ...geometry.input_error import InputError

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_shapes(path: str | Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes by key, and the metadata (safetensors only, else empty). Reads the file's index, no tensor.

    Of a Lightning dump only `state_dict` counts. Raises InputError if the file cannot be read.
    """
    if _is_safetensors(path):
        with _open_safetensors(path) as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}, file.metadata() or {}
    records, _ = _read_index(path)
    return {key: record.size for key, record in records.items()}, {}


def read_tensors(path: str | Path, prefixes: Iterable[str]) -> dict[str, torch.Tensor]:
    """The tensors whose keys begin with one of `prefixes`, memory-mapped: pages are read when they are first used.

    Errors as in `read_shapes`.
    """
    prefixes = tuple(prefixes)
    if _is_safetensors(path):
        with _open_safetensors(path) as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}
    records, offsets = _read_index(path)
    wanted = {key: record for key, record in records.items() if key.startswith(prefixes)}
    size = Path(path).stat().st_size
    mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).untyped_storage()
    tensors = {}
    for key, record in wanted.items():
        try:
            tensors[key] = _tensor(mapped, record, offsets[record.storage.key])
        except (KeyError, RuntimeError, OverflowError) as error:
            raise InputError(f"{path} is damaged or cut short (it has no data for {key})", "get_again") from error
    return tensors


def _is_safetensors(path: str | Path) -> bool:
    """True: safetensors, False: torch's; by content, since names lie. InputError: neither, and what it is instead."""
    with open(path, "rb") as file:
        head = file.read(512)
    # Safetensors first: the length that it begins with may look like the start of a pickle. A header has up to 100 MB.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return True
    if head.startswith((b"PK", b"\x80")):
        return False
    if not head:
        looks = "is empty (0 bytes): the download failed"
    elif head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the file that it stands for", "git_lfs_pull")
    elif head.lstrip()[:1] == b"<":
        looks = "is a web page, not weights: the download failed"
    elif b"\0" not in head:
        looks = "is a text file, not weights: the download failed"
    else:
        looks = "is neither a safetensors nor a torch file"
    raise InputError(f"{path} {looks}", "replace_file")


def _open_safetensors(path: str | Path):
    try:
        return safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise InputError(f"{path} is a safetensors file that is damaged or cut short ({error})", "get_again") from error


@dataclass(frozen=True)
class _Storage:
    """A run of `count` numbers in the file, known by its key in the pickle."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class _Record:
    """A tensor as the pickle describes it: a strided view into a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Placeholder:
    """Stands for every class and function that a pickle names: takes what the pickle does to it, and does nothing."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __call__(self, *args, **kwargs) -> _Placeholder:
        return self

    def __setstate__(self, state) -> None:
        pass

    def __setitem__(self, key, value) -> None:
        pass

    def append(self, value) -> None:
        pass

    extend = add = append


class _Call:
    """A function that nothing can be attached to."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __call__(self, *args):
        return self._function(*args)


class _Unpickler(pickle.Unpickler):
    """Reads a pickle of torch's into records; what it names beyond tensors becomes placeholders.

    What `find_class` gives out is all that a pickle can call. The tensor functions are wrapped in `_Call`, because a
    pickle can set attributes of classes, functions and methods, which would outlast the reading.
    """

    def __init__(self, file) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def load(self):
        copyreg.clear_extension_cache()  # what stands in it can be called without passing through `find_class`
        try:
            return super().load()
        finally:
            copyreg.clear_extension_cache()

    def find_class(self, module: str, name: str):
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): _Call(_record),
            ("torch._utils", "_rebuild_tensor_v2"): _Call(_record),
            ("torch._utils", "_rebuild_parameter"): _Call(_first),
            ("torch._utils", "_rebuild_parameter_with_state"): _Call(_first),
            # Nested classes are written as getattr(Outer, "Inner") and then instantiated, which demands a class.
            ("builtins", "getattr"): _Call(_placeholder_class),
            ("__builtin__", "getattr"): _Call(_placeholder_class),  # what protocol 2 calls it
        }
        return known.get((module, name), _Placeholder)

    def persistent_load(self, pid):
        tag, dtype, key, _, count = pid[:5]
        if tag != "storage" or not isinstance(dtype, torch.dtype):
            return _Placeholder()
        self.storages[key] = _Storage(str(key), dtype, int(count))
        return self.storages[key]


def _record(storage, offset, size, stride, *_):
    if not isinstance(storage, _Storage):
        return _Placeholder()
    return _Record(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _first(data, *_):
    return data


def _placeholder_class(*_):
    return _Placeholder


def _read_index(path: str | Path) -> tuple[dict[str, _Record], dict[str, int]]:
    """The records of a torch file's state_dict by key, and where in the file each storage begins."""
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            content, offsets = (_read_zip if zipped else _read_legacy)(file)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is a torch file that is damaged or cut short ({error})", "get_again") from error
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise InputError(f"{path} is not a torch file, or is damaged ({error!r})", "get_again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if isinstance(key, str) and isinstance(value, _Record)}, offsets


def _read_zip(file) -> tuple[object, dict[str, int]]:
    """A file of torch 1.6 and later: a zip archive of `<name>/data.pkl` and one uncompressed entry per storage."""
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not pickles:
            raise ValueError("a zip archive without data.pkl")
        content = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        folder = pickles[0].removesuffix("data.pkl") + "data/"
        entries = [info for info in archive.infolist() if info.filename.startswith(folder)]
    return content, {info.filename.removeprefix(folder): _data_offset(file, info) for info in entries}


def _data_offset(file, info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after its local header, whose name and extra field have their own lengths."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed")
    file.seek(info.header_offset + 26)
    name_and_extra = file.read(4)
    return info.header_offset + 30 + sum(int.from_bytes(name_and_extra[i : i + 2], "little") for i in (0, 2))


def _read_legacy(file) -> tuple[object, dict[str, int]]:
    """A file of torch before 1.6: five pickles (magic number, version, machine, content, order of storages), then data.

    Each storage is preceded by its number of elements in eight bytes.
    """
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError("a pickle, but not torch's")
    for _ in ("version", "machine"):
        _Unpickler(file).load()
    reader = _Unpickler(file)
    content = reader.load()
    order = _Unpickler(file).load()
    position, offsets = file.tell(), {}
    for key in order:
        storage = reader.storages[key]
        offsets[key] = position + 8
        position += 8 + storage.count * storage.dtype.itemsize
    return content, offsets


def _tensor(mapped: torch.UntypedStorage, record: _Record, begin: int) -> torch.Tensor:
    """The tensor of a record, as a view of the mapped file. Its storage is its own part only, not the whole file."""
    dtype = record.storage.dtype
    end = begin + record.storage.count * dtype.itemsize
    if not 0 <= begin <= end <= mapped.nbytes():
        raise KeyError(record.storage.key)
    storage = mapped[begin:end]
    if storage.data_ptr() % dtype.itemsize:  # legacy files do not align their storages
        storage = storage.clone()
    flat = torch.empty(0, dtype=dtype).set_(storage)
    return flat.as_strided(record.size, record.stride, record.offset)
