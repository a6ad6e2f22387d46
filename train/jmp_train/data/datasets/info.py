"""DatasetInfo: where a set comes from, what its labels are, how it is split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample

SplitRule = Literal["group", "structure", "group and structure"]
"""What is held out together.

* ``group``: whole groups (a molecule, a dimer, a block of a trajectory).
* ``structure``: single structures, for sets of one molecule or one material; the
  error on held-out structures is then one of interpolation.
* ``group and structure``: some whole groups, and single structures of the others.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """One public data set as it is used here."""

    name: str
    """Key in ``DATASETS``."""
    folder: str
    """Folder below the data root."""
    read: Callable[[Path], Iterator[Sample]]
    """Yield its samples in a fixed order, given the data root."""
    title: str
    """Name for people."""
    level_of_theory: str
    """Method of the labels."""
    licence: str
    """Licence of the copy that is read, and of the original if it differs."""
    units: str
    """Units in the files; samples are always in eV and Å."""
    split: SplitRule
    """What is held out together."""
    citation: str
    """Publication of the set."""
    notes: str = ""
    """What is left out or rebuilt, and why."""


def find_file(root: Path, *parts: str) -> Path:
    """Return the path of a file of a set.

    Args:
        root: Data root, which holds one folder per set.
        parts: Folder and file name.

    Raises:
        DataError: If it does not exist.
    """
    path = root.joinpath(*parts)
    if not path.exists():
        raise DataError(
            f"there is no {path}; give the folder that holds one folder per data set "
            f"(such as {parts[0]!r})"
        )
    return path
