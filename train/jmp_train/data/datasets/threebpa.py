"""3BPA: one flexible drug-like molecule at 300 K."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.extended_xyz import read_frames
from jmp_train.data.sample import Sample


def read(root: Path) -> Iterator[Sample]:
    """Yield the frames of ``train_300K.xyz``.

    Args:
        root: Data root.
    """
    path = find_file(root, "3bpa", "train_300K.xyz")
    yield from read_frames(path, source="threebpa", group="3BPA")


INFO = DatasetInfo(
    name="threebpa",
    folder="3bpa",
    read=read,
    title="3BPA",
    level_of_theory="ωB97X/6-31G(d)",
    licence="MIT",
    units="eV, eV/Å, Å",
    split="structure",
    citation="Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021)",
    notes="Isolated atoms are left out.",
)
"""The 3BPA data set."""
