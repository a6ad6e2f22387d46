"""MatBench v0.1: crystals with one property each, in five official folds.

The official test part of a fold tests. Of its official training part, in the published
random order, the first 90 % train and the rest validates.

Source:
    Training specification, 3.5 and 5.2; Dunn et al., npj Comput. Mater. 6, 138 (2020).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.data.families.labels import NO_LABEL, NOT_FINITE
from jmp_train.data.families.molecules import choose_variants
from jmp_train.data.layouts.json_rows import JsonStream, open_json
from jmp_train.data.layouts.parts import frame_parts, part_range
from jmp_train.data.layouts.structure_dict import crystal_sample
from jmp_train.data.published import MATBENCH
from jmp_train.data.published_splits import shuffled
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.splits import Split

FOLDS = "matbench_v0.1_validation.json"
"""File of the official folds."""

N_FOLDS = 5
"""Number of the official folds."""

TRAIN_FRACTION = 0.9
"""Part of the official training part that trains; the rest validates."""

_URL = "https://ml.materialsproject.org/projects"
_FOLDS_URL = (
    f"https://raw.githubusercontent.com/materialsproject/matbench/main/matbench/{FOLDS}"
)
_FILE = re.compile(r"matbench_(?P<task>\w+)\.json(\.gz)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatbenchSource:
    """One task in one fold."""

    facts: SetFacts
    """What the set is."""
    path: Path
    """``matbench_TASK.json.gz``."""
    task: str
    """Key of ``MATBENCH``."""
    splits: tuple[Split, ...]
    """Part of each row."""

    def parts(self) -> list[str]:
        """Return ranges of rows; to read a later one, those before it are passed."""
        return frame_parts(len(self.splits))

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the one file of all parts."""
        del part
        return (self.path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the rows of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is cut off, or a row is damaged or holds a structure
                with partly occupied sites.
        """
        rows = part_range(part)
        n_rows, column = 0, MATBENCH[self.task].column
        with open_json(self.path) as stream:
            for where, row in _data(stream):
                if n_rows == len(self.splits):
                    raise self._wrong_count("more")
                if n_rows in rows:
                    yield self._record(row, n_rows, f"{where} of {self.path}", column)
                n_rows += 1
                # The last part reads on, to see that there are no more rows.
                if n_rows == rows.stop < len(self.splits):
                    return
        if n_rows < len(self.splits):
            raise self._wrong_count(str(n_rows))

    def _wrong_count(self, n_rows: str) -> DataError:
        return DataError(
            f"{self.path} has {n_rows} rows; its index has {len(self.splits)}; fetch "
            "it again"
        )

    def _record(
        self, row: Any, index: int, where: str, column: str
    ) -> Record | Skipped:
        name = f"mb-{self.task}-{index + 1:04d}"
        if not isinstance(row, list) or len(row) != 2:
            raise DataError(f"{where} must be a structure and a value")
        structure, value = row
        if value is None:
            return Skipped(where=name, reason=NO_LABEL)
        if not isinstance(value, int | float):
            raise DataError(f"{where}: {column} is {value!r}; it must be a number")
        if not math.isfinite(value):
            return Skipped(where=name, reason=NOT_FINITE)
        sample = crystal_sample(
            structure,
            where,
            source=self.facts.name,
            group=name,
            name=name,
            targets={column: float(value)},
        )
        return Record(sample=sample, split=self.splits[index])


def _data(stream: JsonStream) -> Iterator[tuple[str, Any]]:
    for key in stream.keys("the table"):
        if key == "data":
            yield from stream.items("row")
            return
        stream.value(f"{key!r}")


def open_matbench(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per task, in one fold.

    Args:
        source: Folder of ``matbench_TASK.json.gz`` files and of the file of the
            official folds, or one of the tasks with that file beside it.
        options: ``variant`` is the task; None: all that are there. ``fold`` is the
            official fold, 0 to 4.

    Raises:
        ArgumentError: If there is no such task or fold.
        DataError: If a file is absent, damaged, or does not fit the folds.
    """
    if not 0 <= options.fold < N_FOLDS:
        raise ArgumentError(
            f"fold is {options.fold}; MatBench has the folds 0 to {N_FOLDS - 1}"
        )
    files = _find_tasks(source, options.variant)
    tasks = choose_variants(
        options.variant, files, what="task of MatBench", source=source
    )
    folder = source.parent if source.is_file() else source
    folds = _read_folds(_find_folds(folder), tasks, options.fold)
    return [
        MatbenchSource(
            facts=_facts(task, options.fold),
            path=files[task],
            task=task,
            splits=_divide(files[task], task, folds[task]),
        )
        for task in tasks
    ]


def _find_tasks(source: Path, variant: str | None) -> dict[str, Path]:
    if variant is not None and variant not in MATBENCH:
        raise ArgumentError(
            f"unknown task {variant!r} of MatBench; choose one of "
            f"{', '.join(MATBENCH)}" + did_you_mean(variant, MATBENCH)
        )
    if source.is_file():
        match = _FILE.fullmatch(source.name)
        task = variant or (match["task"] if match else "")
        if task not in MATBENCH:
            raise DataError(
                f"{source} is not called after a task of MatBench, such as "
                "matbench_phonons.json.gz; say which task it is"
            )
        return {task: source}
    if not source.is_dir():
        raise DataError(f"there is no {source}; give {FAMILY.formats}")
    found = {}
    for path in sorted(source.rglob("matbench_*.json*")):
        match = _FILE.fullmatch(path.name)
        if match and match["task"] in MATBENCH:
            found[match["task"]] = path
    return found


def _find_folds(folder: Path) -> Path:
    found = sorted([*folder.rglob(FOLDS), *folder.rglob(f"{FOLDS}.gz")])
    if not found:
        raise DataError(
            f"{folder} has no {FOLDS}; the folds must be the official ones, so fetch "
            f"it from {_FOLDS_URL}"
        )
    return found[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fold:
    """Rows of one task in the order of the file of folds, from 0."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def _read_folds(path: Path, tasks: Sequence[str], fold: int) -> dict[str, _Fold]:
    """Return one fold of each task; the file holds them all and is read in pieces."""
    wanted = {f"matbench_{task}": task for task in tasks}
    folds: dict[str, _Fold] = {}
    with open_json(path) as stream:
        for key in stream.keys("the folds"):
            if key != "splits":
                stream.value(f"{key!r}")
                continue
            for name in stream.keys("'splits'"):
                value = stream.value(f"the folds of {name}")
                if name in wanted:
                    folds[wanted[name]] = _fold(value, fold, f"{name} of {path}")
    missing = [task for task in tasks if task not in folds]
    if missing:
        raise DataError(f"{path} has no folds of the task matbench_{missing[0]}")
    return folds


def _fold(value: Any, fold: int, where: str) -> _Fold:
    try:
        parts = value[f"fold_{fold}"]
        train, test = (
            tuple(_row(name, where) for name in parts[part])
            for part in ("train", "test")
        )
    except (KeyError, TypeError):
        raise DataError(
            f"fold_{fold} of {where} must have lists 'train' and 'test'"
        ) from None
    return _Fold(train=train, test=test)


def _row(name: str, where: str) -> int:
    # Zeros before the number are as many as the size of the task asks for.
    number = str(name).rpartition("-")[2]
    if not number.isdigit() or int(number) < 1:
        raise DataError(f"{where}: {name!r} is not an id such as mb-phonons-0001")
    return int(number) - 1


def _divide(path: Path, task: str, fold: _Fold) -> tuple[Split, ...]:
    n_rows = _count_rows(path, task)
    splits: list[Split | None] = [None] * n_rows
    order = shuffled(len(fold.train)).tolist()
    n_train = int(TRAIN_FRACTION * len(order))
    labels: list[tuple[int, Split]] = [(row, "test") for row in fold.test]
    labels += [
        (fold.train[place], "train" if rank < n_train else "val")
        for rank, place in enumerate(order)
    ]
    for row, split in labels:
        if row >= n_rows or splits[row] is not None:
            problem = "is not in the file" if row >= n_rows else "is in two parts"
            raise DataError(f"row {row + 1} of {path} {problem}, by the official folds")
        splits[row] = split
    chosen = tuple(split for split in splits if split is not None)
    if len(chosen) != n_rows:
        raise DataError(
            f"the official folds have {len(chosen)} rows and {path} has {n_rows}; they "
            "do not belong together"
        )
    return chosen


def _count_rows(path: Path, task: str) -> int:
    """Return the length of the index, which comes before the rows."""
    n_rows, wanted = None, ["structure", MATBENCH[task].column]
    with open_json(path) as stream:
        for key in stream.keys("the table"):
            if key == "data":
                break
            value = stream.value(f"{key!r}")
            if key == "columns" and value != wanted:
                raise DataError(
                    f"{path} has the columns {value}; task {task!r} has {wanted}"
                )
            if key == "index":
                n_rows = len(value)
    if n_rows is None:
        raise DataError(f"{path} has no 'index' before its 'data'; fetch it again")
    return n_rows


def _facts(task: str, fold: int) -> SetFacts:
    published = MATBENCH[task]
    return SetFacts(
        name=f"matbench-{task}-fold{fold}",
        title=f"MatBench {task}, fold {fold}",
        domain="bulk",
        level_of_theory="density functional theory (see MatBench)",
        licence="CC-BY-4.0 (not verified)",
        citation="Dunn et al., npj Comput. Mater. 6, 138 (2020)",
        coverage=f"the crystals of MatBench {task}",
        target_units={published.column: published.unit},
    )


FAMILY = FamilyInfo(
    name="matbench",
    title="MatBench v0.1",
    open=open_matbench,
    downloads=(
        *(
            Download(
                url=f"{_URL}/matbench_{task}.json.gz", file=f"matbench_{task}.json.gz"
            )
            for task in MATBENCH
        ),
        Download(url=_FOLDS_URL, file=FOLDS),
    ),
    licence="CC-BY-4.0 (not verified)",
    formats=f"a folder of matbench_TASK.json.gz files and of {FOLDS}",
    variants=tuple(MATBENCH),
    options=(
        "variant",
        "fold",
    ),
)
"""MatBench."""
