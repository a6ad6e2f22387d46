"""Part of a set -> shards: read, exclude, split, write, and count, in one process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from jmp_calc.errors import DataError
from jmp_calc.files import replace_text, replacing
from jmp_train.data.exclusion import excluded_molecule, exclusion_reason
from jmp_train.data.hashed_split import split_of
from jmp_train.data.sample import Sample
from jmp_train.data.shards import RECORDS_PER_SHARD, ShardFacts
from jmp_train.data.source import Record, Skipped, Source
from jmp_train.data.splits import SPLITS, Split
from jmp_train.data.store import ShardSeries
from jmp_train.factor import MAX_ELEMENT
from jmp_train.normalize import StatisticsAccumulator
from jmp_train.workers import Pulse

NO_ELEMENT = f"an atomic number outside of 1 to {MAX_ELEMENT}"
"""Why a system with an atom of no element is skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartJob:
    """One part to be written."""

    source: int
    """Number of the set among those that are prepared."""
    number: int
    """Number of the part in the set."""
    part: str
    """What the set calls the part."""
    folder: Path
    """Where its shards go."""
    inputs: tuple[tuple[str, int, int], ...] = ()
    """Name, size and time of change of each file that it is read from."""
    exclude_rmd17: bool = False
    """Leave out systems that hold a molecule of rMD17."""
    per_shard: int = RECORDS_PER_SHARD
    """Largest number of records in a shard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartFacts:
    """A finished part; its statistics stay in its file until they are added up."""

    source: int
    """Number of the set among those that are prepared."""
    number: int
    """Number of the part in the set."""
    part: str
    """What the set calls the part."""
    shards: dict[Split, tuple[ShardFacts, ...]]
    """Its shards, in order, by the store that they belong to."""
    skipped: dict[str, int]
    """Systems that were left out, by reason."""


def describe_inputs(paths: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of change of files; those that are absent have none.

    Args:
        paths: Files that a part is read from.
    """
    found = []
    for path in paths:
        with suppress(OSError):
            facts = path.stat()
            found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def part_file(folder: Path, number: int) -> Path:
    """Return the file that says that a part is finished.

    Args:
        folder: Where its shards are.
        number: Number of the part in the set.
    """
    return folder / f"part-{number:06d}.json"


def skipped_file(folder: Path, number: int) -> Path:
    """Return the file that lists what was left out of a part, and why.

    Args:
        folder: Where its shards are.
        number: Number of the part in the set.
    """
    return folder / f"part-{number:06d}.skipped.tsv"


def load_part(job: PartJob) -> PartFacts | None:
    """Return what an earlier run finished; None: nothing, or of files that changed.

    Args:
        job: The part.
    """
    try:
        data = _load(job.folder, job.number)
        inputs = tuple(tuple(entry) for entry in data["inputs"])
        found = PartFacts(
            source=job.source,
            number=job.number,
            part=data["part"],
            shards={
                split: tuple(map(ShardFacts.from_json, data["shards"][split]))
                for split in SPLITS
                if split in data["shards"]
            },
            skipped=dict(data["skipped"]),
        )
    except (OSError, ValueError, KeyError, TypeError, DataError):
        # absent, or from a disk that lost its end: the part is read again
        return None
    is_same = found.part == job.part and inputs == job.inputs
    return found if is_same else None


def load_statistics(
    folder: Path, part: PartFacts, split: Split
) -> StatisticsAccumulator:
    """Return what was counted in a part.

    Args:
        folder: Where its shards are.
        part: The part.
        split: The store that is asked about.
    """
    data = _load(folder, part.number)["statistics"][split]
    return StatisticsAccumulator.from_json(data)


def _load(folder: Path, number: int) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(
        part_file(folder, number).read_text(encoding="utf-8")
    )
    return data


def write_part(sources: list[Source], job: PartJob, pulse: Pulse) -> PartFacts:
    """Write the shards of a part, and return what they hold.

    Records are written as they are read; at most one commit of them is in memory.

    Args:
        sources: The sets that are prepared.
        job: The part.
        pulse: Called for each record.

    Raises:
        DataError: If the part is damaged (the text names it), or nothing can be
            written.
    """
    source = sources[job.source]
    skipped: Counter[str] = Counter()
    with ExitStack() as stack:
        path = stack.enter_context(replacing(skipped_file(job.folder, job.number)))
        lines = stack.enter_context(path.open("w", encoding="utf-8"))
        outputs = {
            split: _Output(stack.enter_context(_series(job, split))) for split in SPLITS
        }
        try:
            for entry in source.read(job.part):
                pulse()
                kept = _checked(entry, job)
                if isinstance(kept, Skipped):
                    skipped[kept.reason] += 1
                    _list(lines, kept)
                else:
                    split = kept.split or split_of(kept.sample)
                    sample = replace(kept.sample, task=source.facts.name)
                    outputs[split].add(sample)
        except DataError as error:
            error.add_note(f"set {source.facts.name!r}, part {job.part!r}")
            raise
        written = {split: output for split, output in outputs.items() if output.n}
        shards = {split: output.finish() for split, output in written.items()}
    facts = {
        "part": job.part,
        "inputs": job.inputs,
        "skipped": dict(sorted(skipped.items())),
        "shards": {
            split: [shard.to_json() for shard in found]
            for split, found in shards.items()
        },
        "statistics": {
            split: output.statistics.to_json() for split, output in written.items()
        },
    }
    replace_text(part_file(job.folder, job.number), json.dumps(facts))
    return PartFacts(
        source=job.source,
        number=job.number,
        part=job.part,
        shards=shards,
        skipped=dict(sorted(skipped.items())),
    )


class _Output:
    """Shards and statistics of one split."""

    def __init__(self, series: ShardSeries) -> None:
        self.n = 0
        self.statistics = StatisticsAccumulator()
        self._series = series

    def add(self, sample: Sample) -> None:
        self._series.add(sample)
        self.statistics.add(sample)
        self.n += 1

    def finish(self) -> tuple[ShardFacts, ...]:
        return tuple(self._series.finish())


def _series(job: PartJob, split: Split) -> ShardSeries:
    prefix = f"part-{job.number:06d}-{split}"
    return ShardSeries(job.folder, prefix, per_shard=job.per_shard)


def _checked(entry: Record | Skipped, job: PartJob) -> Record | Skipped:
    if isinstance(entry, Skipped):
        return entry
    sample = entry.sample
    where = sample.name or sample.group
    if sample.numbers.min() < 1 or sample.numbers.max() > MAX_ELEMENT:
        return Skipped(where=where, reason=NO_ELEMENT)
    molecule = excluded_molecule(sample) if job.exclude_rmd17 else None
    if molecule is None:
        return entry
    return Skipped(where=where, reason=exclusion_reason(molecule))


def _list(lines: TextIO, skipped: Skipped) -> None:
    words = (" ".join(text.split()) for text in (skipped.where, skipped.reason))
    lines.write("\t".join(words) + "\n")
