"""ANI-2x excerpt: six diatomic molecules over a range of bond lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from jmp_calc.units import HARTREE
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample, molecule_sample

MAX_FORCE = 30.0
"""Largest force on an atom that is kept, eV/Å."""

LENGTH_STEP = 0.005
"""Of the bond lengths of a molecule in each such interval one is kept, Å."""


def read(root: Path) -> Iterator[Sample]:
    """Yield one structure per molecule and interval of its bond length.

    Structures with a force of ``MAX_FORCE`` or more are passed over.

    Args:
        root: Data root.
    """
    path = find_file(root, "ani2x_diatomics", "ani2x_diatomics.h5")
    with h5py.File(path, "r") as file:
        group = file["002"]
        numbers = group["species"][()]
        positions = group["coordinates"][()]
        energy = group["energies"][()] * HARTREE
        forces = group["forces"][()] * HARTREE
    largest = np.linalg.norm(forces, axis=-1).max(axis=-1)
    length = np.linalg.norm(positions[:, 1] - positions[:, 0], axis=-1)
    interval = np.floor(length / LENGTH_STEP).astype(np.int64)
    # First row of each (molecule, interval); files and results keep their order.
    usable = np.flatnonzero(largest < MAX_FORCE)
    keys = np.column_stack([numbers, interval])[usable]
    first = np.unique(keys, axis=0, return_index=True)[1]
    for index in usable[np.sort(first)]:
        yield molecule_sample(
            numbers[index],
            positions[index],
            energy=energy[index],
            forces=forces[index],
            source="ani2x_diatomics",
            group="-".join(str(z) for z in sorted(numbers[index])),
        )


INFO = DatasetInfo(
    name="ani2x_diatomics",
    folder="ani2x_diatomics",
    read=read,
    title="ANI-2x, diatomic molecules",
    level_of_theory="ωB97X/6-31G(d)",
    licence="MIT",
    units="hartree, hartree/Å, Å",
    split="structure",
    citation="Devereux et al., J. Chem. Theory Comput. 16, 4192 (2020)",
    notes=(
        "One structure per 0.005 Å of bond length is kept, or these curves would "
        "outnumber all else at this level; forces of 30 eV/Å or more are left out."
    ),
)
"""The ANI-2x diatomics."""
