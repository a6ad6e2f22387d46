"""Every conversion factor of the project; ASE units (eV, angstrom, amu) inside.

Source: CODATA 2014 as tabulated by ``ase.units``.
"""

from __future__ import annotations

from ase import units as _ase

FS = float(_ase.fs)
"""One femtosecond in ASE time units."""
KB = float(_ase.kB)
"""Boltzmann constant, eV/K."""
HARTREE = float(_ase.Hartree)
"""One hartree in eV."""
BOHR = float(_ase.Bohr)
"""One bohr in angstrom."""
