"""Reference energies of elements, fitted to what a model leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from jmp_calc.errors import DataError

_RANK_TOLERANCE = 1e-10
"""Singular value, relative to the largest, below which compositions are dependent.
They are small whole numbers, so that true values lie far above it, and noise below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFit:
    """One reference energy per element, and how well the labels determine it."""

    references: dict[int, float]
    """Reference energy by atomic number, eV, of the elements that occur."""
    rank: int
    """Number of independent compositions; less than the number of elements where the
    labels fix only some combinations of the references."""
    residual: Float[np.ndarray, " systems"]
    """What remains of the energies after the fit, eV."""

    @property
    def is_unique(self) -> bool:
        """Whether other references would fit the labels worse."""
        return self.rank == len(self.references)


def fit_references(
    numbers: Int[np.ndarray, " atoms"],
    system_index: Int[np.ndarray, " atoms"],
    energy: Float[np.ndarray, " systems"],
) -> ReferenceFit:
    """Fit one reference energy per element by least squares.

    Solves ``energy = counts @ e``, where ``counts[s, z]`` is the number of atoms of
    element z in system s. Elements that never occur get none. Where elements occur in
    fixed proportions only, the solution of least norm is taken: sums over those
    proportions are right, the single numbers mean nothing.

    Args:
        numbers: Atomic numbers.
        system_index: System of each atom.
        energy: Label minus the model's own energy of each system, eV.

    Raises:
        DataError: If an energy is not finite, or there are fewer systems than
            elements, which would fit anything.

    Source:
        Linear reference: training specification, section 1.2. Least norm by singular
        values: Golub and Van Loan, Matrix Computations, section 5.5.
    """
    wrong = np.flatnonzero(~np.isfinite(energy))
    if len(wrong):
        raise DataError(
            f"the energy of structure {wrong[0]} is {energy[wrong[0]]}; references "
            "can be fitted to finite energies only"
        )
    elements, column = np.unique(numbers, return_inverse=True)
    if len(energy) < max(len(elements), 1):
        raise DataError(
            f"{len(energy)} structures with {len(elements)} elements: at least one "
            "structure per element is needed to fit references; give more structures, "
            "of different composition"
        )
    counts = np.zeros((len(energy), len(elements)))
    np.add.at(counts, (system_index, column), 1.0)
    solution, _, rank, _ = np.linalg.lstsq(counts, energy, rcond=_RANK_TOLERANCE)
    return ReferenceFit(
        references={int(z): float(e) for z, e in zip(elements, solution, strict=True)},
        rank=int(rank),
        residual=energy - counts @ solution,
    )


def sum_of_references(
    numbers: Int[np.ndarray, " atoms"],
    system_index: Int[np.ndarray, " atoms"],
    references: Mapping[int, float],
) -> Float[np.ndarray, " systems"]:
    """Return the sum of the references over the atoms of each system, eV.

    Args:
        numbers: Atomic numbers.
        system_index: System of each atom; every system has one at least.
        references: Reference energy by atomic number, eV; elements without count zero.
    """
    of_atom = [references.get(int(z), 0.0) for z in numbers]
    return np.bincount(system_index, weights=of_atom)


def energy_label(atoms: Atoms, *, key: str | None = None) -> float:
    """Return the energy that a structure is labelled with, eV.

    Args:
        atoms: A structure as ASE reads it.
        key: Name of the label in ``atoms.info``; None: ``REF_energy`` there, then the
            energy of its calculator, then ``energy`` in ``atoms.info``.

    Raises:
        DataError: If there is none, or it is not a number.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    places = (
        [(atoms.info, key)]
        if key is not None
        else [(atoms.info, "REF_energy"), (results, "energy"), (atoms.info, "energy")]
    )
    for place, name in places:
        if name in place:
            return _number(place[name], name)
    raise DataError(
        f"no energy label ({key or 'REF_energy or energy'}); found are "
        f"{', '.join(map(str, atoms.info)) or 'nothing'} in its info and "
        f"{', '.join(results) or 'nothing'} in its calculator"
    )


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"the energy label {name!r} is {value!r}, not a number"
        ) from None
