"""SPICE excerpt in the original HDF5 layout: one group per molecule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from jmp_calc.units import BOHR, HARTREE
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample, molecule_sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every conformation; the file stores gradients, forces are their negative.

    Args:
        root: Data root.
    """
    with h5py.File(find_file(root, "spice", "SPICE-1.1.4_n2.hdf5"), "r") as file:
        for molecule, group in file.items():
            gradient = group["dft_total_gradient"][()].astype(np.float64)
            positions = group["conformations"][()].astype(np.float64) * BOHR
            for index, energy in enumerate(group["dft_total_energy"][()]):
                yield molecule_sample(
                    group["atomic_numbers"][()],
                    positions[index],
                    energy=energy * HARTREE,
                    forces=-gradient[index] * (HARTREE / BOHR),
                    source="spice",
                    group=molecule,
                )


INFO = DatasetInfo(
    name="spice",
    folder="spice",
    read=read,
    title="SPICE 1.1.4 (excerpt)",
    level_of_theory="ωB97M-D3(BJ)/def2-TZVPPD",
    licence="MIT (the full set: CC0)",
    units="hartree, hartree/bohr (gradient), bohr",
    split="structure",
    citation="Eastman et al., Sci. Data 10, 11 (2023)",
    notes="Both molecules carry a positive charge, which the model does not see.",
)
"""The SPICE data set."""
