"""The ANI-1x layout: a group per formula, labels of several levels side by side."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from jmp_calc.units import HARTREE
from jmp_train.data.layouts.frames import Frames, check_shapes
from jmp_train.data.layouts.hdf5 import n_rows, read_rows
from jmp_train.data.layouts.parts import slices

LEVELS: dict[str, str] = {
    "wb97x_dz": "ωB97X/6-31G(d)",
    "wb97x_tz": "ωB97X/def2-TZVPP",
    "ccsd(t)_cbs": "CCSD(T)*/CBS",
}
"""Level of theory by the prefix of its keys; the last has energies only."""


def read_level(group: h5py.Group, level: str = "wb97x_dz") -> Iterator[Frames]:
    """Yield the conformations of a formula in slices, with NaN where not computed.

    Args:
        group: Group of the formula.
        level: Key of ``LEVELS``.

    Raises:
        DataError: If a data set is absent or damaged, or does not fit the others.
    """
    numbers = read_rows(group, "atomic_numbers")
    has_forces = level != "ccsd(t)_cbs"
    for start, stop in slices(n_rows(group, "coordinates")):
        positions = read_rows(group, "coordinates", start, stop)
        energy = read_rows(group, f"{level}.energy", start, stop) * HARTREE
        forces = None
        if has_forces:
            forces = read_rows(group, f"{level}.forces", start, stop)
            forces = forces.astype(np.float64) * HARTREE
        check_shapes(
            f"{group.file.filename}, group {group.name!r}",
            len(numbers),
            positions=positions,
            energy=energy,
            forces=forces,
        )
        yield Frames(
            numbers=numbers,
            positions=positions,
            energy=energy,
            forces=forces,
            first=start,
        )
