"""Finished stores: is every record intact, and are the statistics those of the data?"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from jmp_calc.errors import DataError
from jmp_train.data.header import count_facts, read_header
from jmp_train.data.records import OWN_LABELS, decode_sample, label_names
from jmp_train.data.sample import Sample
from jmp_train.data.shards import ShardFacts, join_fingerprints, read_sizes
from jmp_train.data.store import Store
from jmp_train.labels import label_table
from jmp_train.normalize import StatisticsAccumulator, TaskStatistics
from jmp_train.prepare.report import target_table
from jmp_train.text_table import text_table

MOST_FAULTS = 20
"""Faults that are listed; the rest is counted."""

_SAME = {"rel_tol": 1e-6, "abs_tol": 1e-9}
_EVERY = 100

Progress = Callable[[int], None]
"""Called now and then with the number of records read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreCheck:
    """What is wrong with a store."""

    path: Path
    """Its folder."""
    n_systems: int
    """Records that should be there."""
    faults: tuple[str, ...]
    """What is wrong, in words; empty: nothing."""
    n_faults: int
    """All faults, listed or not."""


class _Faults:
    def __init__(self) -> None:
        self.listed: list[str] = []
        self.n = 0

    def add(self, text: str) -> None:
        self.n += 1
        if len(self.listed) < MOST_FAULTS:
            self.listed.append(text)

    def compare(self, what: str, found: Any, said: Any) -> None:
        if found != said:
            self.add(f"{what} is {found}, and the header says {said}")


def check_store(path: Path, *, progress: Progress = lambda _n: None) -> StoreCheck:
    """Read every record of a store and compare it with what is said about it.

    Looked at are checksums, layout, finite values, sizes, labels, elements and the
    fingerprint.

    Args:
        path: Folder of the store.
        progress: Called now and then.

    Raises:
        DataError: If there is no store, or its header cannot be used.
    """
    store = Store(path)
    faults = _Faults()
    labels: Counter[str] = Counter(dict.fromkeys(OWN_LABELS, 0))
    elements: Counter[int] = Counter()
    prints = []
    first = 0
    for shard in store.shards:
        digest = hashlib.sha256()
        _check_sizes(store, shard, first, faults)
        for index, record, sample in _records(store, shard, first, faults):
            digest.update(record)
            if sample is not None:
                labels.update(label_names(sample))
                elements.update(np.unique(sample.numbers).tolist())
            if (index + 1) % _EVERY == 0:
                progress(index + 1)
        prints.append(digest.hexdigest())
        faults.compare(
            f"the fingerprint of {shard.file}", prints[-1], shard.fingerprint
        )
        first += shard.n_systems
    progress(first)
    header = store.header
    faults.compare("the fingerprint", join_fingerprints(prints), header["fingerprint"])
    for key, counts in count_facts(labels, elements).items():
        faults.compare(f"the count of {key}", counts, header.get(key))
    return StoreCheck(
        path=path,
        n_systems=len(store),
        faults=tuple(faults.listed),
        n_faults=faults.n,
    )


def _records(
    store: Store, shard: ShardFacts, first: int, faults: _Faults
) -> Iterator[tuple[int, bytes, Sample | None]]:
    for index in range(first, first + shard.n_systems):
        record, sample = b"", None
        try:
            record = store.record(index)
            sample = decode_sample(record)
        except DataError as error:
            faults.add(f"record {index}: {error}")
        else:
            if sample.n_atoms != store.n_atoms[index]:
                faults.add(
                    f"record {index} has {sample.n_atoms} atoms, and n_atoms.npy says "
                    f"{store.n_atoms[index]}"
                )
        yield index, record, sample


def _check_sizes(store: Store, shard: ShardFacts, first: int, faults: _Faults) -> None:
    try:
        sizes = read_sizes(store.path.resolve() / shard.file, shard)
    except DataError as error:
        faults.add(str(error))
        return
    for name, found in sizes.items():
        listed = getattr(store, name)[first : first + shard.n_systems]
        if not np.array_equal(found, listed):
            faults.add(f"{name}.npy differs from what {shard.file} lists")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredStatistics:
    """Statistics of a store as counted now."""

    statistics: TaskStatistics
    """They."""
    differences: tuple[str, ...]
    """Numbers of the header that are others, in words."""


def measure_store(
    path: Path, *, progress: Progress = lambda _n: None
) -> MeasuredStatistics:
    """Count the statistics of a store again, in one pass.

    Args:
        path: Folder of the store.
        progress: Called now and then.

    Raises:
        DataError: If the store is absent or damaged.
    """
    store = Store(path)
    accumulator = StatisticsAccumulator()
    for index, sample in enumerate(store, start=1):
        accumulator.add(sample)
        if index % _EVERY == 0:
            progress(index)
    progress(len(store))
    found = accumulator.finish()
    said = TaskStatistics.from_json(store.header["statistics"])
    return MeasuredStatistics(
        statistics=found,
        differences=tuple(_differences(found.to_json(), said.to_json())),
    )


def _differences(found: Any, said: Any, name: str = "") -> Iterator[str]:
    """Yield what differs by more than rounding."""
    if isinstance(found, dict) and isinstance(said, dict):
        for key in dict.fromkeys([*found, *said]):
            path = f"{name}.{key}" if name else str(key)
            yield from _differences(found.get(key), said.get(key), path)
    elif isinstance(found, float) and isinstance(said, float):
        # A spread of nothing is rounding; a value of 1e-9 eV is nothing.
        if not math.isclose(found, said, **_SAME):
            yield f"{name} is {found:.12g}, and the header says {said:.12g}"
    elif found != said:
        yield f"{name} is {found}, and the header says {said}"


def statistics_text(path: Path, statistics: TaskStatistics) -> str:
    """Return the statistics of a store as tables of text.

    Args:
        path: Folder of the store.
        statistics: Of its systems.
    """
    header = read_header(path)
    elements = " ".join(chemical_symbols[z] for z in statistics.elements)
    lines = {
        "systems": str(statistics.n_systems),
        "atoms": f"{statistics.n_atoms} (mean {statistics.mean_atoms:.4g})",
        "elements": elements,
    }
    if statistics.n_energies:
        lines["sigma_E"] = f"{statistics.energy_std:.6g} eV, without references"
    if statistics.n_forces:
        lines["sigma_F"] = f"{statistics.force_rms:.6g} eV/Å"
    if statistics.stress_rms:
        lines["stress"] = f"{statistics.stress_rms:.6g} eV/Å³ (root mean square)"
    blocks = [
        label_table({path.name: header}),
        "\n".join(f"{key:10s}{text}" for key, text in lines.items()),
    ]
    if statistics.references:
        systems = header["element_systems"]
        rows = [("element", "reference eV", "systems")]
        rows += [
            (
                chemical_symbols[z],
                f"{e:.6f}",
                str(systems.get(str(z), 0)),
            )
            for z, e in statistics.references.items()
        ]
        blocks.append(text_table(rows, is_number=(False, True, True)))
    if statistics.targets:
        blocks.append(target_table(statistics.targets, header["units"]["targets"]))
    return "\n\n".join(blocks)
