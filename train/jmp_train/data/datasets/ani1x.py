"""ANI-1x excerpt in the original HDF5 layout: one group per formula."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from jmp_calc.units import HARTREE
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample, molecule_sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every conformation with a finite ωB97X energy and forces.

    Args:
        root: Data root.
    """
    with h5py.File(find_file(root, "ani1x", "ani1_n5.hdf5"), "r") as file:
        for formula, group in file.items():
            numbers = group["atomic_numbers"][()]
            energy = group["wb97x_dz.energy"][()] * HARTREE
            forces = group["wb97x_dz.forces"][()].astype(np.float64) * HARTREE
            finite = np.isfinite(energy) & np.isfinite(forces).all(axis=(1, 2))
            for index in np.flatnonzero(finite):
                yield molecule_sample(
                    numbers,
                    group["coordinates"][index],
                    energy=energy[index],
                    forces=forces[index],
                    source="ani1x",
                    group=formula,
                )


INFO = DatasetInfo(
    name="ani1x",
    folder="ani1x",
    read=read,
    title="ANI-1x (excerpt)",
    level_of_theory="ωB97X/6-31G(d)",
    licence="MIT (the full set: CC0)",
    units="hartree, hartree/Å, Å",
    split="group",
    citation="Smith et al., Sci. Data 7, 134 (2020)",
    notes="Conformations without a finite energy and forces are left out.",
)
"""The ANI-1x data set."""
