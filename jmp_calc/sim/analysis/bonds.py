"""Bonds of the first frame, their lengths and angles, and whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from jaxtyping import Float

from jmp_calc.sim.analysis.unwrap import completed
from jmp_calc.sim.bonds import bond_cutoffs

LENGTH_BIN_A = 0.01
"""Width of the bins of bond lengths, angstrom."""
ANGLE_BIN_DEGREES = 1.0
"""Width of the bins of angles, degrees."""
LONGEST_A = 8.0
"""Longer bonds are counted in the last bin, angstrom."""


class BondFollower:
    """Follows the bonds that a structure starts with, also through the boundaries.

    Each bond is a vector that goes from frame to frame by the shortest way, so that
    bonds to several images of one atom stay apart in small cells.

    Args:
        first: First frame.
    """

    def __init__(self, first: Atoms) -> None:
        i, j, vectors = neighbor_list("ijD", first, bond_cutoffs(first))
        # each bond once: of bonds to the own images, those with a positive vector
        is_own = (i == j) & (_sign(vectors) > 0)
        is_once = (i < j) | is_own
        self.atoms = np.column_stack([i[is_once], j[is_once]])
        self._vectors = vectors[is_once]
        self.first_lengths = np.linalg.norm(self._vectors, axis=1)
        symbols = first.get_chemical_symbols()
        self.kinds = ["-".join(sorted((symbols[a], symbols[b]))) for a, b in self.atoms]
        self.labels = [f"{symbols[a]}{a}-{symbols[b]}{b}" for a, b in self.atoms]
        self._make_angles(symbols, len(first))

    def _make_angles(self, symbols: Sequence[str], n_atoms: int) -> None:
        at: list[list[tuple[int, int, int]]] = [[] for _ in range(n_atoms)]
        for bond, (a, b) in enumerate(self.atoms):
            at[a].append((bond, 1, int(b)))
            at[b].append((bond, -1, int(a)))
        angles, self.angle_kinds = [], []
        for middle, bonds in enumerate(at):
            for one, other in combinations(bonds, 2):
                angles.append((*one[:2], *other[:2]))
                ends = sorted((symbols[one[2]], symbols[other[2]]))
                self.angle_kinds.append(f"{ends[0]}-{symbols[middle]}-{ends[1]}")
        self._angles = np.array(angles, dtype=int).reshape(-1, 4)

    def lengths(self, atoms: Atoms) -> Float[np.ndarray, "bonds"]:
        """Return the lengths of all bonds in the next frame, angstrom.

        Args:
            atoms: The frame.
        """
        raw = atoms.positions[self.atoms[:, 1]] - atoms.positions[self.atoms[:, 0]]
        cell = completed(np.array(atoms.cell), atoms.pbc)
        change = (raw - self._vectors) @ np.linalg.inv(cell)
        self._vectors = raw - (np.round(change) * atoms.pbc) @ cell
        return np.asarray(np.linalg.norm(self._vectors, axis=1))

    def angles(self) -> Float[np.ndarray, "angles"]:
        """Return the angles between neighbouring bonds in that frame, degrees."""
        unit = self._vectors / np.linalg.norm(self._vectors, axis=1)[:, None]
        bond_1, sign_1, bond_2, sign_2 = self._angles.T
        cosine = sign_1 * sign_2 * np.sum(unit[bond_1] * unit[bond_2], axis=1)
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _sign(vectors: Float[np.ndarray, "bonds 3"]) -> np.ndarray:
    """Return 1 or -1, opposite for opposite vectors: sign of the first component."""
    rounded = np.round(vectors, 6)
    leading = np.argmax(rounded != 0, axis=1)
    return np.asarray(
        np.sign(np.take_along_axis(rounded, leading[:, None], axis=1)[:, 0])
    )


class KindHistogram:
    """Histograms and moments of numbers that belong to named kinds.

    Args:
        kinds: Kind of each number.
        bin_width: Width of the bins.
        largest: Larger numbers are counted in the last bin.
    """

    def __init__(self, kinds: Sequence[str], bin_width: float, largest: float) -> None:
        self.names, self._kind = np.unique(
            np.array(kinds, dtype=str), return_inverse=True
        )
        self.bin_width = bin_width
        self.n_bins = round(largest / bin_width)
        self._counts = np.zeros((len(self.names), self.n_bins))
        self._sums = np.zeros((3, len(self.names)))

    def add(self, values: Float[np.ndarray, "values"]) -> None:
        """Count the numbers of one frame, in the order of their kinds.

        Args:
            values: Numbers.
        """
        place = np.clip((values / self.bin_width).astype(int), 0, self.n_bins - 1)
        n = len(self.names)
        code = self._kind * self.n_bins + place
        counts = np.bincount(code, minlength=n * self.n_bins)
        self._counts += counts.reshape(n, self.n_bins)
        for power in range(3):
            self._sums[power] += np.bincount(self._kind, values**power, minlength=n)

    @property
    def middles(self) -> Float[np.ndarray, "bins"]:
        """Middles of the bins."""
        return self.bin_width * (np.arange(self.n_bins) + 0.5)

    def densities(self) -> dict[str, Float[np.ndarray, "bins"]]:
        """Return the distribution of each kind; its integral is 1."""
        total = np.maximum(self._sums[0], 1.0)[:, None] * self.bin_width
        return dict(zip(map(str, self.names), self._counts / total, strict=True))

    def moments(self) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation of each kind."""
        number = np.maximum(self._sums[0], 1.0)
        mean = self._sums[1] / number
        spread = np.sqrt(np.maximum(self._sums[2] / number - mean**2, 0.0))
        return {
            str(name): (float(mean[k]), float(spread[k]))
            for k, name in enumerate(self.names)
        }
