"""User data: anything with labels that ASE reads.

The files are read twice: once to see which labels there are, which frames belong to
which part and which are free atoms, and once, part by part, for the store.

Parts are, in this order of preference: what the user says (``split``); ``split`` in the
``info`` of all frames; files called ``train``, ``val`` and ``test``; or 80/10/10 by the
hash of the structure, of blocks of frames, or of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from jaxtyping import Int

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.tags import guess_tags
from jmp_calc.errors import DataError, UnsupportedSystemError
from jmp_train.data.families.labels import Labels, set_name, too_large, with_unit
from jmp_train.data.families.user_labels import LabelKeys, choose_keys, frame_labels
from jmp_train.data.families.user_scan import FREE_ATOM, is_free_atom, scan_files
from jmp_train.data.families.user_splits import divide, named_parts
from jmp_train.data.layouts.ase_files import find_files, named_values, read_frames
from jmp_train.data.layouts.parts import frame_parts, part_range
from jmp_train.data.sample import Sample
from jmp_train.data.source import (
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.splits import Split

NO_GEOMETRY = "atoms overlap, a position is not finite, or the cell has no volume"
"""Why a frame without a sensible geometry is skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSource:
    """Frames of files that ASE reads."""

    facts: SetFacts
    """What the set is."""
    files: tuple[Path, ...]
    """The files; their frames are numbered one file after the other."""
    splits: tuple[tuple[Split, ...], ...]
    """Part of each frame of each file."""
    groups: tuple[tuple[str, ...], ...]
    """What must not be split, likewise."""
    keys: LabelKeys
    """Names of the labels."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""
    notes: tuple[str, ...] = ()
    """What a user should know about the data."""
    is_divided: bool = True
    """Whether the user or the data say which frame is in which part; False: the hash
    decides."""

    def parts(self) -> list[str]:
        """Return ranges of frames of all files."""
        return frame_parts(sum(len(splits) for splits in self.splits))

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the files that hold frames of a part."""
        rows, ends = part_range(part), self._ends()
        starts = (0, *ends[:-1])
        return tuple(
            path
            for path, start, end in zip(self.files, starts, ends, strict=True)
            if start < rows.stop and rows.start < end
        )

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the frames of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If a file is damaged, has changed since, or a label has a wrong
                shape.
        """
        rows = part_range(part)
        for place, end in enumerate(self._ends()):
            first = end - len(self.splits[place])
            start, stop = max(rows.start, first) - first, min(rows.stop, end) - first
            if start < stop:
                yield from self._read_file(place, start, stop)

    def _ends(self) -> list[int]:
        """Return the number of the first frame behind each file."""
        return list(accumulate(len(splits) for splits in self.splits))

    def _read_file(
        self, place: int, start: int, stop: int
    ) -> Iterator[Record | Skipped]:
        path, index = self.files[place], start
        for atoms in read_frames(path, slice(start, stop)):
            yield self._frame(atoms, place, index)
            index += 1
        if index != stop:
            raise DataError(
                f"{path} now ends after {index} frames and had {stop}; it changed "
                "while it was read"
            )

    def _frame(self, atoms: Atoms, place: int, index: int) -> Record | Skipped:
        path = self.files[place]
        name = f"{path.name}/{index}"
        if len(atoms) == 0:
            return Skipped(where=name, reason="no atoms")
        if is_free_atom(atoms):
            return Skipped(where=name, reason=FREE_ATOM)
        where = f"frame {index} of {path}"
        labels = frame_labels(atoms, named_values(atoms), self.keys, where)
        reason = labels.fault or too_large(labels.forces, self.max_force)
        if reason:
            return Skipped(where=name, reason=reason)
        try:
            tags = frame_tags(atoms)
        except UnsupportedSystemError:
            return Skipped(where=name, reason=NO_GEOMETRY)
        sample = _sample(
            atoms,
            labels,
            tags,
            source=self.facts.name,
            group=self.groups[place][index],
            name=name,
        )
        return Record(sample=sample, split=self.splits[place][index])


def frame_tags(atoms: Atoms) -> Int[np.ndarray, " atoms"]:
    """Return tags as the calculator guesses them; ``atoms.get_tags()`` is not read.

    ASE's builders number layers the other way round than OC20 does, so tags in files
    cannot be told apart.

    Args:
        atoms: A frame.

    Raises:
        UnsupportedSystemError: If its geometry makes no sense.
    """
    network = find_bonds(atoms)
    return guess_tags(atoms, network, classify(atoms, network))


def _sample(
    atoms: Atoms,
    labels: Labels,
    tags: Int[np.ndarray, " atoms"],
    *,
    source: str,
    group: str,
    name: str,
) -> Sample:
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.get_indices()] = True
    is_periodic = bool(atoms.pbc.any())
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    return Sample(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=cell.copy() if is_periodic else np.zeros((3, 3)),
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        targets=labels.targets,
        tags=tags,
        fixed=fixed,
        source=source,
        group=group,
        name=name,
    )


def open_user(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the one set of a file or folder.

    Args:
        source: A file of any format that ASE reads, or a folder of such files.
        options: See :func:`open_user_files`.

    Raises:
        DataError: As there.
    """
    return [open_user_files([source], options)]


def open_user_files(sources: Sequence[Path], options: FamilyOptions) -> UserSource:
    """Return the frames of several files and folders as one set.

    Args:
        sources: Files and folders.
        options: ``energy_key``, ``forces_key``, ``stress_key`` and ``targets`` name
            the labels; ``split`` and ``split_by`` divide the frames; ``variant`` names
            the set; ``level_of_theory`` is the method.

    Raises:
        DataError: If there are no files or frames, a file is damaged, a label that was
            asked for is in no frame, or parts are named in some frames only.
    """
    files = find_files(sources)
    scan = scan_files(files)
    keys = choose_keys(scan.counts, scan.n_frames, options)
    name = set_name(sources[0], options.variant)
    return UserSource(
        facts=SetFacts(
            name=name,
            title=name,
            domain=scan.domain,
            level_of_theory=options.level_of_theory or "not stated",
            licence="not stated",
            citation="",
            coverage=f"the systems of {name}",
            target_units=dict(with_unit(target) for target in options.targets),
            atom_energies=scan.atom_energies(keys.energy),
        ),
        files=tuple(files),
        splits=divide(scan.files, options),
        groups=tuple(
            tuple(file.group(index, options) for index in range(len(file.structures)))
            for file in scan.files
        ),
        keys=keys,
        max_force=options.max_force,
        notes=scan.notes,
        is_divided=options.split is not None or named_parts(scan.files) is not None,
    )


FAMILY = FamilyInfo(
    name="user",
    title="Your own data",
    open=open_user,
    downloads=(),
    formats=(
        "a file that ASE reads (extended XYZ, .traj, ASE database, OUTCAR, "
        "vasprun.xml) or a folder of them"
    ),
    variants=(),
    options=(
        "variant",
        "split",
        "split_by",
        "energy_key",
        "forces_key",
        "stress_key",
        "targets",
        "max_force",
        "level_of_theory",
    ),
)
"""User data."""
