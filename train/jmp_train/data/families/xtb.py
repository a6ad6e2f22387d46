"""Data made by ``jmp-train data make``: one set per task, divided by molecules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.data.exclusion import excluded_molecule, exclusion_reason
from jmp_train.data.families.labels import too_large
from jmp_train.data.layouts.ase_files import read_frames
from jmp_train.data.making_options import LABELLED
from jmp_train.data.molecule_split import split_of_molecules
from jmp_train.data.sample import molecule_sample
from jmp_train.data.source import (
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.tasks import MADE_TASKS

MAX_FORCE = 30.0
"""Largest force on an atom that is kept, eV/Å, unless the user says otherwise: beyond
it, atoms are so close that the method itself has no meaning, and one such structure
would outweigh hundreds of others in training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeSource:
    """The labelled files of one task."""

    facts: SetFacts
    """What the set is."""
    folder: Path
    """Where the labelled files are."""
    max_force: float
    """Largest force on an atom that is kept, eV/Å."""

    def parts(self) -> list[str]:
        """Return the names of the files."""
        return [path.name for path in sorted(self.folder.glob("*.extxyz"))]

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the file of a part."""
        return (self.folder / part,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the structures of a file.

        Their source names task and origin, such as ``xtb, hot``, so that errors of hot
        molecules are reported beside those near equilibrium; names are
        ``ORIGIN/STEP/NUMBER``.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is damaged, or a structure has no labels.
        """
        step = part.removesuffix(".extxyz")
        for index, atoms in enumerate(read_frames(self.folder / part)):
            where = f"frame {index} of {self.folder / part}"
            try:
                energy = float(atoms.info["REF_energy"])
                forces = np.asarray(atoms.arrays["REF_forces"], dtype=np.float64)
                group, origin = str(atoms.info["group"]), str(atoms.info["origin"])
            except KeyError as error:
                raise DataError(f"{where} has no {error}; make it again") from None
            sample = molecule_sample(
                atoms.numbers,
                atoms.positions,
                energy=energy,
                forces=forces,
                source=f"{self.facts.name}, {origin}",
                group=group,
                name=f"{origin}/{step}/{index}",
            )
            reason = too_large(forces, self.max_force)
            if not reason:
                molecule = excluded_molecule(sample)
                reason = "" if molecule is None else exclusion_reason(molecule)
            if reason:
                yield Skipped(where=sample.name, reason=reason)
            else:
                yield Record(sample=sample, split=split_of_molecules(group))


def open_xtb(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per task that has labelled files.

    Args:
        source: Folder that ``jmp-train data make`` wrote.
        options: ``variant`` is a task, None: all; ``max_force``.

    Raises:
        ArgumentError: If the task is unknown.
        DataError: If there are no labelled files.
    """
    if options.variant is not None and options.variant not in MADE_TASKS:
        raise ArgumentError(
            f"unknown task {options.variant!r} of the set 'xtb'; choose from "
            f"{', '.join(MADE_TASKS)}" + did_you_mean(options.variant, MADE_TASKS)
        )
    names = list(MADE_TASKS) if options.variant is None else [options.variant]
    found: list[Source] = [
        MadeSource(
            facts=_facts(name),
            folder=source / LABELLED / name,
            max_force=MAX_FORCE if options.max_force is None else options.max_force,
        )
        for name in names
        if any((source / LABELLED / name).glob("*.extxyz"))
    ]
    if not found:
        raise DataError(
            f"there are no labelled files in {source / LABELLED}; make them with "
            "'jmp-train data make xtb --out FOLDER'"
        )
    return found


def _facts(name: str) -> SetFacts:
    task = MADE_TASKS[name]
    return SetFacts(
        name=name,
        title=name,
        domain=task.domain,
        level_of_theory=task.level_of_theory,
        licence=task.licence,
        citation="Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019)",
        coverage=task.coverage,
        is_default=task.is_default,
    )


FAMILY = FamilyInfo(
    name="xtb",
    title="GFN2-xTB molecules and reactions made by 'jmp-train data make xtb'",
    open=open_xtb,
    formats="the folder that 'jmp-train data make xtb' wrote",
    variants=tuple(MADE_TASKS),
    options=("variant", "max_force"),
)
"""Data made here."""
