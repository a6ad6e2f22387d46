"""Equations of state of BO2 oxide polymorphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.extended_xyz import read_frames
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield the structures of all four metals.

    Args:
        root: Data root.
    """
    path = find_file(root, "bo2_oxides_eos", "bo2_oxides.extxyz")
    yield from read_frames(path, source="bo2_oxides", group="BO2")


INFO = DatasetInfo(
    name="bo2_oxides",
    folder="bo2_oxides_eos",
    read=read,
    title="BO2 oxide equations of state",
    level_of_theory="PBE, VASP",
    licence="MIT",
    units="eV, eV/Å, Å",
    split="structure",
    citation="Mehta, Salvador and Kitchin, ACS Appl. Mater. Interfaces 6, 3630 (2014)",
    notes="Held-out structures are other volumes of polymorphs seen in training.",
)
"""The BO2 oxide data set."""
