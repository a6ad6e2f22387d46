"""Acetylacetone: one molecule with a mobile proton."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.extended_xyz import read_frames
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield the labelled frames at 300 K and the proton transfer path.

    The path (the last frames) has energies only.

    Args:
        root: Data root.
    """
    for name in ("train_300K", "test_MD_300K", "test_H_transfer"):
        path = find_file(root, "acac", f"{name}.xyz")
        yield from read_frames(path, source="acac", group="acetylacetone")


INFO = DatasetInfo(
    name="acac",
    folder="acac",
    read=read,
    title="Acetylacetone",
    level_of_theory="UHF PBE-D3/def2-SVP",
    licence="MIT",
    units="eV, eV/Å, Å",
    split="structure",
    citation="Batatia et al., arXiv:2205.06643 (2022)",
    notes="Isolated atoms are left out.",
)
"""The acetylacetone data set."""
