"""Forces of displaced supercells, and force constants from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float
from phonopy import Phonopy
from phonopy.exception import BORNFileParseError
from phonopy.file_IO import parse_BORN

from jmp_calc.errors import DataError, UnsupportedSystemError
from jmp_calc.sim.evaluation import evaluate_each
from jmp_calc.sim.phonons.crystal import supercells
from jmp_calc.sim.phonons.settings import PhononSettings
from jmp_calc.sim.side_by_side import compute_together
from jmp_calc.units import GPA

Progress = Callable[[str, int, int], None]
"""Gets what is being done, how much of it is done, and how much there is."""

ATOMS_AT_ONCE = 1000
"""Atoms that a calculator gets at a time, about; it may split them further."""
LARGE_FORCE_eV_per_A = 0.01
"""With a larger residual force a structure counts as not relaxed."""
LARGE_STRESS_GPa = 0.5
"""With a larger residual stress a cell counts as not relaxed."""
NEUTRALITY_e = 0.5
"""Born charges whose sum is larger are those of another crystal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """What is left of forces and stress in the undisplaced crystal."""

    max_force_eV_per_A: float
    """Length of the largest force on an atom, eV/angstrom."""
    max_stress_GPa: float | None
    """Largest component of the stress, GPa; None: the calculator has no stress."""

    @property
    def note(self) -> str | None:
        """A sentence if that is too much for phonons at equilibrium."""
        found = []
        if self.max_force_eV_per_A > LARGE_FORCE_eV_per_A:
            found.append(f"forces of up to {self.max_force_eV_per_A:.3g} eV/angstrom")
        if self.max_stress_GPa is not None and self.max_stress_GPa > LARGE_STRESS_GPa:
            found.append(f"a stress of up to {self.max_stress_GPa:.3g} GPa")
        if not found:
            return None
        return (
            f"the structure is not relaxed: it has {' and '.join(found)}, with which "
            "modes may be wrong or imaginary; relax it with the same model first"
        )


def residual_of(atoms: Atoms, calculator: Any) -> Residual:
    """Return forces and stress of a crystal.

    Args:
        atoms: The crystal.
        calculator: What computes it.

    Raises:
        UnsupportedSystemError: If the calculator refuses it, or forces are not finite.
    """
    (results,) = evaluate_each(calculator, [atoms], ("forces", "stress"))
    if isinstance(results, UnsupportedSystemError):
        # phonons need no stress
        (results,) = evaluate_each(calculator, [atoms], ("forces",))
    if isinstance(results, UnsupportedSystemError):
        raise UnsupportedSystemError(
            f"{atoms.get_chemical_formula()} cannot be computed: {results}"
        )
    stress = results.get("stress")
    max_stress = None if stress is None else float(np.abs(stress).max()) / GPA
    return Residual(
        max_force_eV_per_A=float(np.linalg.norm(results["forces"], axis=1).max()),
        max_stress_GPa=max_stress,
    )


def compute_forces(
    phonon: Phonopy,
    atoms: Atoms,
    calculator: Any,
    settings: PhononSettings,
    progress: Progress | None = None,
) -> None:
    """Displace atoms and compute the forces, which phonopy's object then has.

    The forces of the undisplaced supercell are subtracted: they would otherwise count
    as caused by the displacements.

    Args:
        phonon: phonopy's object; gets displacements and forces.
        atoms: The crystal that it was made from.
        calculator: What computes forces.
        settings: Length of the displacements.
        progress: Told after each supercell.

    Raises:
        UnsupportedSystemError: If the calculator refuses a supercell, or forces are
            not finite.
    """
    phonon.generate_displacements(distance=settings.displacement_A)
    systems = supercells(phonon, atoms)
    found = compute_together(
        systems,
        ("forces",),
        calculator,
        chunk=max(1, ATOMS_AT_ONCE // len(systems[0])),
        progress=None if progress is None else partial(progress, "supercells"),
    )
    forces = np.array([results["forces"] for results in found], dtype=float)
    phonon.forces = forces[1:] - forces[0]


def make_force_constants(phonon: Phonopy) -> float:
    """Make force constants from the forces, and impose the sum rules on them.

    Args:
        phonon: phonopy's object with displacements and forces.

    Returns:
        Largest sum over a row of force constants before that, eV/angstrom^2: zero if
        moving the whole crystal costs nothing.
    """
    phonon.produce_force_constants(
        calculate_full_force_constants=False, show_drift=False
    )
    assert phonon.force_constants is not None
    drift = float(np.abs(phonon.force_constants.sum(axis=1)).max())
    phonon.symmetrize_force_constants(show_drift=False)
    return drift


def force_scale(phonon: Phonopy) -> float:
    """Return the largest force constant of an atom with itself, eV/angstrom^2.

    Args:
        phonon: phonopy's object with force constants.

    Raises:
        UnsupportedSystemError: If no displacement causes any force.
    """
    constants: Float[np.ndarray, "primitive supercell 3 3"] | None
    constants = phonon.force_constants
    assert constants is not None
    scale = float(np.abs(constants).max())
    if scale < 1e-8:
        raise UnsupportedSystemError(
            "displacing atoms causes no forces; take a larger --supercell (one atom "
            "moves with all its images), or a model that covers these atoms"
        )
    return scale


def add_born_charges(phonon: Phonopy, path: Path) -> None:
    """Switch on the non-analytic correction with the values of a file.

    Args:
        phonon: phonopy's object; gets Born charges and dielectric tensor.
        path: File in phonopy's BORN format.

    Raises:
        DataError: If the file cannot be read, is of another crystal, or the charges
            are far from neutral.
    """
    try:
        values = parse_BORN(
            phonon.primitive, symprec=phonon.symmetry.tolerance, filename=path
        )
    except (BORNFileParseError, ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read Born charges from {path} ({error}); phonopy's BORN format "
            "has a line for the unit (or '-'), one with the 9 dielectric constants "
            "and one with 9 numbers for each independent atom"
        ) from error
    excess = float(np.abs(values["born"].sum(axis=0)).max())
    if excess > NEUTRALITY_e:
        raise DataError(
            f"the Born charges of {path} add up to {excess:.2g} e in place of 0; check "
            "that it is of this crystal, with its atoms in this order"
        )
    phonon.nac_params = values
