"""Data sets -> stores: read, exclude, split, write, and take statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ase.data import chemical_symbols

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.data.datasets import DATASETS
from jmp_train.data.exclusion import is_excluded
from jmp_train.data.sample import Sample
from jmp_train.data.splits import SPLITS, Split, split_of
from jmp_train.data.store import StoreWriter, store_path
from jmp_train.data.tasks import TASKS, TaskInfo
from jmp_train.normalize import StatisticsAccumulator, TaskStatistics

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedStore:
    """One store that :func:`prepare` wrote."""

    task: str
    """Key of ``TASKS``."""
    split: Split
    """Part."""
    path: Path
    """The file."""
    n_excluded: int
    """Samples of the whole task that hold a molecule kept for tests."""
    statistics: TaskStatistics
    """Statistics of this part; training uses those of ``train`` for all parts."""


def task_samples(task: TaskInfo, root: Path) -> Iterator[Sample]:
    """Yield all samples of a task, excluded ones too, in a fixed order.

    Args:
        task: Row of ``TASKS``.
        root: Data root.
    """
    for name in task.datasets:
        for sample in DATASETS[name].read(root):
            yield replace(sample, task=task.name)


def prepare(
    root: Path,
    out: Path,
    *,
    tasks: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[PreparedStore]:
    """Write one store per task and part.

    Args:
        root: Data root, one folder per data set.
        out: Folder for the stores; existing ones are replaced.
        tasks: Keys of ``TASKS``; None: all.
        progress: Called with a line of text after each task.

    Raises:
        ArgumentError: If a task is unknown.
        DataError: If a data set is missing, or a part would be empty.
    """
    names = list(TASKS) if tasks is None else list(tasks)
    for name in names:
        if name not in TASKS:
            raise ArgumentError(
                f"unknown task {name!r}; choose from {', '.join(TASKS)}"
                + did_you_mean(name, TASKS)
            )
    prepared: list[PreparedStore] = []
    for name in names:
        written = _prepare_task(TASKS[name], root, out)
        prepared.extend(written)
        if progress is not None:
            counts = ", ".join(f"{p.statistics.n_systems} {p.split}" for p in written)
            progress(f"{name}: {counts}; {written[0].n_excluded} excluded")
    return prepared


def _prepare_task(task: TaskInfo, root: Path, out: Path) -> list[PreparedStore]:
    statistics = {split: StatisticsAccumulator() for split in SPLITS}
    n_excluded = 0
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(StoreWriter(store_path(out, task.name, split)))
            for split in SPLITS
        }
        for sample in task_samples(task, root):
            if is_excluded(sample):
                n_excluded += 1
                continue
            split = split_of(sample)
            writers[split].add(sample)
            statistics[split].add(sample.numbers, sample.energy, sample.forces)
        finished = {split: statistics[split].finish() for split in SPLITS}
        for split in SPLITS:
            writers[split].finish(_facts(task, split, finished[split]))
    return [
        PreparedStore(
            task=task.name,
            split=split,
            path=store_path(out, task.name, split),
            n_excluded=n_excluded,
            statistics=finished[split],
        )
        for split in SPLITS
    ]


def _facts(
    task: TaskInfo, split: Split, statistics: TaskStatistics
) -> dict[str, object]:
    return {
        "task": task.name,
        "split": split,
        "datasets": list(task.datasets),
        "level_of_theory": task.level_of_theory,
        "licence": task.licence,
        "statistics": statistics.to_json(),
    }


def label_table(prepared: Sequence[PreparedStore]) -> str:
    """Return the stores and their labels as a table of text.

    Args:
        prepared: What :func:`prepare` returned.
    """
    rows = [("task", "part", "systems", "atoms", "mean", "sigma_E eV", "sigma_F eV/Å")]
    for store in prepared:
        s = store.statistics
        rows.append(
            (
                store.task,
                store.split,
                str(s.n_systems),
                str(s.n_atoms),
                f"{s.mean_atoms:.1f}",
                f"{s.energy_std:.4f}",
                f"{s.force_rms:.4f}",
            )
        )
    elements = ["elements"]
    elements += [
        " ".join(chemical_symbols[z] for z in store.statistics.elements)
        for store in prepared
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=True)), last])
        for row, last in zip(rows, elements, strict=True)
    )
