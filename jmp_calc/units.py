"""Every conversion factor of the project; ASE units (eV, angstrom, amu) inside.

Source: CODATA 2014 as tabulated by ``ase.units``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ase import units as _ase

FS = float(_ase.fs)
"""One femtosecond in ASE time units."""
GPA = float(_ase.GPa)
"""One gigapascal in eV/angstrom^3."""
KB = float(_ase.kB)
"""Boltzmann constant, eV/K."""
PER_CM = float(_ase.invcm)
"""Energy of a quantum of one wavenumber (1/cm), eV."""
PER_CM_PER_THZ = 1e10 / float(_ase._c)
"""Wavenumber of one terahertz, 1/cm."""
HARTREE = float(_ase.Hartree)
"""One hartree in eV."""
BOHR = float(_ase.Bohr)
"""One bohr in angstrom."""
KCAL_PER_MOL = float(_ase.kcal / _ase.mol)
"""One kcal/mol in eV."""
KJ_PER_MOL = float(_ase.kJ / _ase.mol)
"""One kJ/mol in eV."""
GAS_CONSTANT = 1000 * KB / KJ_PER_MOL
"""Gas constant, J/K/mol."""

G_PER_CM3 = 1e-24 * float(_ase._Nav)
"""One gram per cubic centimetre in atomic mass units per cubic angstrom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MolecularUnits:
    """Units of the molecular data sets, in eV and angstrom."""

    hartree: float
    """One hartree in eV."""
    kcal_per_mol: float
    """One kcal/mol in eV."""
    bohr: float
    """One bohr in angstrom."""


CODATA = MolecularUnits(hartree=HARTREE, kcal_per_mol=KCAL_PER_MOL, bohr=BOHR)
"""The factors that everything here uses unless another set is asked for."""

JMP_UNITS = MolecularUnits(
    hartree=1 / 0.0367493, kcal_per_mol=1 / 23.061, bohr=0.529177
)
"""Rounded factors of the published fine-tuning sets (training specification, head), to
compare with published files; total energies differ from ours by up to 2e-5."""

PYG_UNITS = MolecularUnits(hartree=27.211386246, kcal_per_mol=0.04336414, bohr=BOHR)
"""Factors with which torch-geometric (MIT) made its copy of QM9, which JMP was
fine-tuned on."""
