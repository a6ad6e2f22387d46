"""LMDB files of pickled torch-geometric objects: shards, counts and records.

Source:
    Training specification, 5.1: files ``*.lmdb`` in the order of their names, keys
    "0", "1", ... and "length".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from jmp_calc.errors import DataError
from jmp_train.data.layouts.parts import frame_parts, part_range
from jmp_train.data.layouts.pyg_record import Fields, read_pickle, read_record


def find_shards(source: Path, what: str) -> list[Path]:
    """Return the LMDB files of a folder in order, or the file itself.

    Args:
        source: A file or a folder; the folders below it are searched too.
        what: What to give, for the error.

    Raises:
        DataError: If there is none.
    """
    if source.is_file():
        return [source]
    shards = sorted(path for path in source.rglob("*.lmdb") if path.is_file())
    if not shards:
        problem = "holds no .lmdb files" if source.is_dir() else "does not exist"
        raise DataError(f"{source} {problem}; give {what}")
    return shards


def shard_parts(shards: list[Path], folder: Path) -> list[str]:
    """Return parts such as ``data.0000.lmdb:0-10000``.

    Args:
        shards: What :func:`find_shards` returned.
        folder: What their names are relative to.

    Raises:
        DataError: If a file is damaged.
    """
    return [
        f"{_relative(shard, folder)}:{rows}"
        for shard in shards
        for rows in frame_parts(count_records(shard))
    ]


def part_file(folder: Path, part: str) -> Path:
    """Return the file of a part.

    Args:
        folder: What the name in the part is relative to, or the file itself.
        part: One of those of :func:`shard_parts`.
    """
    return folder if folder.is_file() else folder / part.rsplit(":", 1)[0]


def read_part(folder: Path, part: str) -> Iterator[tuple[str, Fields]]:
    """Yield place and fields of the records of a part.

    Args:
        folder: What the name in the part is relative to, or the file itself.
        part: One of those of :func:`shard_parts`.

    Raises:
        DataError: If the file or a record is damaged, or names a type that is not in
            the list; the file and the record are named.
    """
    path, rows = part_file(folder, part), part.rsplit(":", 1)[1]
    with _open(path) as environment:
        for index in part_range(rows):
            where = f"record {index} of {path}"
            yield where, _read(environment, index, where)


def _read(environment: lmdb.Environment, index: int, where: str) -> Fields:
    try:
        with environment.begin() as transaction:
            data = transaction.get(str(index).encode())
    except lmdb.Error as error:
        raise DataError(f"{where} cannot be read ({error}); the file is damaged") from (
            error
        )
    if data is None:
        raise DataError(f"{where} is not there; the file is damaged or not complete")
    try:
        return read_record(data)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def count_records(path: Path) -> int:
    """Return the number of records of a file.

    Args:
        path: An LMDB file.

    Raises:
        DataError: If it is not one, is cut short, or does not say its length in
            numbers.
    """
    with _open(path) as environment:
        try:
            with environment.begin() as transaction:
                data = transaction.get(b"length")
        except lmdb.Error as error:
            raise DataError(f"{path} cannot be read ({error})") from error
        if data is None:
            return int(environment.stat()["entries"])
    length = read_pickle(data)
    if type(length) is not int or length < 0:
        raise DataError(f"the length of {path} is {length!r}; it must be a number")
    return length


@contextmanager
def _open(path: Path) -> Iterator[lmdb.Environment]:
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=False
        )
    except (lmdb.Error, struct.error) as error:
        raise DataError(f"{path} is not an LMDB file ({error})") from None
    with environment:
        # Reading a page beyond the end of a mapped file would kill the process.
        n_pages = environment.info()["last_pgno"] + 1
        needed = n_pages * environment.stat()["psize"]
        length = path.stat().st_size
        if length < needed:
            raise DataError(
                f"{path} is cut off: {length} bytes instead of {needed}; fetch it again"
            )
        yield environment


def _relative(path: Path, folder: Path) -> str:
    return path.name if path == folder else str(path.relative_to(folder))
