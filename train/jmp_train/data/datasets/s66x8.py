"""COMP6 S66x8: dimers of small molecules at eight separations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from ase.data import atomic_numbers

from jmp_calc.units import HARTREE
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample, molecule_sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every dimer at every separation.

    Args:
        root: Data root.
    """
    path = find_file(root, "comp6_s66x8", "s66x8_wb97x6-31gd.h5")
    with h5py.File(path, "r") as file:
        for dimer, group in file["s66x8"].items():
            numbers = np.array([atomic_numbers[s.decode()] for s in group["species"]])
            energy = group["energies"][()] * HARTREE
            forces = group["forces"][()].astype(np.float64) * HARTREE
            for index, positions in enumerate(group["coordinates"][()]):
                yield molecule_sample(
                    numbers,
                    positions,
                    energy=energy[index],
                    forces=forces[index],
                    source="s66x8",
                    group=dimer,
                )


INFO = DatasetInfo(
    name="s66x8",
    folder="comp6_s66x8",
    read=read,
    title="COMP6 S66x8",
    level_of_theory="ωB97X/6-31G(d)",
    licence="MIT",
    units="hartree, hartree/Å, Å",
    split="group",
    citation="Smith et al., J. Chem. Phys. 148, 241733 (2018)",
)
"""The S66x8 dimers."""
