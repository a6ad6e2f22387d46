"""Atoms anywhere in skewed cells of any periodicity, for hypothesis."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from hypothesis import strategies as st


def random_cells(*, most_atoms: int, longest: float) -> st.SearchStrategy[Atoms]:
    """Return a strategy for argon, up to two cells away from its cell.

    Args:
        most_atoms: Largest number of atoms.
        longest: Longest vector of cells that are not skewed, in units of 3 angstrom.
    """
    return st.builds(
        _random_cell,
        seed=st.integers(0, 10**6),
        n_atoms=st.integers(1, most_atoms),
        pbc=st.tuples(*[st.booleans()] * 3),
        stretch=st.tuples(*[st.floats(0.7, longest)] * 3),
    )


def _random_cell(
    seed: int,
    n_atoms: int,
    pbc: tuple[bool, bool, bool],
    stretch: tuple[float, float, float],
) -> Atoms:
    rng = np.random.default_rng(seed)
    cell = (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3))) * np.array(stretch)[:, None] * 3
    positions = rng.uniform(-1, 2, (n_atoms, 3)) @ cell
    return Atoms("Ar" * n_atoms, positions, cell=cell, pbc=pbc)
