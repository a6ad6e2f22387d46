"""Read files of ``torch.save`` without running anything that they name.

A pickle is a program. Here it can only build plain containers, numbers, text, records
of names it does not get to import (:class:`Record`) and descriptions of tensors
(:class:`StoredTensor`), whose numbers stay in the file until they are asked for.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from jmp_calc.errors import CheckpointError
from jmp_calc.models.pickle_limits import BUILTINS, check_instructions, refuse_code
from jmp_calc.models.torch_archive import TorchArchive

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


class _Sealed:
    """An object that a pickle can hold but not change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise CheckpointError(f"the file tries to alter a {type(self).__name__}")


class Record:
    """What the file says about an object of a class that is not imported."""

    origin = ""
    """Dotted name of the class or function, as the file gives it."""
    args: tuple[Any, ...]
    """Positional arguments it was to be called with."""
    state: Any
    """State it was to be given, or None."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        """Keep the arguments; nothing is called."""
        self = object.__new__(cls)
        self.args, self.state, self.contents = (*args, *kwargs.items()), None, []
        return self

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    contents: list[Any]
    """Items it was to be filled with, if it is some kind of container."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.contents.append((key, value))

    def append(self, value: Any) -> None:
        """Note an item."""
        self.contents.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        """Note items."""
        self.contents.extend(values)

    def add(self, value: Any) -> None:
        """Note an item."""
        self.contents.append(value)

    def __repr__(self) -> str:
        return f"<inert {self.origin}>"


class _PlainDict(dict[Any, Any]):
    """An ``OrderedDict``; attributes that the file wants to set are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _SetMaker(_Sealed):
    __slots__ = ()

    def __call__(self, values: Iterable[Any] = ()) -> set[Any]:
        return set(values)


class _StorageKind(_Sealed):
    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Storage(_Sealed):
    """Numbers of one or more tensors, in the file."""

    __slots__ = ("archive", "dtype", "key", "n")

    def __init__(
        self, archive: TorchArchive, key: str, dtype: torch.dtype, *, n: int
    ) -> None:
        self.archive, self.key, self.dtype, self.n = archive, key, dtype, n


class StoredTensor(_Sealed):
    """A tensor in the file: shape and place, but no numbers yet."""

    __slots__ = ("_offset", "_storage", "_stride", "shape")

    def __init__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        *,
        stride: tuple[int, ...],
    ) -> None:
        self._storage, self._offset = storage, offset
        self.shape, self._stride = shape, stride

    @property
    def dtype(self) -> torch.dtype:
        """Precision as stored."""
        return self._storage.dtype

    def load(self) -> Tensor:
        """Return the tensor; it views the memory-mapped file, privately."""
        flat = self._storage.archive.numbers(
            self._storage.key, self._storage.dtype, self._storage.n
        )
        return flat.as_strided(self.shape, self._stride, self._offset)


class _TensorMaker(_Sealed):
    """Stands for ``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any
    ) -> StoredTensor:
        if not (
            isinstance(storage, _Storage)
            and _is_size(offset)
            and _is_shape(shape)
            and _is_shape(stride)
            and len(shape) == len(stride) <= 64
        ):
            raise CheckpointError("a tensor in the file is described wrongly")
        if math.prod(shape) > storage.n:
            raise CheckpointError(
                f"a tensor of shape {shape} repeats the {storage.n} numbers that are "
                "stored for it, which no weights do"
            )
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if math.prod(shape) > 0 and last >= storage.n:
            raise CheckpointError(
                f"a tensor of shape {shape} reaches beyond the {storage.n} numbers "
                "that are stored for it"
            )
        return StoredTensor(storage, offset, shape, stride=stride)


class _ParameterMaker(_Sealed):
    """Stands for ``torch._utils._rebuild_parameter``."""

    __slots__ = ()

    def __call__(self, data: Any, *_rest: Any) -> StoredTensor:
        if not isinstance(data, StoredTensor):
            raise CheckpointError("a parameter in the file holds no tensor")
        return data


class _Unpickler(pickle.Unpickler):
    """Resolves names to the few objects above and to inert records."""

    def __init__(self, data: bytes, archive: TorchArchive) -> None:
        super().__init__(io.BytesIO(data))
        self._archive = archive
        self._records: dict[str, type[Record]] = {}
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): type("_PlainDict", (_PlainDict,), {}),
            ("torch._utils", "_rebuild_tensor"): _TensorMaker(),
            ("torch._utils", "_rebuild_tensor_v2"): _TensorMaker(),
            ("torch._utils", "_rebuild_parameter"): _ParameterMaker(),
        }
        for module in BUILTINS:
            self._known[module, "set"] = _SetMaker()
        for name, dtype in _STORAGE_DTYPES.items():
            self._known["torch", name] = _StorageKind(dtype)

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a name; nothing is imported or looked up."""
        if (module, name) in self._known:
            return self._known[module, name]
        refuse_code(module, name)
        origin = f"{module}.{name}"
        if origin not in self._records:
            self._records[origin] = type("Record", (Record,), {"origin": origin})
        return self._records[origin]

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that the file refers to."""
        if not (
            isinstance(pid, tuple)
            and len(pid) == 5
            and pid[0] == "storage"
            and isinstance(pid[1], _StorageKind)
            and isinstance(pid[2], str)
            and _is_size(pid[4])
        ):
            raise CheckpointError("the file refers to something that is not a tensor")
        return _Storage(self._archive, pid[2], pid[1].dtype, n=pid[4])


def read_torch_file(path: Path) -> Any:
    """Return the content of a ``torch.save`` file as inert data.

    Args:
        path: The file.

    Returns:
        Containers, numbers and text; tensors as :class:`StoredTensor`, everything else
        as :class:`Record`.

    Raises:
        CheckpointError: If the file is damaged, of another kind, or names code.
        FileNotFoundError: If there is no such file.
    """
    try:
        archive = TorchArchive(path)
        check_instructions(archive.pickle)
        return _Unpickler(archive.pickle, archive).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        struct.error,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}: {error}); "
            "nothing in it was run"
        ) from error


def fields_of(value: Any) -> Mapping[str, Any]:
    """Return the fields of a mapping or of a recorded object; empty if it has none.

    Args:
        value: Something that :func:`read_torch_file` returned.
    """
    if not isinstance(value, Record):
        return value if isinstance(value, Mapping) else {}
    items = [
        c
        for c in value.contents
        if isinstance(c, tuple) and len(c) == 2 and isinstance(c[0], str)
    ]
    state = value.state
    if isinstance(state, tuple) and state:
        state = state[0]
    if not isinstance(state, Mapping):
        return dict(items)
    inner = state.get("__dict__", state)
    return {**(inner if isinstance(inner, Mapping) else {}), **dict(items)}


def items_of(value: Any) -> list[Any]:
    """Return the items of a list or of a recorded kind of list; empty if it has none.

    Args:
        value: Something that :func:`read_torch_file` returned.
    """
    if isinstance(value, Record):
        return list(value.contents)
    return list(value) if isinstance(value, list | tuple) else []


def _is_size(value: Any) -> bool:
    # bool is an int to Python, but not to torch
    return type(value) is int and 0 <= value < 2**62


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(_is_size(n) for n in value)
