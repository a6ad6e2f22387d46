"""Every conversion factor of the project; ASE units (eV, angstrom, amu) inside.

Source: CODATA 2014 as tabulated by ``ase.units``, except the ``LEGACY_*`` factors,
which are those of the published JMP data pipeline and exist for bit-comparison with
files made by it.
"""

from __future__ import annotations

from ase import units as _ase

FS = float(_ase.fs)
"""One femtosecond in ASE time units."""
PS = 1000.0 * FS
"""One picosecond in ASE time units."""
GPA = float(_ase.GPa)
"""One gigapascal in eV/angstrom^3."""
KB = float(_ase.kB)
"""Boltzmann constant, eV/K."""
HARTREE = float(_ase.Hartree)
"""One hartree in eV."""
BOHR = float(_ase.Bohr)
"""One bohr in angstrom."""
KCAL_PER_MOL = float(_ase.kcal / _ase.mol)
"""One kcal/mol in eV."""
LEGACY_KCAL_PER_MOL = 1.0 / 23.061
"""kcal/mol in eV as the published pipeline rounds it."""
LEGACY_HARTREE = 1.0 / 0.0367493
"""Hartree in eV as the published pipeline rounds it."""
