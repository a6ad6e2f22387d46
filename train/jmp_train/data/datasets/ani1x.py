"""ANI-1x excerpt in the original HDF5 layout: one group per formula."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.layouts.ani1x import read_level
from jmp_train.data.layouts.hdf5 import open_hdf5, subgroups
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield every conformation with a finite ωB97X energy and forces.

    Args:
        root: Data root.
    """
    with open_hdf5(find_file(root, "ani1x", "ani1_n5.hdf5")) as file:
        for formula in subgroups(file):
            for frames in read_level(file[formula]):
                yield from frames.labelled_samples(source="ani1x", group=formula)


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
