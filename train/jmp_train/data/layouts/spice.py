"""The SPICE layout: a group per molecule, atomic units, gradients instead of forces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import h5py
import numpy as np

from jmp_calc.units import CODATA, MolecularUnits
from jmp_train.data.layouts.frames import Frames, check_shapes
from jmp_train.data.layouts.hdf5 import check_units, n_rows, read_rows
from jmp_train.data.layouts.parts import slices

SpiceEnergy = Literal["dft_total_energy", "formation_energy"]
"""Which energy of a conformer is its label."""

_UNITS = {
    "conformations": "bohr",
    "dft_total_energy": "hartree",
    "formation_energy": "hartree",
    "dft_total_gradient": "hartree/bohr",
}


def read_conformers(
    group: h5py.Group,
    *,
    energy: SpiceEnergy = "dft_total_energy",
    units: MolecularUnits = CODATA,
) -> Iterator[Frames]:
    """Yield the conformers of a molecule in slices; forces are minus the gradient.

    Args:
        group: Group of the molecule.
        energy: The energy that is the label.
        units: Factors of hartree and bohr.

    Raises:
        DataError: If a data set is absent or damaged, or does not fit the others, or
            says that it is in other units.
    """
    check_units(group, _UNITS)
    numbers = read_rows(group, "atomic_numbers")
    for start, stop in slices(n_rows(group, "conformations")):
        positions = read_rows(group, "conformations", start, stop).astype(np.float64)
        gradient = read_rows(group, "dft_total_gradient", start, stop)
        values = read_rows(group, energy, start, stop)
        check_shapes(
            f"{group.file.filename}, group {group.name!r}",
            len(numbers),
            positions=positions,
            energy=values,
            forces=gradient,
        )
        yield Frames(
            numbers=numbers,
            positions=positions * units.bohr,
            energy=values * units.hartree,
            forces=-gradient.astype(np.float64) * (units.hartree / units.bohr),
            first=start,
        )
