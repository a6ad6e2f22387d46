"""QMOF: metal-organic frameworks with the PBE band gap, and the total energy.

Of the entries of ``qmof.json``, in the published random order, 80 % train, 10 %
validate and the rest tests. Structures are matched by ``qmof_id``, not by order.

Source:
    Training specification, 3.6 and 5.2; Rosen et al., Matter 4, 1578 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmp_calc.errors import DataError
from jmp_train.data.families.labels import NO_LABEL, NOT_FINITE
from jmp_train.data.families.molecules import find_one
from jmp_train.data.layouts.json_rows import open_json
from jmp_train.data.layouts.parts import frame_parts, part_range
from jmp_train.data.layouts.structure_dict import crystal_sample
from jmp_train.data.published_splits import fraction_sizes, shuffled_split
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

PROPERTIES = "qmof.json"
"""File of the properties."""

STRUCTURES = "qmof_structure_data.json"
"""File of the structures, beside it."""

TARGET = "bandgap"
"""Name of the target."""

_PART_SYSTEMS = 4_000


@dataclass(frozen=True, kw_only=True, slots=True)
class QmofEntry:
    """Labels of one framework."""

    bandgap: float | None
    """eV."""
    energy: float | None
    """Total energy, eV."""
    split: Split
    """Part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QmofSource:
    """The frameworks and their labels."""

    facts: SetFacts
    """What the set is."""
    path: Path
    """File of the structures."""
    entries: Mapping[str, QmofEntry]
    """Labels by ``qmof_id``."""

    def parts(self) -> list[str]:
        """Return ranges of structures; to read a later one, those before are passed."""
        return frame_parts(len(self.entries), _PART_SYSTEMS)

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the one file of all parts."""
        del part
        return (self.path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the frameworks of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is cut off, a structure is damaged, has partly
                occupied sites, occurs twice, or has no labels.
        """
        rows, seen = part_range(part), set()
        with open_json(self.path) as stream:
            for index, (place, row) in enumerate(stream.items("structure")):
                where = f"{place} of {self.path}"
                name = _id(row, where)
                if name in seen or name not in self.entries:
                    problem = "occurs twice" if name in seen else "has no properties"
                    raise DataError(f"{where}: {name} {problem}; fetch the files again")
                seen.add(name)
                if index in rows:
                    yield self._record(row, name, where)
                # The last part reads on, to see that no structure is absent.
                if index + 1 == rows.stop < len(self.entries):
                    return
        missing = next((name for name in self.entries if name not in seen), None)
        if missing is not None:
            raise DataError(
                f"{self.path} has no structure of {missing}, which has properties; "
                "fetch the files again"
            )

    def _record(
        self, row: Mapping[str, Any], name: str, where: str
    ) -> Record | Skipped:
        entry = self.entries[name]
        targets = {} if entry.bandgap is None else {TARGET: entry.bandgap}
        labels = [value for value in (entry.bandgap, entry.energy) if value is not None]
        if not labels:
            return Skipped(where=name, reason=NO_LABEL)
        if not all(math.isfinite(value) for value in labels):
            return Skipped(where=name, reason=NOT_FINITE)
        if "structure" not in row:
            raise DataError(f"{where} has no 'structure'")
        sample = crystal_sample(
            row["structure"],
            where,
            source=self.facts.name,
            group=name,
            name=name,
            targets=targets,
            energy=entry.energy,
        )
        return Record(sample=sample, split=entry.split)


def _id(row: Any, where: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get("qmof_id"), str):
        raise DataError(f"{where} has no qmof_id")
    return str(row["qmof_id"])


def open_qmof(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the one set.

    Args:
        source: Folder with both files, such as ``qmof_database``.
        options: ``variant`` is the level of theory in ``outputs``, ``pbe`` by default.

    Raises:
        DataError: If a file is absent or damaged, or no entry has the level.
    """
    folder = source.parent if source.is_file() else source
    properties = find_one(folder, (PROPERTIES, f"{PROPERTIES}.gz"), FAMILY.formats)
    structures = find_one(folder, (STRUCTURES, f"{STRUCTURES}.gz"), FAMILY.formats)
    level = options.variant or "pbe"
    return [
        QmofSource(
            facts=SetFacts(
                name="qmof" if level == "pbe" else f"qmof-{level}",
                title="QMOF" if level == "pbe" else f"QMOF ({level})",
                domain="bulk",
                level_of_theory="PBE-D3(BJ), VASP" if level == "pbe" else level,
                licence="CC-BY-4.0 (not verified)",
                citation="Rosen et al., Matter 4, 1578 (2021)",
                coverage="metal-organic frameworks of QMOF",
                target_units={TARGET: "eV"},
            ),
            path=structures,
            entries=_read_entries(properties, level),
        )
    ]


def _read_entries(path: Path, level: str) -> dict[str, QmofEntry]:
    labels: dict[str, tuple[float | None, float | None]] = {}
    with open_json(path) as stream:
        for place, row in stream.items("entry"):
            where = f"{place} of {path}"
            name = _id(row, where)
            if name in labels:
                raise DataError(f"{where}: {name} occurs twice; fetch the file again")
            labels[name] = _labels(row, level, where)
    if all(gap is None and energy is None for gap, energy in labels.values()):
        raise DataError(
            f"no entry of {path} has a bandgap or energy in outputs.{level}"
        )
    n_entries = len(labels)
    split = shuffled_split(n_entries, fraction_sizes(n_entries)).labels(n_entries)
    return {
        # 80, 10 and 10 % make the whole, so every entry is in a part.
        name: QmofEntry(bandgap=gap, energy=energy, split=part or "test")
        for (name, (gap, energy)), part in zip(labels.items(), split, strict=True)
    }


def _labels(
    row: Mapping[str, Any], level: str, where: str
) -> tuple[float | None, float | None]:
    try:
        outputs = row["outputs"].get(level) or {}
        values = (outputs.get("bandgap"), outputs.get("energy_total"))
        gap, energy = (None if value is None else float(value) for value in values)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: outputs.{level} must hold the numbers bandgap and energy_total "
            f"({type(error).__name__}: {error})"
        ) from None
    return gap, energy


FAMILY = FamilyInfo(
    name="qmof",
    title="QMOF",
    open=open_qmof,
    downloads=(
        Download(
            url="https://figshare.com/ndownloader/articles/13147324/versions/14",
            file="qmof_database.zip",
        ),
    ),
    licence="CC-BY-4.0 (not verified)",
    formats=f"a folder with {PROPERTIES} and {STRUCTURES}",
    variants=("pbe", "hle17", "hse06_10hf", "hse06"),
    options=("variant",),
)
"""QMOF."""
