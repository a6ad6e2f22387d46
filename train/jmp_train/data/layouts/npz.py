"""NPZ archives: rows of an array without reading the rest, and never a pickle."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.lib import format as npy

from jmp_calc.errors import DataError

_BLOCK = 1 << 20


@runtime_checkable
class _Stream(Protocol):
    """What is used of a member of an archive."""

    def read(self, n: int = -1, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...


class NpzArrays:
    """The arrays of one archive.

    Rows are streamed out of the archive, so that a few thousand frames of a set of
    100 000 cost the memory of a few thousand. Arrays of Python objects, which hide a
    pickle, count as absent.
    """

    def __init__(self, path: Path) -> None:
        """Read the table of contents and the headers.

        Args:
            path: An ``.npz`` file.

        Raises:
            DataError: If it does not exist, or is no complete archive.
        """
        self.path = path
        """The file."""
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shape of each array."""
        self._dtypes: dict[str, np.dtype] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith(".npy"):
                        size = archive.getinfo(member).file_size
                        with archive.open(member) as file:
                            self._read_header(member.removesuffix(".npy"), file, size)
        except FileNotFoundError:
            raise DataError(f"there is no file {path}") from None
        except _FAULTS as error:
            raise self._damaged("", error) from None

    def _read_header(self, name: str, file: _Stream, size: int) -> None:
        shape, _, dtype = _header(file)
        if dtype.hasobject:
            return
        needed = file.tell() + dtype.itemsize * math.prod(shape)
        if needed > size:
            raise ValueError(f"{name!r} needs {needed} bytes and has {size}")
        self.shapes[name] = shape
        self._dtypes[name] = dtype

    def check(self, **dimensions: int) -> None:
        """Check that arrays are there and how many dimensions they have.

        Args:
            dimensions: Number of dimensions by name of the array.

        Raises:
            DataError: If one is absent or has another number.
        """
        for key, n_dimensions in dimensions.items():
            if key not in self.shapes:
                found = ", ".join(self.shapes) or "nothing"
                raise DataError(f"{self.path} has no array {key!r}; it has {found}")
            if len(self.shapes[key]) != n_dimensions:
                raise DataError(
                    f"{key!r} of {self.path} has shape {self.shapes[key]}; it must "
                    f"have {n_dimensions} dimensions"
                )

    def rows(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return rows of an array.

        Args:
            key: Name of the array.
            start: First row.
            stop: First row that is not read; None: to the end.

        Raises:
            DataError: If the array is absent or damaged.
        """
        self.check(**{key: len(self.shapes.get(key, ()))})
        shape, dtype = self.shapes[key], self._dtypes[key]
        n_all = shape[0] if shape else 1
        stop = n_all if stop is None else min(stop, n_all)
        n_rows, n_columns = max(0, stop - start), math.prod(shape[1:])
        values = np.empty((n_rows, n_columns), dtype)
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(f"{key}.npy") as file,
            ):
                if _header(file)[1]:
                    # sGDML stores arrays with the frames side by side.
                    columns = np.empty((n_columns, n_rows), dtype)
                    for column in columns:
                        file.seek(start * dtype.itemsize, 1)
                        _fill(column, file)
                        file.seek((n_all - stop) * dtype.itemsize, 1)
                    # The first axis varies fastest there, so that reversing all axes
                    # gives an ordinary array.
                    values = columns.reshape(*shape[:0:-1], n_rows).T
                else:
                    file.seek(start * n_columns * dtype.itemsize, 1)
                    _fill(values, file)
        except _FAULTS as error:
            raise self._damaged(f", array {key!r}, row {start} on", error) from None
        return values.reshape((n_rows, *shape[1:]) if shape else ())

    def text(self, key: str) -> str:
        """Return a text that is stored as an array, or an empty text.

        Args:
            key: Name of the array.

        Raises:
            DataError: If it is damaged.
        """
        if key not in self.shapes or self._dtypes[key].kind not in "SU":
            return ""
        value = self.rows(key).reshape(-1)
        if not value.size:
            return ""
        text = value[0]
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)

    def _damaged(self, where: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path}{where}: cannot be read ({error}); the file is damaged or cut "
            "short, so download it again"
        )


_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)


def _header(file: _Stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    return npy.read_array_header_2_0(file)


def _fill(values: np.ndarray, file: _Stream) -> None:
    """Read the bytes of an array into it."""
    rest = values.reshape(-1).view(np.uint8).data
    while len(rest):
        block = file.read(min(len(rest), _BLOCK))
        if not block:
            raise EOFError(f"{len(rest)} bytes are missing at the end")
        rest[: len(block)] = block
        rest = rest[len(block) :]
