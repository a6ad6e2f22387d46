"""An append-only file of results by key, which a kill at any moment leaves readable."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jmp_calc.errors import DataError
from jmp_calc.sim.evaluation import Results
from jmp_calc.sim.output import writing

_MAGIC = b"JMPKEPT1"
_HEAD = struct.Struct("<32sIQI")
"""Key, structures, bytes that follow, checksum of all that."""
_LENGTH = struct.Struct("<I")
_BEGUN = bytes(32)
"""Key of records that tell who began, instead of results."""
_ARRAY = "array"


@dataclass(frozen=True, slots=True)
class _Record:
    """Where a record is."""

    key: bytes
    n_systems: int
    start: int
    """Of what follows the head."""
    length: int
    checksum: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def holds(self, body: bytes) -> bool:
        """Whether it is whole."""
        return _checksum(self.key, self.n_systems, body) == self.checksum


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What a call set out to do."""

    files: list[str]
    """Names of what it makes."""
    identity: dict[str, Any]
    """What computes; plain data."""


class KeptFile:
    """Results of calls by key, on disk; only where they are is in memory.

    A record that was cut off is dropped, and what follows it, which cannot be unless
    the file is damaged.

    Args:
        path: The file; its folder exists.
        is_new: Begin with nothing, whether or not there is a file.

    Raises:
        DataError: If it cannot be read or written, or is something else.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        self.path = path
        before = [] if is_new else list(_whole_records(path))
        with writing(path):
            # no buffer: what add() has returned from is with the system
            self._file = path.open("w+b" if is_new else "r+b", buffering=0)
        self._end = 0
        self._append(_MAGIC)
        self._end = before[-1].end if before else self._end
        self._places = {one.key: one for one in before if one.key != _BEGUN}

    @property
    def n_systems(self) -> int:
        """Structures of which there are results."""
        return sum(record.n_systems for record in self._places.values())

    def find(self, key: bytes) -> list[Results] | None:
        """Return the results of a call, or None if there are none.

        Args:
            key: Of the call; 32 bytes.
        """
        record = self._places.get(key)
        if record is None:
            return None
        self._file.seek(record.start)
        return _unpacked(_read(self._file, record.length))

    def add(self, key: bytes, results: Sequence[Results]) -> list[Results]:
        """Append the results of a call, and return them as :meth:`find` will.

        Results that are neither numbers, texts nor arrays of those are not kept.

        Args:
            key: Of the call; 32 bytes.
            results: One dictionary per structure.

        Raises:
            DataError: If they cannot be written.
        """
        try:
            body = _packed(results)
        except TypeError:
            return list(results)
        self._places[key] = self._add(key, len(results), body)
        return _unpacked(body)

    def begin(self, beginning: Beginning) -> None:
        """Append who begins to keep results.

        Args:
            beginning: What the work is.

        Raises:
            DataError: If it cannot be written.
        """
        self._add(_BEGUN, 0, json.dumps(asdict(beginning)).encode())

    def close(self) -> None:
        """Drop a record that was cut off, and close."""
        with self._file, contextlib.suppress(OSError):
            self._file.truncate(self._end)

    def _add(self, key: bytes, n_systems: int, body: bytes) -> _Record:
        checksum = _checksum(key, n_systems, body)
        start = self._end + _HEAD.size
        self._append(_HEAD.pack(key, n_systems, len(body), checksum) + body)
        return _Record(key, n_systems, start, len(body), checksum)

    def _append(self, data: bytes) -> None:
        with writing(self.path):
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._end += len(data)


def beginnings(path: Path) -> list[Beginning]:
    """Return what the calls set out to do whose results are in a file.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read.
    """
    found = []
    with path.open("rb") as file:
        for record in _records(file, path):
            if record.key == _BEGUN and record.holds(body := file.read(record.length)):
                found.append(Beginning(**json.loads(body)))
    return found


def _whole_records(path: Path) -> Iterator[_Record]:
    with path.open("rb") as file:
        for record in _records(file, path):
            if not record.holds(file.read(record.length)):
                return
            yield record


def _records(file: BinaryIO, path: Path) -> Iterator[_Record]:
    """Yield records that end within the file, with the file at what they hold."""
    if not _MAGIC.startswith(file.read(len(_MAGIC))):
        raise DataError(
            f"{path} does not hold results of work that did not finish; remove it"
        )
    size = os.fstat(file.fileno()).st_size
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        key, n_systems, length, checksum = _HEAD.unpack(head)
        record = _Record(key, n_systems, file.tell(), length, checksum)
        # a damaged length would ask for all memory
        if record.end > size:
            return
        yield record
        file.seek(record.end)


def _read(file: Any, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return bytes(data)


def _checksum(key: bytes, n_systems: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(key + _LENGTH.pack(n_systems)))


def _packed(results: Sequence[Results]) -> bytes:
    """Return results as bytes: a table in JSON, then the arrays."""
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise TypeError("objects cannot be kept")
            arrays.append(array)
            is_scalar = isinstance(value, np.generic)
            return {_ARRAY: [array.dtype.str, array.shape, is_scalar]}
        if isinstance(value, dict):
            # would be taken for an array
            raise TypeError("tables cannot be kept")
        return value

    table = [{name: plain(value) for name, value in one.items()} for one in results]
    text = json.dumps(table).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *(a.tobytes() for a in arrays)])


def _unpacked(body: bytes) -> list[Results]:
    (length,) = _LENGTH.unpack_from(body)
    place = _LENGTH.size + length

    def whole(value: Any) -> Any:
        nonlocal place
        if not isinstance(value, dict):
            return value
        kind, shape, is_scalar = value[_ARRAY]
        array = np.ndarray(shape, np.dtype(kind), body, place).copy()
        place += array.nbytes
        return array[()] if is_scalar else array

    table = json.loads(body[_LENGTH.size : place])
    return [{name: whole(value) for name, value in one.items()} for one in table]
