"""Paths of atoms through periodic boundaries."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float


def completed(
    cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Return a cell that can be inverted: directions without period get unit vectors.

    Args:
        cell: Vectors as rows, angstrom.
        pbc: Which are periods.
    """
    from ase.geometry import complete_cell

    kept = np.where(pbc[:, None], cell, 0.0)
    return np.asarray(complete_cell(kept), dtype=float)


class Unwrapper:
    """Follows atoms through periodic boundaries and through changes of the cell.

    The step of an atom between two frames is the change of its fractional position, by
    the shortest way, times the mean of both cells. So the swelling of a cell moves no
    atom: with a barostat the steps add up what thermal velocities do, the same whether
    a file has its atoms wrapped or not. An atom must not move by half a cell between
    two frames.

    Source:
        von Buelow, Bullerjahn and Hummer, J. Chem. Phys. 153, 021101 (2020), eq. 4;
        the motion of the cell is taken out as in Martyna, Tobias and Klein, J. Chem.
        Phys. 101, 4177 (1994), eq. 2.1.
    """

    def __init__(self) -> None:
        self._fractions: np.ndarray | None = None
        self._cell: np.ndarray
        self._positions: np.ndarray
        self.largest_step = 0.0
        """Longest step so far as a fraction of a period; near 0.5 it is ambiguous."""

    def follow(self, atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
        """Return where the atoms are if they never jump, angstrom.

        Args:
            atoms: The next frame.
        """
        cell = completed(np.array(atoms.cell), atoms.pbc)
        fractions = atoms.positions @ np.linalg.inv(cell)
        if self._fractions is None:
            self._positions = atoms.positions.copy()
        else:
            step = fractions - self._fractions
            step -= np.round(step) * atoms.pbc
            if atoms.pbc.any():
                largest = float(np.abs(step[:, atoms.pbc]).max())
                self.largest_step = max(self.largest_step, largest)
            self._positions = self._positions + step @ (0.5 * (cell + self._cell))
        self._fractions, self._cell = fractions, cell
        return self._positions
