"""Reference labels that come with structures, and how far results are from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Float

from jmp_calc.units import GPA

PREFIX = "REF_"
"""What labels are called in extended XYZ: REF_energy, REF_forces, REF_stress."""

QUANTITIES = ("energy", "forces", "stress")
"""What can have a label."""

MEV = 1000.0
"""One eV in meV."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is known of a structure from elsewhere."""

    energy: float | None
    """Energy, eV."""
    forces: Float[np.ndarray, "atoms 3"] | None
    """Forces, eV/angstrom."""
    stress: Float[np.ndarray, "6"] | None
    """Stress, eV/angstrom^3, Voigt order, tension positive."""

    def items(self) -> dict[str, Any]:
        """Return those that exist as ``REF_`` entries."""
        found = {f"{PREFIX}{name}": getattr(self, name) for name in QUANTITIES}
        return {name: value for name, value in found.items() if value is not None}


def labels_of(atoms: Atoms, keys: Mapping[str, str | None]) -> Labels:
    """Read the labels of a structure; one that is damaged or not finite is none.

    Args:
        atoms: A structure as ASE reads it.
        keys: Quantity -> name of its label in ``info`` or ``arrays``; None: ``REF_``
            and the name, then the file's own results, then the plain name.
    """
    energy = _find(atoms, "energy", keys["energy"])
    forces = _find(atoms, "forces", keys["forces"])
    stress = _find(atoms, "stress", keys["stress"])
    return Labels(
        energy=None if energy is None or energy.size != 1 else float(energy.item()),
        forces=None if forces is None or forces.shape != (len(atoms), 3) else forces,
        stress=None if stress is None else _voigt(stress),
    )


def _find(atoms: Atoms, name: str, key: str | None) -> Float[np.ndarray, "..."] | None:
    own = getattr(atoms.calc, "results", {})
    places: list[tuple[Mapping[str, Any], str]]
    if key is None:
        labelled, plain = f"{PREFIX}{name}", name
        places = [
            (atoms.info, labelled),
            (atoms.arrays, labelled),
            (own, name),
            (atoms.info, plain),
            (atoms.arrays, plain),
        ]
    else:
        places = [(atoms.info, key), (atoms.arrays, key), (own, key)]
    for place, entry in places:
        if entry in place:
            return _numbers(place[entry])
    return None


def _numbers(value: object) -> Float[np.ndarray, "..."] | None:
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _voigt(stress: Float[np.ndarray, "..."]) -> Float[np.ndarray, "6"] | None:
    if stress.size == 9:
        voigt: Float[np.ndarray, "6"] = full_3x3_to_voigt_6_stress(stress.reshape(3, 3))
        return voigt
    return stress if stress.shape == (6,) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorStatistics:
    """Errors of many values, in the unit of the quantity."""

    n_values: int
    """How many there are."""
    mean: float
    """Mean of result minus label."""
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root mean square error."""
    spread: float
    """The same with the mean taken out: what is left of the error of energies that
    count from another zero."""


class ErrorSum:
    """Errors of any number of values in constant memory."""

    def __init__(self) -> None:
        self.n_values = 0
        # sums count from the first value: the spread of errors far from zero would
        # otherwise be the small difference of large numbers
        self._origin = 0.0
        self._sum = 0.0
        self._square = 0.0
        self._absolute = 0.0

    def add(self, errors: Iterable[float] | Float[np.ndarray, "..."]) -> None:
        """Count errors in.

        Args:
            errors: Result minus label, of any shape.
        """
        values = np.asarray(errors, dtype=np.float64).ravel()
        if self.n_values == 0:
            self._origin = float(values[0])
        self.n_values += values.size
        self._sum += float((values - self._origin).sum())
        self._square += float(((values - self._origin) ** 2).sum())
        self._absolute += float(np.abs(values).sum())

    def statistics(self) -> ErrorStatistics:
        """Return what is known of the errors so far; there is at least one."""
        n = self.n_values
        shift = self._sum / n
        mean = self._origin + shift
        variance = max(self._square / n - shift**2, 0.0)
        return ErrorStatistics(
            n_values=n,
            mean=mean,
            mae=self._absolute / n,
            rmse=math.hypot(mean, math.sqrt(variance)),
            spread=math.sqrt(variance),
        )


class ErrorBook:
    """The errors of all structures of a call, by quantity."""

    def __init__(self) -> None:
        self._sums: dict[str, ErrorSum] = {}

    def add(
        self, labels: Labels, results: Mapping[str, Any], n_atoms: int
    ) -> dict[str, float]:
        """Count one structure in, and return its own errors by column of the table.

        Args:
            labels: What is known.
            results: What was computed.
            n_atoms: Size of the structure.
        """
        row: dict[str, float] = {}
        if labels.energy is not None:
            error = (results["energy"] - labels.energy) / n_atoms * MEV
            self._count("energy_meV_per_atom", [error])
            row["energy_error_meV_per_atom"] = error
        if labels.forces is not None and "forces" in results:
            errors = results["forces"] - labels.forces
            self._count("forces_eV_per_A", errors)
            row["forces_mae_eV_per_A"] = float(np.abs(errors).mean())
            row["forces_rmse_eV_per_A"] = float(np.sqrt((errors**2).mean()))
        if labels.stress is not None and "stress" in results:
            errors = (results["stress"] - labels.stress) / GPA
            self._count("stress_GPa", errors)
            row["stress_mae_GPa"] = float(np.abs(errors).mean())
        return row

    def _count(self, name: str, errors: Any) -> None:
        self._sums.setdefault(name, ErrorSum()).add(errors)

    def statistics(self) -> dict[str, ErrorStatistics]:
        """Return those of each quantity that has labels."""
        return {name: errors.statistics() for name, errors in self._sums.items()}
