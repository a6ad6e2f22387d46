"""QM7-X excerpt: small organic molecules in and out of equilibrium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample, hill_formula, molecule_sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every structure without its padding.

    Args:
        root: Data root.
    """
    path = find_file(root, "qm7x", "qm7x_250_small.npz")
    # numpy leaves a file that it cannot read open
    with path.open("rb") as content, np.load(content) as file:
        padded, energy = file["z"], file["E"][:, 0]
        positions, forces = file["R"], file["F"]
    for index, row in enumerate(padded):
        is_atom = row > 0
        yield molecule_sample(
            row[is_atom],
            positions[index][is_atom],
            energy=energy[index],
            forces=forces[index][is_atom],
            source="qm7x",
            group=hill_formula(row[is_atom]),
        )


INFO = DatasetInfo(
    name="qm7x",
    folder="qm7x",
    read=read,
    title="QM7-X (excerpt)",
    level_of_theory="PBE0+MBD",
    licence="MIT (the full set: CC-BY-4.0)",
    units="eV, eV/Å, Å",
    split="group and structure",
    citation="Hoja et al., Sci. Data 8, 43 (2021)",
    notes="Some compositions are held out whole.",
)
"""The QM7-X data set."""
