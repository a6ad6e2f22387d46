"""Shard: one LMDB file with a run of the records of a store.

Keys: the index of each record in the shard (4 bytes, big endian), ``n_atoms`` and
``n_pairs`` (int32 arrays, little endian), and ``facts`` (JSON: number of records, and
their SHA-256).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_train.data.records import count_pairs, encode_sample
from jmp_train.data.sample import Sample

RECORDS_PER_SHARD = 1_000_000
"""Largest number of records in a shard."""

SIZES = ("n_atoms", "n_pairs")
"""What is known of each record without reading it."""

_FIRST_MAP_SIZE = 1 << 26
_RECORDS_PER_COMMIT = 512
_MOST_OPEN = 128
_FACTS = b"facts"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFacts:
    """What a store knows about one of its shards."""

    file: str
    """Name of the file."""
    n_systems: int
    """Number of records."""
    fingerprint: str
    """SHA-256 of the records, one after the other."""
    n_bytes: int
    """Size of the file."""

    @property
    def content(self) -> bytes:
        """What the file says about itself, whatever it is called."""
        facts = {"n_systems": self.n_systems, "fingerprint": self.fingerprint}
        return json.dumps(facts).encode()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ShardFacts:
        """Return the facts that :meth:`to_json` wrote.

        Raises:
            DataError: If a field is missing, or the file is not beside the header.
        """
        try:
            found = cls(
                file=str(data["file"]),
                n_systems=int(data["n_systems"]),
                fingerprint=str(data["fingerprint"]),
                n_bytes=int(data["n_bytes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a shard lacks the field {error}") from None
        if Path(found.file).name != found.file:
            raise DataError(f"a shard is called {found.file!r}, which is no file name")
        return found


def join_fingerprints(fingerprints: Sequence[str]) -> str:
    """Return the fingerprint of a store.

    Args:
        fingerprints: Those of its shards, in order; one is that of the store.
    """
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


class ShardWriter:
    """Writes a shard beside its final name and puts it in place when finished.

    Use as a context manager; leaving it without :meth:`finish` removes the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._pending: list[tuple[bytes, bytes]] = []
        self._sizes: list[tuple[int, int]] = []
        self._digest = hashlib.sha256()
        self._is_open = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.unlink(missing_ok=True)
            self._environment = lmdb.open(
                str(self._temporary),
                subdir=False,
                lock=False,
                map_size=_FIRST_MAP_SIZE,
                sync=False,
            )
        except (OSError, lmdb.Error) as error:
            raise self._failure(error) from error
        self._is_open = True

    def __enter__(self) -> ShardWriter:
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
        return len(self._sizes)

    def add(self, sample: Sample) -> None:
        """Append a sample.

        Args:
            sample: The next record.
        """
        self.add_record(encode_sample(sample), sample.n_atoms, count_pairs(sample))

    def add_record(self, record: bytes, n_atoms: int, n_pairs: int) -> None:
        """Append a sample that is encoded already.

        Args:
            record: As ``encode_sample`` returned it.
            n_atoms: Its atoms.
            n_pairs: Its ordered pairs within ``PAIR_CUTOFF``.
        """
        self._digest.update(record)
        self._pending.append((_key(len(self._sizes)), record))
        self._sizes.append((n_atoms, n_pairs))
        if len(self._pending) == _RECORDS_PER_COMMIT:
            self._commit()

    def finish(self) -> ShardFacts:
        """Move the file to its name and return what a store has to know about it."""
        facts = ShardFacts(
            file=self.path.name,
            n_systems=len(self._sizes),
            fingerprint=self._digest.hexdigest(),
            n_bytes=0,
        )
        self._commit()
        sizes = np.array(self._sizes, dtype="<i4").reshape(-1, len(SIZES))
        for column, name in enumerate(SIZES):
            self._pending.append((name.encode(), sizes[:, column].tobytes()))
        self._pending.append((_FACTS, facts.content))
        self._commit(append=False)
        try:
            self._environment.sync(True)
            self._close()
            os.replace(self._temporary, self.path)
        except (OSError, lmdb.Error) as error:
            raise self._failure(error) from error
        return replace(facts, n_bytes=self.path.stat().st_size)

    def _commit(self, *, append: bool = True) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value, append=append)
                break
            except lmdb.MapFullError:
                size = self._environment.info()["map_size"]
                self._environment.set_mapsize(2 * size)
            except (OSError, lmdb.Error) as error:
                raise self._failure(error) from error
        self._pending = []

    def _failure(self, error: Exception) -> DataError:
        return DataError(
            f"cannot write {self.path} ({error}); check that there is space left and "
            "that the folder can be written to, then run this again"
        )

    def _close(self) -> None:
        self._environment.close()
        self._is_open = False


def _key(index: int) -> bytes:
    return index.to_bytes(4, "big")


class OpenShards:
    """Shards that are open for reading in this process, the latest used last.

    Opening costs 25 times what reading does. A child that is forked closes what it
    inherits, because its parent may be reading at that moment, and opens its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._environments: OrderedDict[tuple[str, str], lmdb.Environment] = (
            OrderedDict()
        )
        os.register_at_fork(after_in_child=self._close_inherited)

    def get(self, path: Path, facts: ShardFacts, key: bytes) -> bytes | None:
        """Return the value of a key, or None.

        Args:
            path: The file.
            facts: What the store says about it.
            key: Any key.

        Raises:
            DataError: If the file is absent, damaged, or that of another store.
        """
        try:
            with self._lock:
                environment = self._open(path, facts)
                with environment.begin() as transaction:
                    value = transaction.get(key)
        except lmdb.Error as error:
            raise DataError(
                f"{path} cannot be read ({error}); the file is damaged or not a shard "
                "of a store; prepare it again"
            ) from error
        return None if value is None else bytes(value)

    def _open(self, path: Path, facts: ShardFacts) -> lmdb.Environment:
        # A store that was replaced has the same paths and other fingerprints.
        name = (str(path), facts.fingerprint)
        environment = self._environments.get(name)
        if environment is None:
            if len(self._environments) >= _MOST_OPEN:
                self._environments.popitem(last=False)[1].close()
            try:
                environment = _open_checked(path, facts)
            except lmdb.Error:
                # Perhaps it is open under the path that it had before it was moved.
                self.close_all()
                environment = _open_checked(path, facts)
            self._environments[name] = environment
        self._environments.move_to_end(name)
        return environment

    def close_all(self) -> None:
        """Close all files; those that were deleted free their space only then."""
        with self._lock:
            while self._environments:
                self._environments.popitem()[1].close()

    def _close_inherited(self) -> None:
        self._lock = threading.RLock()
        self.close_all()


OPEN_SHARDS = OpenShards()
"""The shards that this process reads."""


def _open_checked(path: Path, facts: ShardFacts) -> lmdb.Environment:
    check_file(path, facts)
    # Records are read in random order: reading ahead would fetch what is not wanted.
    environment = lmdb.open(
        str(path), subdir=False, readonly=True, lock=False, readahead=False
    )
    try:
        _check_pages(path, environment)
        with environment.begin() as transaction:
            found = transaction.get(_FACTS)
        if found != facts.content:
            raise DataError(
                f"{path} is not the shard that its store describes; it was replaced or "
                "is damaged; open the store again, or prepare it again"
            )
    except (DataError, lmdb.Error):
        environment.close()
        raise
    return environment


def check_file(path: Path, facts: ShardFacts) -> None:
    """Check that a shard is there and was not cut off.

    Args:
        path: The file.
        facts: What is known about it.

    Raises:
        DataError: If it is absent or has another size.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}; prepare the store again")
    length = path.stat().st_size
    if length < facts.n_bytes:
        raise DataError(
            f"{path} is cut off: {length} bytes instead of {facts.n_bytes}; prepare "
            "the store again"
        )


def _check_pages(path: Path, environment: lmdb.Environment) -> None:
    # Reading a page beyond the end of a mapped file would kill the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if path.stat().st_size < needed:
        raise DataError(f"{path} lacks pages that it lists; prepare the store again")


def read_sizes(path: Path, facts: ShardFacts) -> dict[str, Int[np.ndarray, " systems"]]:
    """Return ``n_atoms`` and ``n_pairs`` of the records of a shard.

    Args:
        path: The file.
        facts: What is known about it.

    Raises:
        DataError: If they are absent or do not fit the number of records.
    """
    found = {}
    for name in SIZES:
        sizes = np.frombuffer(OPEN_SHARDS.get(path, facts, name.encode()) or b"", "<i4")
        if len(sizes) != facts.n_systems:
            raise DataError(
                f"{path} lists {name} of {len(sizes)} systems and has "
                f"{facts.n_systems}; prepare it again"
            )
        found[name] = sizes
    return found


def read_record(path: Path, facts: ShardFacts, index: int) -> bytes:
    """Return a record of a shard.

    Args:
        path: The file.
        facts: What is known about it.
        index: Number in the shard, from 0.

    Raises:
        DataError: If the file is damaged or lacks the record.
    """
    record = OPEN_SHARDS.get(path, facts, _key(index))
    if record is None:
        raise DataError(
            f"{path} has no record {index}; it is damaged; prepare it again"
        )
    return record


def read_records(path: Path, facts: ShardFacts) -> Iterator[bytes]:
    """Yield the records of a shard in order, as :func:`read_record` returns them.

    Args:
        path: The file.
        facts: What is known about it.
    """
    return (read_record(path, facts, index) for index in range(facts.n_systems))


def join_shards(shards: Sequence[tuple[Path, ShardFacts]], path: Path) -> ShardFacts:
    """Copy the records of several shards into one.

    Args:
        shards: Files and what is known about them, in order; they stay.
        path: The new file.

    Raises:
        DataError: If a shard is damaged, or the new one cannot be written.
    """
    with ShardWriter(path) as writer:
        for source, facts in shards:
            sizes = read_sizes(source, facts)
            pairs = zip(*(sizes[name].tolist() for name in SIZES), strict=True)
            for record, (n_atoms, n_pairs) in zip(
                read_records(source, facts), pairs, strict=True
            ):
                writer.add_record(record, n_atoms, n_pairs)
        return writer.finish()
