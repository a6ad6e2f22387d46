"""What has changed in a structure since it was computed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes, equal


def changes_between(
    before: Atoms | None, now: Atoms, *, tolerance: float, ignored: Collection[str]
) -> list[str]:
    """Return the names of what differs, as ``compare_atoms`` of ASE does.

    ASE compares with a tolerance, which takes as long as a small network; here that is
    left for what is not the same to the last bit.

    Args:
        before: What was computed; None: nothing.
        now: The structure.
        tolerance: Largest difference that is none.
        ignored: Names of ``ase.calculators.calculator.all_changes`` that do not count.
    """
    if before is None:
        return list(all_changes)
    return [
        name
        for name in all_changes
        if name not in ignored
        and not _is_same(_values(before, name), _values(now, name), tolerance)
    ]


def _values(atoms: Atoms, name: str) -> np.ndarray | None:
    if name == "cell":
        return np.asarray(atoms.cell.array)
    if name == "pbc":
        return np.asarray(atoms.pbc)
    return atoms.arrays.get(name)


def _is_same(
    before: np.ndarray | None, now: np.ndarray | None, tolerance: float
) -> bool:
    if before is None or now is None:
        return before is now
    if (
        before.shape == now.shape
        and before.dtype == now.dtype
        and before.tobytes() == now.tobytes()
    ):
        return True
    return bool(equal(before, now, atol=tolerance))
