"""Torch files that torch's own loader refuses. Nothing that a file contains is ever executed.

The authors' Lightning dumps hold objects of their trainer: torch either refuses them (weights_only) or runs whatever
their pickles say. Here a pickle can name no class and no function: it yields records of where each tensor lies, and
only the tensors asked for are then mapped into memory.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

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
T = TypeVar("T")


class Dump:
    """The tensors of a torch file. path: where it is. shapes: by key.

    Raises InputError if the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._records, self._offsets = _read_index(path)
        self.shapes = {key: record.size for key, record in self._records.items()}
        self._mapped: torch.UntypedStorage | None = None

    def tensor(self, key: str) -> torch.Tensor:
        """A view of the mapped file. Raises InputError where it ends too early."""
        if self._mapped is None:
            size = Path(self.path).stat().st_size
            mapped = torch.from_file(str(self.path), shared=False, size=size, dtype=torch.uint8)
            self._mapped = mapped.untyped_storage()
        record = self._records[key]
        try:
            return _tensor(self._mapped, record, self._offsets[record.storage.key])
        except (KeyError, RuntimeError, OverflowError) as error:
            raise InputError(f"{self.path} is damaged or cut short (it has no data for {key})", "get_again") from error


def state_dict_of(content: object, kind: type[T]) -> dict[str, T]:
    """The values of that type by name, in what a torch file holds: in its `state_dict`, where it has one."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if isinstance(key, str) and isinstance(value, kind)}


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
    return state_dict_of(content, _Record), offsets


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
