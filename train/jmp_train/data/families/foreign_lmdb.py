"""LMDB files of torch-geometric objects that other programs wrote.

Besides the family ``pyg-lmdb`` this is what OC20 and OC22 read their LMDB files with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jmp_calc.errors import DataError
from jmp_calc.models.config import Domain
from jmp_train.data.families.labels import (
    NO_LABEL,
    Labels,
    set_name,
    too_large,
    with_unit,
)
from jmp_train.data.families.published_parts import published_part
from jmp_train.data.layouts.pyg_lmdb import (
    find_shards,
    part_file,
    read_part,
    shard_parts,
)
from jmp_train.data.layouts.pyg_record import Fields
from jmp_train.data.layouts.xz_frames import read_references
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

DUMMY_CELL = 1000.0
"""Edge of the cube that stands for "no cell" in published molecule files, Å."""

_NUMBERS = ("atomic_numbers", "z", "charges")
_ENERGIES = ("y", "energy")
_FORCES = ("force", "forces")


_RELAXED = "y_relaxed"
"""Field of the energy after the relaxation that a record belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFields:
    """Which fields of a record are its labels; the first that is there counts."""

    energy: tuple[str, ...] = _ENERGIES
    """Energy, eV."""
    forces: tuple[str, ...] = _FORCES
    """Forces, eV/Å."""
    targets: tuple[str, ...] = ()
    """Other labels, by their own names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LmdbSource:
    """Records of LMDB files; those of published tests are passed over."""

    facts: SetFacts
    """What the set is."""
    source: Path
    """A file, or a folder that holds some."""
    labels: LabelFields
    """Which fields are labels."""
    split: Split | None
    """Part of all records; None: by the names of the folders, or else by hash."""
    references: Path | None = None
    """What is added to the energy of each system; None: nothing."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return ranges of records of each file.

        Raises:
            DataError: If a file is damaged, or all are of published tests.
        """
        shards = [
            shard
            for shard in find_shards(self.source, "LMDB files or their folder")
            if self.split is not None or published_part(shard, self.source)[0]
        ]
        if not shards:
            raise DataError(
                f"{self.source} holds only a published test part, whose labels were "
                "not published; give the training and validation parts"
            )
        return shard_parts(shards, self.source)

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the LMDB file of a part, and the references."""
        files = (part_file(self.source, part), self.references)
        return tuple(path for path in files if path is not None)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the records of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If a record is damaged or holds something else than data, or a
                system has no reference.
        """
        path = part_file(self.source, part)
        split = self.split or published_part(path, self.source)[1]
        for where, fields in read_part(self.source, part):
            yield self._record(fields, where, split)

    def _record(
        self, fields: Fields, where: str, split: Split | None
    ) -> Record | Skipped:
        labels = read_labels(fields, self.labels, where)
        reason = labels.fault or too_large(labels.forces, self.max_force)
        if _is_of_another_geometry(fields, self.labels) and labels.forces is None:
            reason = "the energy is that of the relaxed system, not of this geometry"
        if reason:
            return Skipped(where=where, reason=reason)
        system = _text(fields.get("sid"))
        frame = _text(fields.get("fid"))
        if self.references is not None and labels.energy is not None:
            total = labels.energy + _reference(self.references, system, where)
            labels = replace(labels, energy=total)
        name = "/".join(word for word in (system, frame and f"frame{frame}") if word)
        place = where.split(" of ")[0]
        sample = record_sample(
            fields,
            where,
            source=self.facts.name,
            group=system or place,
            name=name or place,
            labels=labels,
        )
        return Record(sample=sample, split=split)


def read_labels(fields: Fields, names: LabelFields, where: str) -> Labels:
    """Return the labels of a record.

    Args:
        fields: Its fields.
        names: Which of them are labels.
        where: File and record, for errors.

    Raises:
        DataError: If one that must be a number is not.
    """
    energy = _first(fields, names.energy)
    forces = _first(fields, names.forces)
    return Labels(
        energy=None if energy is None else _number(energy, "the energy", where),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
        targets={
            name: _number(fields[name], name, where)
            for name in names.targets
            if fields.get(name) is not None
        },
    )


def record_sample(
    fields: Fields,
    where: str,
    *,
    source: str,
    group: str,
    name: str,
    labels: Labels,
) -> Sample:
    """Return the sample of a record.

    Without ``pbc`` a record is periodic if it has a cell other than the dummy of
    published molecule files; without ``tags`` all are 2.

    Args:
        fields: Its fields.
        where: File and record, for errors.
        source: Name of the set.
        group: What must not be split.
        name: What the set calls the system.
        labels: Its labels.

    Raises:
        DataError: If it has no atoms or positions, or they do not fit together.
    """
    numbers = _first(fields, _NUMBERS)
    if numbers is None or fields.get("pos") is None:
        raise DataError(
            f"{where} has no atomic_numbers or pos; it holds {_names(fields)}"
        )
    numbers = np.rint(np.asarray(numbers, dtype=np.float64)).astype(np.int64).ravel()
    cell, pbc = _cell(fields, where)
    tags, fixed = fields.get("tags"), fields.get("fixed")
    try:
        return Sample(
            numbers=numbers,
            positions=np.asarray(fields["pos"], dtype=np.float64),
            cell=cell,
            pbc=pbc,
            energy=labels.energy,
            forces=labels.forces,
            targets=labels.targets,
            tags=np.full(len(numbers), 2, dtype=np.int64)
            if tags is None
            else np.asarray(tags).astype(np.int64).ravel(),
            fixed=np.zeros(len(numbers), dtype=bool)
            if fixed is None
            else np.asarray(fixed).astype(bool).ravel(),
            source=source,
            group=group,
            name=name,
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _cell(
    fields: Fields, where: str
) -> tuple[Float[np.ndarray, "3 3"], Bool[np.ndarray, " 3"]]:
    value, pbc = fields.get("cell"), fields.get("pbc")
    if value is None:
        return np.zeros((3, 3)), np.zeros(3, dtype=bool)
    try:
        cell = np.asarray(value, dtype=np.float64).reshape(3, 3)
        is_dummy = not cell.any() or np.array_equal(cell, DUMMY_CELL * np.eye(3))
        if pbc is None:
            pbc = np.full(3, not is_dummy)
        periodic = np.asarray(pbc).astype(bool).reshape(3)
    except ValueError as error:
        raise DataError(
            f"{where}: the cell must be 3 × 3 and pbc 3 long ({error})"
        ) from None
    return (cell if periodic.any() else np.zeros((3, 3))), periodic


@lru_cache(maxsize=1)
def _references(path: Path) -> dict[str, float]:
    return read_references(path)


def _reference(path: Path, system: str, where: str) -> float:
    known = _references(path)
    for name in (system, f"random{system}"):
        if name in known:
            return known[name]
    raise DataError(
        f"{where} is of system {system or '(without sid)'}, which {path} has no "
        "reference energy for; give the references of this set"
    )


def _is_of_another_geometry(fields: Fields, names: LabelFields) -> bool:
    # with forces the record is a step of a relaxation, and the last one at that
    taken = next((name for name in names.energy if fields.get(name) is not None), None)
    return taken == _RELAXED and names.energy[0] != _RELAXED


def _first(fields: Fields, names: tuple[str, ...]) -> Any:
    values = (fields.get(name) for name in names)
    return next((value for value in values if value is not None), None)


def _number(value: Any, name: str, where: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: {name} must be one number; it has shape {array.shape} and type "
            f"{array.dtype}"
        )
    return float(array.reshape(()))


def _text(value: Any) -> str:
    if value is None:
        return ""
    array = np.asarray(value)
    return str(array.reshape(-1)[0]) if array.size else ""


def _names(fields: Fields) -> str:
    return ", ".join(sorted(fields)) or "nothing"


def open_foreign(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the one set of a file or folder.

    Args:
        source: An LMDB file, or a folder that holds some.
        options: ``energy_key``, ``forces_key`` and ``targets`` are names of fields;
            ``split`` is the part of all records; ``variant`` names the set.

    Raises:
        DataError: If there is no LMDB file, or the first record lacks a field that was
            asked for.
    """
    shards = find_shards(source, FAMILY.formats)
    units = dict(with_unit(target) for target in options.targets)
    labels = LabelFields(
        energy=(options.energy_key,) if options.energy_key else _ENERGIES,
        forces=(options.forces_key,) if options.forces_key else _FORCES,
        targets=tuple(units),
    )
    asked = (options.energy_key, options.forces_key, *units)
    domain = _check_first(shards[0], labels, asked)
    name = set_name(source, options.variant)
    return [
        LmdbSource(
            facts=SetFacts(
                name=name,
                title=name,
                domain=domain,
                level_of_theory=options.level_of_theory or "not stated",
                licence="not stated",
                citation="",
                coverage=f"the systems of {name}",
                target_units=units,
            ),
            source=source,
            labels=labels,
            split=options.split,
            references=options.references,
            max_force=options.max_force,
        )
    ]


def _check_first(
    shard: Path, labels: LabelFields, asked: tuple[str | None, ...]
) -> Domain:
    """Check that the first record has what was asked for; return its kind."""
    parts = shard_parts([shard], shard)
    if not parts:
        raise DataError(f"{shard} has no records")
    where, fields = next(read_part(shard, parts[0]))
    for name in asked:
        if name is not None and fields.get(name) is None:
            raise DataError(
                f"the records of {shard} have no field {name!r}; the first one holds "
                f"{_names(fields)}"
            )
    if read_labels(fields, labels, where).fault == NO_LABEL:
        raise DataError(
            f"the first record of {shard} has no field "
            f"{', '.join(labels.energy + labels.forces)}; it holds {_names(fields)}; "
            "say which of them are labels"
        )
    _, pbc = _cell(fields, where)
    if not pbc.any():
        return "molecule"
    tags = fields.get("tags")
    return "bulk" if tags is None or (np.asarray(tags) == 2).all() else "surface"


FAMILY = FamilyInfo(
    name="pyg-lmdb",
    title="LMDB files of torch-geometric objects",
    open=open_foreign,
    downloads=(),
    formats="an LMDB file of pickled torch-geometric objects, or a folder of them",
    variants=(),
    options=(
        "variant",
        "split",
        "energy_key",
        "forces_key",
        "targets",
        "references",
        "max_force",
        "level_of_theory",
    ),
)
"""LMDB files of other programs."""
