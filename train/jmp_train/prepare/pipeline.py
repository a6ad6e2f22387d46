"""Sets -> stores: parts are read by all cores, resumed after a kill, then joined."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.header import check_replaceable
from jmp_train.data.shards import RECORDS_PER_SHARD
from jmp_train.data.source import SetFacts, Source
from jmp_train.data.splits import SPLITS, Split
from jmp_train.data.store import store_path
from jmp_train.normalize import StatisticsAccumulator
from jmp_train.prepare.join import (
    JoinJob,
    has_joined,
    header_facts,
    join_jobs,
    publish_store,
    run_join,
)
from jmp_train.prepare.part import (
    PartFacts,
    PartJob,
    describe_inputs,
    load_part,
    load_statistics,
    write_part,
)
from jmp_train.workers import Workers, available_cores

_NAME = re.compile(r"[\w+-][\w.+-]*")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareProgress:
    """How far a preparation is."""

    stage: str
    """``read`` or ``join``."""
    done: int
    """Parts (shards) that are finished."""
    total: int
    """All of them."""
    n_resumed: int
    """Parts that an earlier run finished."""
    n_systems: int
    """Systems read in this run."""


Progress = Callable[[PrepareProgress], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedStore:
    """One store that :func:`prepare` wrote."""

    split: Split
    """Part."""
    path: Path
    """Its folder."""
    header: dict[str, Any]
    """Its header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSet:
    """What :func:`prepare` made of one set."""

    facts: SetFacts
    """The set."""
    stores: tuple[PreparedStore, ...]
    """Its stores; a part without systems has none."""
    skipped: dict[str, int]
    """Systems that were left out, by reason."""
    notes: tuple[str, ...]
    """What a user should know about the data, as sentences."""
    report: Path
    """Folder of its report."""


def prepare(
    sources: Sequence[Source],
    out: Path,
    *,
    processes: int | None = None,
    exclude_rmd17: bool = False,
    progress: Progress | None = None,
    per_shard: int = RECORDS_PER_SHARD,
    has_picture: bool = True,
) -> list[PreparedSet]:
    """Write the stores of several sets, and a report about each.

    A run that was killed is taken up again by the same call: parts that are finished
    are not read again. The stores do not depend on the number of processes. Stores of
    the same name are replaced when the new ones are complete.

    Args:
        sources: The sets; their names differ.
        out: Folder for the stores.
        processes: Processes that read; None: one for each core.
        exclude_rmd17: Leave out systems that hold a molecule of rMD17.
        progress: Called now and then.
        per_shard: Largest number of records in a shard.
        has_picture: Draw the distributions for the report.

    Raises:
        ArgumentError: If names are not usable, the folder cannot be written to, or
            another process is preparing into it.
        DataError: If a part is damaged or the disk is full; what is finished is kept.
    """
    _check_names(sources, out)
    with _locked(out), _named_faults(out):
        works = [
            _Work(number, source, out, exclude_rmd17=exclude_rmd17, per_shard=per_shard)
            for number, source in enumerate(sources)
        ]
        n_parts = sum(len(work.jobs) for work in works)
        most = min(processes or available_cores(), max(n_parts, 1))
        show = _Show(progress, n_parts)
        with Workers(most, list(sources), on_count=show.count) as workers:
            _read_parts(workers, works, show)
            show.begin("join", sum(len(j) for w in works for j in w.joins.values()))
            for work in works:
                for jobs in work.joins.values():
                    for _ in workers.run(run_join, jobs):
                        show.step()
        return [work.publish(has_picture=has_picture) for work in works]


def _read_parts(workers: Workers, works: Sequence[_Work], show: _Show) -> None:
    jobs = [job for work in works for job in work.resume()]
    show.begin("read", show.n_parts, n_resumed=show.n_parts - len(jobs))
    try:
        for found in workers.run(write_part, jobs):
            works[found.source].finished[found.number] = found
            show.step()
    except DataError as error:
        n_finished = sum(len(work.finished) for work in works)
        error.add_note(
            f"{n_finished} of {show.n_parts} parts are finished and kept; repair the "
            "input and run the same command again"
        )
        raise


class _Work:
    """One set on its way into its stores."""

    def __init__(
        self,
        number: int,
        source: Source,
        out: Path,
        *,
        exclude_rmd17: bool,
        per_shard: int,
    ) -> None:
        self.source = source
        self.out = out
        self.per_shard = per_shard
        settings = f"{source!r} {exclude_rmd17} {per_shard}"
        key = hashlib.sha256(_ADDRESS.sub("", settings).encode()).hexdigest()[:12]
        # Unfinished parts of other settings are left alone.
        self.folder = out / f".{source.facts.name}-{key}.work"
        self.folder.mkdir(exist_ok=True)
        self.jobs = [
            PartJob(
                source=number,
                number=index,
                part=part,
                folder=self.folder,
                inputs=describe_inputs(source.inputs(part)),
                exclude_rmd17=exclude_rmd17,
                per_shard=per_shard,
            )
            for index, part in enumerate(source.parts())
        ]
        self.finished: dict[int, PartFacts] = {}

    def resume(self) -> list[PartJob]:
        """Take over the parts that an earlier run finished; return the others."""
        found = {job.number: load_part(job) for job in self.jobs}
        if None in found.values() and has_joined(self.folder):
            # A file has changed since all parts were finished, and what the others
            # held is in shards that hold the old content of this one, too.
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            found = dict.fromkeys(found)
        self.finished = {n: part for n, part in found.items() if part is not None}
        return [job for job in self.jobs if job.number not in self.finished]

    @property
    def parts(self) -> list[PartFacts]:
        """The finished parts, in order."""
        return [self.finished[number] for number in sorted(self.finished)]

    @property
    def joins(self) -> dict[Split, list[JoinJob]]:
        """The shards of each store, once all parts are finished."""
        return {split: jobs for split in SPLITS if (jobs := self._join_jobs(split))}

    def _join_jobs(self, split: Split) -> list[JoinJob]:
        pieces = [
            (self.folder / shard.file, shard)
            for part in self.parts
            for shard in part.shards.get(split, ())
        ]
        return join_jobs(pieces, self.folder / split, per_shard=self.per_shard)

    def publish(self, *, has_picture: bool) -> PreparedSet:
        """Put the stores and the report in their places."""
        from jmp_train.prepare.report import write_report

        skipped: Counter[str] = Counter()
        for part in self.parts:
            skipped.update(part.skipped)
        facts = self.source.facts
        joins = self.joins
        if not joins:
            raise DataError(
                f"set {facts.name!r} has no systems ({sum(skipped.values())} were "
                "skipped"
                + "".join(f"; {n}: {reason}" for reason, n in skipped.items())
                + "); check the source"
            )
        prepared = PreparedSet(
            facts=facts,
            stores=tuple(self._publish(split, jobs) for split, jobs in joins.items()),
            skipped=dict(skipped.most_common()),
            # only sets that had to guess have notes
            notes=tuple(getattr(self.source, "notes", ())),
            report=self.out / f"{facts.name}-report",
        )
        write_report(prepared, self.folder, has_picture=has_picture)
        shutil.rmtree(self.folder, ignore_errors=True)
        return prepared

    def _publish(self, split: Split, jobs: list[JoinJob]) -> PreparedStore:
        total = StatisticsAccumulator()
        for part in self.parts:
            if split in part.shards:
                total.merge(load_statistics(self.folder, part, split))
        facts = self.source.facts
        path = store_path(self.out, facts.name, split)
        header = publish_store(
            jobs,
            path,
            header_facts(facts, split, total),
            target_units=facts.target_units,
        )
        return PreparedStore(split=split, path=path, header=header)


class _Show:
    """Turns what happens into progress."""

    def __init__(self, progress: Progress | None, n_parts: int) -> None:
        self.n_parts = n_parts
        self._progress = progress
        self._stage, self._done, self._total, self._n_resumed = "read", 0, n_parts, 0
        self._n_systems = 0

    def begin(self, stage: str, total: int, *, n_resumed: int = 0) -> None:
        self._stage, self._total = stage, total
        self._done = self._n_resumed = n_resumed
        self._tell()

    def step(self) -> None:
        self._done += 1
        self._tell()

    def count(self, n_systems: int) -> None:
        if self._stage == "read":
            self._n_systems = n_systems
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(
                PrepareProgress(
                    stage=self._stage,
                    done=self._done,
                    total=self._total,
                    n_resumed=self._n_resumed,
                    n_systems=self._n_systems,
                )
            )


def _check_names(sources: Sequence[Source], out: Path) -> None:
    names = [source.facts.name for source in sources]
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise ArgumentError(
                f"a set is called {name!r}; its name must be letters, digits, . _ + -"
            )
        if names.count(name) > 1:
            raise ArgumentError(
                f"{names.count(name)} sets are called {name!r}; prepare them into "
                "different folders"
            )
        for split in SPLITS:
            check_replaceable(store_path(out, name, split))


@contextmanager
def _named_faults(out: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of a reader, not of the system
            raise
        raise DataError(
            f"cannot go on with {error.filename or out} "
            f"({error.strerror or error}); check that there is space left and that "
            "the files can be read and written, then run the same command again; what "
            "is finished is kept"
        ) from error


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other preparations out of a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".prepare.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise ArgumentError(
            f"another process is preparing data into {out}; wait for it, or choose "
            "another folder"
        ) from None
    except OSError as error:
        raise ArgumentError(
            f"cannot write into {out} ({error.strerror}); choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
