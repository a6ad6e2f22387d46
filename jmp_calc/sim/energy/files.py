"""What single points leave on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties

from jmp_calc.sim.energy.labels import Labels
from jmp_calc.sim.evaluation import Results
from jmp_calc.sim.output import (
    RESULT_PREFIX,
    LineFile,
    extxyz_text,
    without_results,
)
from jmp_calc.sim.spread import SPREADS

RESULTS = ("energy", "forces", "stress", "head", *SPREADS)
"""What is written of the results, with ``RESULT_PREFIX``."""
PROBLEM = "problem"
"""Why there are none, likewise."""

COLUMNS = (
    "source",
    "frame",
    "formula",
    "n_atoms",
    "head",
    "energy_eV",
    "energy_eV_per_atom",
    "max_force_eV_per_A",
    "pressure_GPa",
    "energy_std_eV",
    "max_force_std_eV_per_A",
    "ref_energy_eV",
    "energy_error_meV_per_atom",
    "forces_mae_eV_per_A",
    "forces_rmse_eV_per_A",
    "stress_mae_GPa",
    "problem",
)
"""Columns of the table; what does not apply is left empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyFiles:
    """Where single points are written."""

    table: Path
    """CSV, one row per structure."""
    summary: Path
    """Inputs, settings, versions and results, YAML."""
    structures: Mapping[str, Path]
    """Extended XYZ with the results by source."""

    @classmethod
    def under(cls, folder: Path, stem: str, names: Sequence[str]) -> EnergyFiles:
        """Name the files.

        Args:
            folder: Folder of all files.
            stem: First part of the names of table and summary.
            names: Sources.
        """
        return cls(
            table=folder / f"{stem}-energy.csv",
            summary=folder / f"{stem}-summary.yml",
            structures={name: folder / f"{name}-energy.xyz" for name in names},
        )

    def paths(self) -> list[Path]:
        """Return every file."""
        return [self.table, self.summary, *self.structures.values()]


class EnergyWriter:
    """Writes structures and table while they are computed; nothing before the first.

    That no file is replaced unasked has been checked before.
    """

    def __init__(self, files: EnergyFiles) -> None:
        self._files = files
        self._table: LineFile | None = None
        self._source = ""
        self._structures: LineFile | None = None

    def write(self, row: Mapping[str, Any], frame: Atoms) -> None:
        """Append one structure.

        Args:
            row: Some of ``COLUMNS``; ``source`` is one.
            frame: The structure as it is to be written.
        """
        if self._table is None:
            self._table = LineFile(self._files.table, overwrite=True)
            self._table.append(_csv_row(COLUMNS))
        if self._structures is None or row["source"] != self._source:
            if self._structures is not None:
                self._structures.close()
            self._source = row["source"]
            path = self._files.structures[self._source]
            self._structures = LineFile(path, overwrite=True)
        self._structures.append(extxyz_text(frame))
        self._table.append(_csv_row([row.get(column) for column in COLUMNS]))

    def close(self) -> None:
        """Close the files."""
        for file in (self._table, self._structures):
            if file is not None:
                file.close()


def frame_with(atoms: Atoms, labels: Labels, outcome: Results | Exception) -> Atoms:
    """Return a structure as it is written: results, labels, no plain ``energy``.

    ASE's extended XYZ takes plain keys (energy, forces, ...) for results of a
    calculator, so labels are called ``REF_`` and results ``jmp_``. What the file has
    besides (``dft_energy``, ``jmp_gap``, ...) is kept where extended XYZ can hold it;
    results of an earlier call are not.

    Args:
        atoms: The input; not changed.
        labels: Its labels.
        outcome: Its results, or why there are none.
    """
    frame = without_results(atoms)
    for name, value in atoms.info.items():
        if _is_foreign(name) and isinstance(value, str):
            frame.info[name] = " ".join(value.splitlines())
        elif _is_foreign(name) and np.ndim(value) <= 1 and _is_numeric(value):
            frame.info[name] = value
    for name, values in atoms.arrays.items():
        if _is_foreign(name) and _is_numeric(values):
            frame.arrays[name] = values.copy()
    found = dict(labels.items())
    if isinstance(outcome, Exception):
        found[f"{RESULT_PREFIX}{PROBLEM}"] = " ".join(str(outcome).split())
    else:
        for name in RESULTS:
            if outcome.get(name) is not None:
                found[f"{RESULT_PREFIX}{name}"] = outcome[name]
    for name, value in found.items():
        place = frame.arrays if "_forces" in name else frame.info
        place[name] = value
    return frame


def _is_foreign(name: str) -> bool:
    own = {f"{RESULT_PREFIX}{result}" for result in (*RESULTS, PROBLEM)}
    return name not in all_properties and name not in own


def _is_numeric(value: object) -> bool:
    return np.asarray(value).dtype.kind in "ifb"


def _csv_row(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
