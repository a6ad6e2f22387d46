"""SPICE excerpt in the original HDF5 layout: one group per molecule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.layouts.hdf5 import open_hdf5, subgroups
from jmp_train.data.layouts.spice import read_conformers
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every conformation; the file stores gradients, forces are their negative.

    Args:
        root: Data root.
    """
    with open_hdf5(find_file(root, "spice", "SPICE-1.1.4_n2.hdf5")) as file:
        for molecule in subgroups(file):
            for frames in read_conformers(file[molecule]):
                yield from frames.labelled_samples(source="spice", group=molecule)


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
