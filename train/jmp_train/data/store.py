"""Store: a folder of shards with a header, read at random by any number of processes.

``header.json`` says what the store is and lists its shards; ``n_atoms.npy`` and
``n_pairs.npy`` (int32, mapped into memory) hold the sizes of all records.
"""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_train.data.header import (
    check_replaceable,
    count_facts,
    publish,
    read_header,
    write_header,
)
from jmp_train.data.records import OWN_LABELS, decode_sample, label_names
from jmp_train.data.sample import Sample
from jmp_train.data.shards import (
    RECORDS_PER_SHARD,
    ShardFacts,
    ShardWriter,
    check_file,
    read_record,
)


class ShardSeries:
    """Writes samples into as many shards as are needed, one after the other.

    Use as a context manager; shards that are finished stay.
    """

    def __init__(
        self, folder: Path, prefix: str, *, per_shard: int = RECORDS_PER_SHARD
    ) -> None:
        """Write nothing yet.

        Args:
            folder: Where to.
            prefix: First part of the names of the files.
            per_shard: Largest number of records in a shard.
        """
        self.shards: list[ShardFacts] = []
        self._folder = folder
        self._prefix = prefix
        self._per_shard = per_shard
        self._writer: ShardWriter | None = None

    def __enter__(self) -> ShardSeries:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)

    def __len__(self) -> int:
        done = sum(shard.n_systems for shard in self.shards)
        return done + (0 if self._writer is None else len(self._writer))

    def add(self, sample: Sample) -> None:
        """Append a sample.

        Args:
            sample: The next record.
        """
        if self._writer is None:
            name = f"{self._prefix}-{len(self.shards):05d}.lmdb"
            self._writer = ShardWriter(self._folder / name)
        self._writer.add(sample)
        if len(self._writer) == self._per_shard:
            self.finish()

    def finish(self) -> list[ShardFacts]:
        """Finish the last shard and return all of them."""
        if self._writer is not None:
            self.shards.append(self._writer.finish())
            self._writer = None
        return self.shards


class StoreWriter:
    """Writes a store beside its final name and puts it in place when finished.

    Use as a context manager; leaving it without :meth:`finish` removes what it wrote.
    """

    def __init__(self, path: Path, *, per_shard: int = RECORDS_PER_SHARD) -> None:
        """Begin a store.

        Args:
            path: Its folder; a store that is there is replaced at the end.
            per_shard: Largest number of records in a shard.

        Raises:
            ArgumentError: If there is something else than a store.
        """
        self.path = path
        check_replaceable(path)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._series = ShardSeries(self._temporary, "shard", per_shard=per_shard)
        self._labels = Counter(dict.fromkeys(OWN_LABELS, 0))
        self._elements: Counter[int] = Counter()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._series.__exit__(kind, error, trace)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._series)

    def add(self, sample: Sample) -> None:
        """Append a sample.

        Args:
            sample: The next record.
        """
        self._series.add(sample)
        self._labels.update(label_names(sample))
        self._elements.update(np.unique(sample.numbers).tolist())

    def finish(
        self, facts: Mapping[str, Any], *, target_units: Mapping[str, str] | None = None
    ) -> None:
        """Write the header and move the store to its name.

        Args:
            facts: Plain data for the header, such as task, licence, statistics.
            target_units: Units of the targets; None: none, or as in the facts.

        Raises:
            DataError: If nothing was added.
        """
        counted = count_facts(self._labels, self._elements)
        write_header(
            self._temporary,
            self._series.finish(),
            {**facts, **counted},
            target_units=target_units,
        )
        publish(self._temporary, self.path)


class Store:
    """A store for reading; it can be pickled, forked and read by several threads."""

    path: Path
    """The folder."""
    header: dict[str, Any]
    """Facts about the store: task, split, units, licence, statistics, fingerprint."""
    n_atoms: Int[np.ndarray, " systems"]
    """Number of atoms of each sample; mapped, not read."""
    n_pairs: Int[np.ndarray, " systems"]
    """Ordered pairs of atoms within ``PAIR_CUTOFF`` of each sample; mapped."""
    shards: list[ShardFacts]
    """The shards, in order."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        try:
            self.shards = [ShardFacts.from_json(s) for s in self.header["shards"]]
        except (KeyError, TypeError, DataError) as error:
            raise DataError(
                f"{self.path} has no usable list of shards ({error}); prepare it again"
            ) from None
        for shard in self.shards:
            check_file(self.path / shard.file, shard)
        # A linked store must not be open twice under two names.
        folder = self.path.resolve()
        self._files = [folder / shard.file for shard in self.shards]
        self._ends = list(accumulate(shard.n_systems for shard in self.shards))
        self.n_atoms = self._map_sizes("n_atoms")
        self.n_pairs = self._map_sizes("n_pairs")

    def _map_sizes(self, name: str) -> Int[np.ndarray, " systems"]:
        path = self.path / f"{name}.npy"
        try:
            sizes = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is missing or damaged ({error}); prepare the store again"
            ) from None
        n_systems = self.header["n_systems"]
        if sizes.shape != (n_systems,) or self._ends[-1:] != [n_systems]:
            raise DataError(
                f"{self.path} lists {name} of {len(sizes)} systems and has "
                f"{n_systems}; prepare it again"
            )
        return sizes

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        # Without this, the sizes of all samples would travel to every worker process.
        return Store, (self.path,)

    def __len__(self) -> int:
        return int(self.header["n_systems"])

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.path}")
        try:
            return decode_sample(self.record(index))
        except DataError as error:
            raise DataError(
                f"record {index} of {self.path} is damaged: {error}; prepare it again"
            ) from error

    def record(self, index: int) -> bytes:
        """Return the bytes of a sample.

        Args:
            index: Number of the sample, from 0.

        Raises:
            DataError: If the shard is absent or damaged.
        """
        place = bisect_right(self._ends, index)
        shard = self.shards[place]
        first = self._ends[place] - shard.n_systems
        return read_record(self._files[place], shard, int(index) - first)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def store_path(folder: Path, name: str, split: str) -> Path:
    """Return where the store of a set and part lies.

    Args:
        folder: Folder of the stores.
        name: Name of the set, which is that of its task.
        split: ``train``, ``val`` or ``test``.
    """
    return folder / f"{name}-{split}"


def open_stores(folder: Path, names: Sequence[str], split: str) -> dict[str, Store]:
    """Return the stores of several sets, by name.

    Args:
        folder: Folder of the stores.
        names: Names of the sets, in the order wanted.
        split: ``train``, ``val`` or ``test``.
    """
    return {name: Store(store_path(folder, name, split)) for name in names}
