"""Pickled torch-geometric objects -> plain arrays, without running what they name.

A pickle is a program. Here it can build containers, numbers, text and arrays, and the
fields of the few torch-geometric classes listed below; any other name is refused. Both
layouts are read: the present one, which keeps its fields in a store within the object,
and the one before torch-geometric 2.0, which keeps them in the object itself.

Source:
    Layout of pickled tensors: legacy format of ``torch.save``, as PyTorch (BSD-3) and
    torch-geometric (MIT) write it; training specification, 5.1.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from jmp_calc.errors import CheckpointError, DataError
from jmp_calc.models.pickle_limits import BUILTINS, check_instructions

PYG_TYPES = frozenset(
    (module, name)
    for modules, names in (
        (("torch_geometric.data.data", "torch_geometric.data"), ("Data",)),
        (("torch_geometric.data.data",), ("DataEdgeAttr", "DataTensorAttr")),
        (("torch_geometric.data.storage",), ("GlobalStorage", "BaseStorage")),
    )
    for module in modules
    for name in names
)
"""Classes whose fields are read; nothing of torch-geometric is imported."""

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_NUMPY_KINDS = "biuf"
_ENTRIES_PER_BYTE = 10

Fields = Mapping[str, Any]
"""Fields of a record: arrays, numbers, text, None or containers of them."""


class _Fields:
    """Stands for an object of a listed class; holds its fields."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Kind:
    """Stands for a type of numbers; it can be held but not called or changed."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __setstate__(self, _state: object) -> None:
        raise pickle.UnpicklingError("it tries to alter a type of numbers")


class _Metadata(dict[Any, Any]):
    """An ``OrderedDict``; attributes that the file wants to set are dropped."""

    def __setstate__(self, _state: object) -> None:
        pass


class _ArrayShell:
    """What ``numpy`` makes first and fills afterwards."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, is_fortran, data = state
        flat = _numbers(data, dtype)
        sizes = tuple(int(n) for n in shape)
        if is_fortran:
            self.array = flat.reshape(sizes[::-1]).T
        else:
            self.array = flat.reshape(sizes)


class _DtypeShell:
    """A ``numpy`` type of numbers."""

    def __init__(self, text: str) -> None:
        self.dtype = np.dtype(text)
        if self.dtype.kind not in _NUMPY_KINDS:
            raise pickle.UnpicklingError(f"it holds a numpy array of type {text!r}")

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _numbers(data: Any, dtype: Any) -> np.ndarray:
    if not isinstance(dtype, _DtypeShell) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("it describes a numpy array wrongly")
    return np.frombuffer(data, dtype=dtype.dtype)


def _new_array(*_rest: Any) -> _ArrayShell:
    return _ArrayShell()


def _new_dtype(text: Any, *_rest: Any) -> _DtypeShell:
    return _DtypeShell(str(text))


def _scalar(dtype: Any, data: Any) -> Any:
    return _numbers(data, dtype)[0].item()


def _encode(text: str, _encoding: str = "latin1") -> bytes:
    # How pickles of protocol 2 hold the bytes of an array.
    return text.encode("latin1")


def _new_set(values: Any = ()) -> set[Any]:
    return set(values)


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any
) -> np.ndarray:
    """Stands for ``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``."""
    sizes = [offset, *shape, *stride]
    if not (
        isinstance(storage, np.ndarray)
        and len(shape) == len(stride)
        and all(type(n) is int and n >= 0 for n in sizes)
    ):
        raise pickle.UnpicklingError("it describes a tensor wrongly")
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    n_items = math.prod(shape)
    if n_items > len(storage) or (n_items and last >= len(storage)):
        raise pickle.UnpicklingError(
            f"a tensor of shape {tuple(shape)} reaches beyond the {len(storage)} "
            "numbers that are stored for it"
        )
    width = storage.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[offset:] if n_items else storage[:0],
        shape=tuple(shape),
        strides=tuple(width * s for s in stride),
    )
    return view.copy()


class _StorageUnpickler(pickle.Unpickler):
    """Reads the description of one block of numbers."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a type of numbers."""
        if module == "torch" and name in _DTYPES:
            return _Kind(_DTYPES[name])
        raise pickle.UnpicklingError(f"its numbers are of type {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, int]:
        """Return type and count of the numbers."""
        if not (
            isinstance(pid, tuple)
            and len(pid) >= 5
            and pid[0] == "storage"
            and isinstance(pid[1], _Kind)
            and type(pid[4]) is int
        ):
            raise pickle.UnpicklingError("it refers to something that is not a tensor")
        return pid[1].dtype, pid[4]


def _load_from_bytes(data: bytes) -> np.ndarray:
    """Stands for ``torch.storage._load_from_bytes``: one block in the legacy format."""
    stream = io.BytesIO(data)
    header = [_StorageUnpickler(stream).load() for _ in range(3)]
    if header[:2] != [_LEGACY_MAGIC, _LEGACY_VERSION]:
        raise pickle.UnpicklingError("a tensor is not in the legacy format of PyTorch")
    if not header[2].get("little_endian", True):
        raise pickle.UnpicklingError("it was written on a big-endian machine")
    dtype, n = _StorageUnpickler(stream).load()
    _StorageUnpickler(stream).load()
    stored = int.from_bytes(stream.read(8), "little")
    values = np.frombuffer(stream.read(), dtype=np.dtype(dtype))
    if not n == stored == len(values):
        raise pickle.UnpicklingError(
            f"a tensor of {n} numbers has only {len(values)} of them"
        )
    return values


_NUMPY_MODULES = (
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy._core.numeric",
    "numpy",
)
_KNOWN: dict[tuple[str, str], Any] = {
    **dict.fromkeys(PYG_TYPES, _Fields),
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("collections", "OrderedDict"): _Metadata,
    ("_codecs", "encode"): _encode,
    **{(module, "_reconstruct"): _new_array for module in _NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in _NUMPY_MODULES},
    ("numpy", "ndarray"): _ArrayShell,
    ("numpy", "dtype"): _new_dtype,
    **{(module, "set"): _new_set for module in BUILTINS},
}
"""All names that a record may hold, and what stands for them."""


class _RecordUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a listed name; nothing is imported or looked up."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise DataError(
                f"it names {module}.{name}, which is not in the list of types that "
                "may be read; nothing was run"
            ) from None


def read_pickle(data: bytes) -> Any:
    """Return the content of a pickle as plain data.

    Args:
        data: The pickle.

    Raises:
        DataError: If it names anything but the listed types, or is damaged.
    """
    try:
        check_instructions(data)
        return _Plain(len(data))(_RecordUnpickler(io.BytesIO(data)).load())
    except CheckpointError as error:
        raise DataError(str(error)) from None
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(f"it is damaged ({type(error).__name__}: {error})") from None


def read_record(data: bytes) -> Fields:
    """Return the fields of a pickled ``Data`` object (or dict).

    Args:
        data: The pickle.

    Returns:
        Tensors as numpy arrays; None where the field is not set.

    Raises:
        DataError: If it names anything but the listed types, is damaged, or is
            something else.
    """
    value = read_pickle(data)
    if not isinstance(value, dict):
        raise DataError(f"it is a {type(value).__name__}, not a record with fields")
    return value


class _Plain:
    """Turns stand-ins into data; an object becomes the mapping of its fields.

    A list of references to a list of references to ... is short as a pickle and longer
    than any memory as data, so entries are counted against the length of the pickle.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_left = _ENTRIES_PER_BYTE * n_bytes

    def __call__(self, value: Any) -> Any:
        self._n_left -= 1
        if self._n_left < 0:
            raise pickle.UnpicklingError("it repeats its parts without end")
        if isinstance(value, _ArrayShell):
            return value.array
        if isinstance(value, _Fields):
            return {str(n): self(e) for n, e in _fields(value).items()}
        if isinstance(value, dict):
            return {key: self(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self(entry) for entry in value]
        return value


def _fields(record: _Fields) -> dict[Any, Any]:
    state = record.state
    if isinstance(state, tuple) and state:
        state = state[0]
    if not isinstance(state, dict):
        return {}
    store = state.get("_store")
    if isinstance(store, _Fields) and isinstance(store.state, dict):
        # The store also points back to the object, so only its mapping is followed.
        state = store.state.get("_mapping", {})
    hidden = ("_store", "_parent", "_edge_attr_cls", "_tensor_attr_cls")
    return {name: entry for name, entry in state.items() if name not in hidden}
