"""The excerpts that jmp-nano learned from, or the next one learns from, by task.

The source is a folder with one folder per data set. The molecules of rMD17 are always
left out, and the parts follow from a hash of each structure or group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.data.datasets import DATASETS
from jmp_train.data.exclusion import excluded_molecule, exclusion_reason
from jmp_train.data.layouts.ase_files import FAULTS
from jmp_train.data.sample import Sample
from jmp_train.data.source import (
    FamilyInfo,
    FamilyOptions,
    Origin,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.tasks import TASKS


@dataclass(frozen=True, kw_only=True, slots=True)
class NanoSource:
    """The data sets of one task."""

    facts: SetFacts
    """What the sets are together."""
    root: Path
    """Folder with one folder per data set."""
    datasets: tuple[str, ...]
    """Keys of ``DATASETS``."""

    def parts(self) -> list[str]:
        """Return the names of the data sets."""
        return list(self.datasets)

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return all files of the folder of a data set."""
        folder = self.root / DATASETS[part].folder
        return tuple(sorted(path for path in folder.glob("*") if path.is_file()))

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the samples of a data set.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If a file is absent, empty or damaged.
        """
        for index, sample in enumerate(self._samples(part)):
            molecule = excluded_molecule(sample)
            if molecule is None:
                yield Record(sample=sample, split=None)
            else:
                where = f"{part}/{sample.group}/{index}"
                yield Skipped(where=where, reason=exclusion_reason(molecule))

    def _samples(self, part: str) -> Iterator[Sample]:
        try:
            yield from DATASETS[part].read(self.root)
        except FAULTS as error:
            raise DataError(
                f"data set {part!r} in {self.root / DATASETS[part].folder} cannot be "
                f"read ({type(error).__name__}: {error}); a file is cut off or "
                "damaged, so fetch it again"
            ) from error


def open_nano(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per task.

    Args:
        source: Folder with one folder per data set.
        options: ``variant`` is a task; None: all.

    Raises:
        ArgumentError: If the task is unknown.
    """
    if options.variant is not None and options.variant not in TASKS:
        raise ArgumentError(
            f"unknown task {options.variant!r} of the set 'nano'; choose from "
            f"{', '.join(TASKS)}" + did_you_mean(options.variant, TASKS)
        )
    names = list(TASKS) if options.variant is None else [options.variant]
    return [
        NanoSource(facts=_facts(name), root=source, datasets=TASKS[name].datasets)
        for name in names
    ]


def _facts(name: str) -> SetFacts:
    task = TASKS[name]
    infos = [DATASETS[dataset] for dataset in task.datasets]
    return SetFacts(
        name=name,
        title=", ".join(info.title for info in infos),
        domain=task.domain,
        level_of_theory=task.level_of_theory,
        licence=task.licence,
        citation="; ".join(info.citation for info in infos),
        coverage=task.coverage,
        is_default=task.is_default,
        origins=tuple(
            Origin(
                title=info.title,
                level_of_theory=info.level_of_theory,
                licence=info.licence,
                citation=info.citation,
            )
            for info in infos
        ),
    )


FAMILY = FamilyInfo(
    name="nano",
    title="Excerpts that the bundled model jmp-nano learned from",
    open=open_nano,
    formats="a folder with one folder per data set, with the files as published",
    variants=tuple(TASKS),
    options=("variant",),
)
"""The data of jmp-nano."""
