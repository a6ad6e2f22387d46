"""Carbon GAP-17 excerpt: distorted graphite cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.extended_xyz import read_frames
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield the frames; their force column is called ``force``.

    Args:
        root: Data root.
    """
    path = find_file(root, "carbon_gap17", "carbon_reduced_100.xyz")
    yield from read_frames(
        path, source="carbon_gap17", group="graphite", forces_key="force"
    )


INFO = DatasetInfo(
    name="carbon_gap17",
    folder="carbon_gap17",
    read=read,
    title="Carbon (GAP-17 excerpt)",
    level_of_theory="LDA, CASTEP",
    licence="BSD-3-Clause",
    units="eV, eV/Å, Å",
    split="structure",
    citation="Deringer and Csányi, Phys. Rev. B 95, 094203 (2017)",
)
"""The carbon data set."""
