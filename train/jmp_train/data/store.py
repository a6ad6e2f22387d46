"""The on-disk format: one LMDB file of samples, arrays only, nothing pickled.

Keys: ``header`` (JSON), ``n_atoms`` and ``n_pairs`` (int64 arrays), and the decimal
index of each record. A record is the CRC-32 of what follows (4 bytes, little endian),
then a safetensors block; texts are arrays of UTF-8 bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_calc.graph.neighbors import neighbor_list
from jmp_train.data.sample import Sample

FORMAT = "jmp-store"
"""First field of every header."""
VERSION = 1
"""Version of the layout; a reader accepts only its own."""
UNITS = {"energy": "eV", "forces": "eV/Å", "positions": "Å", "cell": "Å"}
"""Units of every store."""

PAIR_CUTOFF = 5.0
"""Distance up to which pairs of atoms are counted as a measure of cost, Å."""

_ONE_AT_A_TIME = threading.Lock()
_FIRST_MAP_SIZE = 1 << 26
_RECORDS_PER_COMMIT = 512
_TEXTS = ("source", "group", "task")


def encode_sample(sample: Sample) -> bytes:
    """Return the record of a sample.

    Args:
        sample: Any sample.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "numbers": sample.numbers.astype(np.uint8),
        "positions": np.ascontiguousarray(sample.positions, dtype=np.float64),
        "cell": np.ascontiguousarray(sample.cell, dtype=np.float64),
        "pbc": sample.pbc.astype(np.uint8),
        "energy": np.array([sample.energy], dtype=np.float64),
        "tags": sample.tags.astype(np.uint8),
    }
    if sample.forces is not None:
        arrays["forces"] = np.ascontiguousarray(sample.forces, dtype=np.float64)
    for name in _TEXTS:
        text = getattr(sample, name).encode()
        arrays[name] = np.frombuffer(text, dtype=np.uint8)
    block = safetensors.numpy.save(arrays)
    return struct.pack("<I", zlib.crc32(block)) + block


def decode_sample(record: bytes) -> Sample:
    """Return the sample of a record.

    Args:
        record: What :func:`encode_sample` returned.

    Raises:
        DataError: If the checksum or the layout is wrong.
    """
    if len(record) < 4 or struct.unpack("<I", record[:4])[0] != zlib.crc32(record[4:]):
        raise DataError("the checksum does not fit")
    try:
        arrays = safetensors.numpy.load(record[4:])
        texts = {name: arrays[name].tobytes().decode() for name in _TEXTS}
        return Sample(
            numbers=arrays["numbers"].astype(np.int64),
            positions=arrays["positions"],
            cell=arrays["cell"],
            pbc=arrays["pbc"].astype(bool),
            energy=float(arrays["energy"][0]),
            forces=arrays.get("forces"),
            tags=arrays["tags"].astype(np.int64),
            **texts,
        )
    except (safetensors.SafetensorError, KeyError) as error:
        raise DataError(f"the record has another layout ({error})") from error


def count_pairs(sample: Sample) -> int:
    """Return the number of ordered pairs of atoms within ``PAIR_CUTOFF``.

    Args:
        sample: Any sample.
    """
    source, *_ = neighbor_list(
        sample.positions, sample.cell, sample.pbc, cutoff=PAIR_CUTOFF
    )
    return len(source)


class StoreWriter:
    """Writes a store beside its final name and puts it in place when finished.

    Use as a context manager; leaving it without :meth:`finish` removes the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._temporary.unlink(missing_ok=True)
        self._environment = lmdb.open(
            str(self._temporary),
            subdir=False,
            lock=False,
            map_size=_FIRST_MAP_SIZE,
            sync=False,
        )
        self._pending: list[tuple[bytes, bytes]] = []
        self._n_atoms: list[int] = []
        self._n_pairs: list[int] = []
        self._digest = hashlib.sha256()
        self._is_open = True

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_open:
            self._close()
            self._temporary.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._n_atoms)

    def add(self, sample: Sample) -> None:
        """Append a sample.

        Args:
            sample: The next record.
        """
        record = encode_sample(sample)
        self._digest.update(record)
        self._pending.append((str(len(self._n_atoms)).encode(), record))
        self._n_atoms.append(sample.n_atoms)
        self._n_pairs.append(count_pairs(sample))
        if len(self._pending) == _RECORDS_PER_COMMIT:
            self._commit()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the header and move the file to its name.

        Args:
            facts: Plain data for the header, such as task, licence, statistics.
        """
        header = {
            "format": FORMAT,
            "version": VERSION,
            "n_systems": len(self._n_atoms),
            "fingerprint": self._digest.hexdigest(),
            "units": UNITS,
            "pair_cutoff": PAIR_CUTOFF,
            **facts,
        }
        for key, sizes in (("n_atoms", self._n_atoms), ("n_pairs", self._n_pairs)):
            self._pending.append((key.encode(), np.array(sizes, "<i8").tobytes()))
        self._pending.append((b"header", json.dumps(header).encode()))
        self._commit()
        self._environment.sync(True)
        self._close()
        os.replace(self._temporary, self.path)

    def _commit(self) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value)
                break
            except lmdb.MapFullError:
                size = self._environment.info()["map_size"]
                self._environment.set_mapsize(2 * size)
        self._pending = []

    def _close(self) -> None:
        self._environment.close()
        self._is_open = False


class Store:
    """A store for reading; opened at each access, so it can be pickled and forked."""

    path: Path
    """The file."""
    header: dict[str, Any]
    """Facts about the store: task, split, units, licence, statistics, fingerprint."""
    n_atoms: Int[np.ndarray, " systems"]
    """Number of atoms of each sample."""
    n_pairs: Int[np.ndarray, " systems"]
    """Ordered pairs of atoms within ``PAIR_CUTOFF`` of each sample."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(
                f"there is no store {self.path}; make it with 'jmp-train data prepare'"
            )
        self.header = self._read_header()
        self.n_atoms = self._read_sizes("n_atoms")
        self.n_pairs = self._read_sizes("n_pairs")

    def _read_header(self) -> dict[str, Any]:
        try:
            header = json.loads(self._get("header"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"the header of {self.path} is damaged ({error}); prepare it again"
            ) from error
        given = (header.get("format"), header.get("version"))
        if given != (FORMAT, VERSION):
            raise DataError(
                f"{self.path} has format {given[0]!r} version {given[1]!r}; this "
                f"version reads {FORMAT!r} version {VERSION}; prepare it again"
            )
        return dict(header)

    def _read_sizes(self, name: str) -> Int[np.ndarray, " systems"]:
        sizes = np.frombuffer(self._get(name), dtype="<i8").astype(np.int64)
        if len(sizes) != self.header["n_systems"]:
            raise DataError(
                f"{self.path} lists {name} of {len(sizes)} systems and has "
                f"{self.header['n_systems']}; prepare it again"
            )
        return sizes

    def _get(self, key: str) -> bytes:
        # Opening takes 50 microseconds. A handle kept open would have to be closed
        # before a fork, and a second one on the same file is refused.
        try:
            with _ONE_AT_A_TIME, _open_to_read(self.path) as environment:
                _check_length(self.path, environment)
                with environment.begin() as transaction:
                    value = transaction.get(key.encode())
        except lmdb.Error as error:
            raise DataError(
                f"{key} of {self.path} cannot be read ({error}); the file is damaged "
                "or not a store; prepare it again"
            ) from error
        if value is None:
            raise DataError(
                f"{self.path} has no entry {key!r}; it is damaged or not a store; "
                "prepare it again"
            )
        return bytes(value)

    def __len__(self) -> int:
        return len(self.n_atoms)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.path}")
        record = self._get(str(index))
        try:
            return decode_sample(record)
        except DataError as error:
            raise DataError(
                f"record {index} of {self.path} is damaged: {error}; prepare it again"
            ) from error

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def _open_to_read(path: Path) -> lmdb.Environment:
    return lmdb.open(str(path), subdir=False, readonly=True, lock=False)


def _check_length(path: Path, environment: lmdb.Environment) -> None:
    # Reading a page beyond the end of a mapped file would kill the process.
    n_pages = environment.info()["last_pgno"] + 1
    needed = n_pages * environment.stat()["psize"]
    length = path.stat().st_size
    if length < needed:
        raise DataError(
            f"{path} is cut off: {length} bytes instead of {needed}; prepare it again"
        )


def store_path(folder: Path, task: str, split: str) -> Path:
    """Return where the store of a task and part lies.

    Args:
        folder: Folder of the stores.
        task: Key of ``TASKS``.
        split: ``train``, ``val`` or ``test``.
    """
    return folder / f"{task}-{split}.lmdb"


def open_stores(folder: Path, tasks: list[str], split: str) -> dict[str, Store]:
    """Return the stores of several tasks, by task.

    Args:
        folder: Folder of the stores.
        tasks: Keys of ``TASKS``, in the order wanted.
        split: ``train``, ``val`` or ``test``.
    """
    return {task: Store(store_path(folder, task, split)) for task in tasks}
