"""Radial distribution functions and interatomic-distance distributions."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.analysis.settings import AnalysisSettings, parse_pair
from jmp_calc.sim.analysis.statistics import BlockedHistogram
from jmp_calc.sim.analysis.unwrap import completed

LEAST_R_MAX_A = 5.0
"""Default range in small cells, where neighbours are images of the same atoms."""
FEW = 600
"""Up to so many atoms all pairs are looked at."""
MOST_R_MAX_A = 10.0
"""Default range in large cells."""


def cell_heights(atoms: Atoms) -> Float[np.ndarray, "axes"]:
    """Return the distances between opposite faces along the periodic axes, angstrom.

    Args:
        atoms: Any structure.
    """
    reciprocal = np.linalg.pinv(np.array(atoms.cell)).T
    lengths = np.linalg.norm(reciprocal, axis=1)[atoms.pbc]
    if (lengths < 1e-10).any():
        raise ArgumentError(
            "a periodic direction has no cell vector; give a cell or switch pbc off"
        )
    heights: np.ndarray = 1.0 / lengths
    return heights


def choose_r_max(atoms: Atoms, settings: AnalysisSettings) -> float:
    """Return the range of distances, angstrom.

    Args:
        atoms: First frame.
        settings: Of the analysis.
    """
    if settings.r_max_A is not None:
        return float(settings.r_max_A)
    if not atoms.pbc.any():
        extent = np.ptp(atoms.positions, axis=0)
        return float(math.ceil(1.0 + 1.25 * float(np.linalg.norm(extent))))
    half = 0.5 * float(cell_heights(atoms).min())
    return min(max(half, LEAST_R_MAX_A), MOST_R_MAX_A)


def pairs_within(
    atoms: Atoms, r_max: float
) -> tuple[
    Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Float[np.ndarray, "pairs"]
]:
    """Return all ordered pairs closer than a distance, with periodic images.

    Args:
        atoms: Any structure; the cell may be smaller than the range.
        r_max: Largest distance, angstrom.

    Returns:
        First atoms, second atoms and distances, angstrom.
    """
    if _is_direct(atoms, r_max):
        return _direct_pairs(atoms, r_max)
    from matscipy.neighbours import neighbour_list

    cell, positions = _with_walls(atoms)
    first, second, distance = neighbour_list(
        "ijd",
        positions=positions,
        cell=cell,
        pbc=atoms.pbc,
        cutoff=r_max,
    )
    return first.astype(int), second.astype(int), distance


def _is_direct(atoms: Atoms, r_max: float) -> bool:
    """Return whether each pair has one distance within the range at most."""
    if not atoms.pbc.any():
        return True
    return len(atoms) <= FEW and r_max <= 0.5 * float(cell_heights(atoms).min())


def _direct_pairs(
    atoms: Atoms, r_max: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # ten times as fast as a neighbour list whose cells are as large as the system
    first, second = _all_pairs(len(atoms))
    cell = completed(np.array(atoms.cell), atoms.pbc)
    fractions = atoms.positions @ np.linalg.inv(cell)
    step = fractions[second] - fractions[first]
    step -= np.round(step) * atoms.pbc
    distance = np.linalg.norm(step @ cell, axis=1)
    is_near = distance < r_max
    first, second, distance = first[is_near], second[is_near], distance[is_near]
    return (
        np.concatenate([first, second]),
        np.concatenate([second, first]),
        np.concatenate([distance, distance]),
    )


@lru_cache(maxsize=2)
def _all_pairs(n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(n_atoms, 1)
    return first, second


def _with_walls(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Give directions without period a vector that holds all atoms."""
    from ase.geometry import complete_cell

    positions = atoms.positions.copy()
    cell = complete_cell(np.where(atoms.pbc[:, None], np.array(atoms.cell), 0.0))
    for axis in np.flatnonzero(~atoms.pbc):
        along = positions @ cell[axis]
        positions -= np.outer(np.full(len(atoms), along.min() - 1.0), cell[axis])
        cell[axis] = cell[axis] * (np.ptp(along) + 2.0)
    return cell, positions


class DistanceCounts:
    """Counts the distances between pairs of elements, frame by frame.

    In fully periodic systems the result is the radial distribution function g(r), with
    N_b / V as the density of partners: an ideal gas has 1 - 1/N between like atoms and
    1 between unlike ones, and cells smaller than the range are right as well. Otherwise
    it is the distribution h(r) of the distances, whose integral over all r is 1 (in
    slabs: over the range).

    Args:
        first: First frame.
        r_max: Range, angstrom.
        settings: Bin width, and pairs to show.

    Raises:
        ArgumentError: If there are fewer than two bins, or no such pair of elements.

    Source:
        h(r): Fu et al., Forces are not enough, arXiv:2210.07237, section 3.
    """

    def __init__(self, first: Atoms, r_max: float, settings: AnalysisSettings) -> None:
        self.n_bins = round(r_max / settings.bin_width_A)
        if self.n_bins < 2:
            raise ArgumentError(
                f"bin_width_A is {settings.bin_width_A:g} and the range "
                f"{r_max:g} angstrom; give a bin width below half the range"
            )
        self.bin_width = r_max / self.n_bins
        self.r_max = r_max
        self.is_rdf = bool(first.pbc.all())
        self._is_isolated = not first.pbc.any()
        self._symbols, self._kind = np.unique(
            first.get_chemical_symbols(), return_inverse=True
        )
        self.pairs = _chosen_pairs(first, settings)
        self._counts = np.bincount(self._kind)
        edges = self.bin_width * np.arange(self.n_bins + 1)
        self._shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        n = len(self._symbols)
        # the last row is the total
        self._histogram = BlockedHistogram((n * n + 1, self.n_bins))
        self._number = np.zeros((n * n + 1, self.n_bins))

    @property
    def n_frames(self) -> int:
        """Number of frames so far."""
        return self._histogram.n_frames

    @property
    def r(self) -> Float[np.ndarray, "bins"]:
        """Middles of the bins, angstrom."""
        return self.bin_width * (np.arange(self.n_bins) + 0.5)

    def add(self, atoms: Atoms) -> None:
        """Count one frame.

        Args:
            atoms: The frame.
        """
        first, second, distance = pairs_within(atoms, self.r_max)
        place = np.minimum((distance / self.bin_width).astype(int), self.n_bins - 1)
        n = len(self._symbols)
        pair = self._kind[first] * n + self._kind[second]
        counts = np.bincount(pair * self.n_bins + place, minlength=n * n * self.n_bins)
        table = counts.reshape(n * n, self.n_bins).astype(float)
        table = np.vstack([table, table.sum(axis=0)])
        self._number += table
        self._histogram.add(self._normalised(table, atoms))

    def _normalised(
        self, table: Float[np.ndarray, "pairs bins"], atoms: Atoms
    ) -> Float[np.ndarray, "pairs bins"]:
        n_atoms = len(atoms)
        if self.is_rdf:
            of_pair = np.append(np.outer(self._counts, self._counts), n_atoms**2)
            scale = float(atoms.get_volume()) / of_pair
            return table * scale[:, None] / self._shells
        if self._is_isolated:
            partners = np.outer(self._counts, self._counts) - np.diag(self._counts)
            number = np.append(partners, n_atoms * (n_atoms - 1)).astype(float)
        else:
            number = table.sum(axis=1)
        scaled: np.ndarray = table / np.maximum(number, 1.0)[:, None] / self.bin_width
        return scaled

    def curves(self) -> dict[str, Float[np.ndarray, "bins"]]:
        """Return the curve of all pairs ("total") and of each pair of elements."""
        return self._named(self._histogram.mean)

    def neighbors(self) -> list[tuple[str, str, Float[np.ndarray, "bins"]]]:
        """Return how many atoms lie within the end of each bin of an atom.

        They are counted, as a mean of g(r) times a density would be wrong in a cell
        that changes.

        Returns:
            Names such as "O around H", the pair whose curve belongs to it, and numbers.
        """
        running = np.cumsum(self._number, axis=1) / max(self.n_frames, 1)
        found = [("all", "total", running[-1] / len(self._kind))]
        for pair in self.pairs:
            for one, other in dict.fromkeys((pair, pair[::-1])):
                place = self._place(one)
                row = running[place * len(self._symbols) + self._place(other)]
                name = f"{other} around {one}"
                found.append((name, "-".join(pair), row / self._counts[place]))
        return found

    def errors(self) -> dict[str, Float[np.ndarray, "bins"]]:
        """Return standard errors of the curves; none if there are too few frames."""
        error = self._histogram.error
        return {} if error is None else self._named(error)

    def halves(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
        """Return the curves of the first and the second half of the frames."""
        halves = self._histogram.halves
        return (
            None if halves is None else (self._named(halves[0]), self._named(halves[1]))
        )

    def _named(self, table: Float[np.ndarray, "pairs bins"]) -> dict[str, np.ndarray]:
        n = len(self._symbols)
        found = {"total": table[-1]}
        for first, second in self.pairs:
            place = self._place(first) * n + self._place(second)
            found[f"{first}-{second}"] = table[place]
        return found

    def _place(self, symbol: str) -> int:
        return int(np.flatnonzero(self._symbols == symbol)[0])


def _chosen_pairs(first: Atoms, settings: AnalysisSettings) -> list[tuple[str, str]]:
    symbols_of_all = first.get_chemical_symbols()
    symbols = sorted(set(symbols_of_all))
    is_periodic = bool(first.pbc.any())
    if not settings.pairs:
        if len(symbols) == 1:
            # the total says it all
            return []
        pairs = list(combinations_with_replacement(symbols, 2))
        # a single atom of an element without images has no partner
        alone = {s for s in symbols if symbols_of_all.count(s) == 1}
        return [(a, b) for a, b in pairs if a != b or is_periodic or a not in alone]
    chosen = [parse_pair(pair) for pair in settings.pairs]
    for pair in chosen:
        missing = [symbol for symbol in pair if symbol not in symbols]
        if missing:
            raise ArgumentError(
                f"--pairs {'-'.join(pair)}: there is no {missing[0]}; the trajectory "
                f"has {', '.join(symbols)}"
            )
    return chosen


def first_shell(curve: Float[np.ndarray, "bins"]) -> int | None:
    """Return the bin of the first minimum of g(r) behind its highest peak.

    Args:
        curve: g(r).

    Returns:
        The lowest bin of the valley, in which g(r) is below 1; None if the curve does
        not come back to 1 within its range.
    """
    peak = int(np.argmax(curve))
    low = np.flatnonzero(curve[peak:] < 1.0)
    if not len(low):
        return None
    start = peak + int(low[0])
    back = np.flatnonzero(curve[start:] >= 1.0)
    return start + int(np.argmin(curve[start : start + back[0]])) if len(back) else None


def distance_between(
    first: Float[np.ndarray, "bins"],
    second: Float[np.ndarray, "bins"],
    bin_width: float,
) -> float:
    """Return the integral of the absolute difference of two curves.

    For h(r) it is a number without unit between 0 and 2; for g(r) it has the unit
    angstrom.

    Args:
        first: One curve.
        second: The other, on the same bins.
        bin_width: Angstrom.

    Source:
        Fu et al., Forces are not enough, arXiv:2210.07237, section 3, MAE of h(r).
    """
    return float(np.abs(first - second).sum() * bin_width)


def is_same_system(first: Atoms, second: Atoms) -> Bool[np.ndarray, ""] | bool:
    """Return whether two structures have the same atoms and periodicity.

    Args:
        first: One structure.
        second: The other; the order of its atoms does not matter.
    """
    return bool(
        np.array_equal(np.sort(first.numbers), np.sort(second.numbers))
        and np.array_equal(first.pbc, second.pbc)
    )
