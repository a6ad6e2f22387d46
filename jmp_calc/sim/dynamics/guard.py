"""Tells while a run goes whether it has left the physical range, or is to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from jmp_calc.sim.bonds import BOND_TOLERANCE, bonds_of
from jmp_calc.sim.dynamics.observables import Snapshot
from jmp_calc.sim.dynamics.settings import SHORTEST_BOND, MDSettings, WatchSettings

MAX_CELLS = 1024
"""Atoms are told apart from their images up to so many cells away."""
SKIN_A = 1.0
"""How much nearer a pair may come before pairs are looked for again, angstrom."""
EARLY_PS = 0.2
"""Up to here it is the start that a run suffers from."""


class BondWatch:
    """Follows the bonds that a structure starts with.

    Args:
        start: The input of the run; its bonds count as equilibrium bonds.

    Source:
        Fu et al., Forces are not enough, arXiv:2210.07237, section 3: a simulation of
        a molecule is stable while no bond leaves its equilibrium length by far.
    """

    def __init__(self, start: Atoms) -> None:
        self._symbols = start.get_chemical_symbols()
        self._pairs, self._lengths, self._images = bonds_of(start)
        self.largest_stretch = 1.0
        """Longest length of any bond so far, in units of its length at the start."""
        self.worst: str | None = None
        """Which bond that was and when."""

    def look(self, shot: Snapshot) -> tuple[float, str]:
        """Return the largest stretch of a bond in one step, and which bond that is.

        Args:
            shot: The step.
        """
        if len(self._pairs) == 0:
            return 1.0, ""
        first, second = self._pairs.T
        # atoms are never wrapped during a run, so each keeps its image
        vectors = shot.positions[second] - shot.positions[first]
        lengths = np.linalg.norm(vectors + self._images @ shot.cell, axis=1)
        stretch = lengths / self._lengths
        worst = int(np.argmax(stretch))
        largest = float(stretch[worst])
        which = _name(self._symbols, self._pairs[worst], lengths[worst], shot)
        if largest > self.largest_stretch:
            self.largest_stretch, self.worst = largest, which
        return largest, which


class ContactWatch:
    """Looks for atoms that come close although they were apart at the start.

    Args:
        start: The input of the run.
        limit: What is too close, in units of the sum of covalent radii.

    Source:
        Covalent radii as for bonds (:mod:`jmp_calc.sim.bonds`).
    """

    def __init__(self, start: Atoms, limit: float) -> None:
        self._atoms: Atoms = start.copy()
        self._atoms.set_constraint()
        self._limit = limit
        self._reach = max(limit, BOND_TOLERANCE)
        self._radii = covalent_radii[start.numbers]
        self._list_pairs()
        ratios = self._ratios()
        # atoms inside of each other at the start are no neighbours
        is_known = (ratios < self._reach) & (ratios >= SHORTEST_BOND)
        self._known = self._keys[is_known]
        self._is_new = ~np.isin(self._keys, self._known)
        self.closest: float | None = None
        """Smallest distance of atoms that were apart, in units of the sum of their
        covalent radii; None while none are as near as a bond or the limit."""
        self.worst: str | None = None
        """Which atoms that were and when."""

    def look(self, shot: Snapshot) -> str | None:
        """Return which atoms are too close in one step, or None.

        Args:
            shot: The step.
        """
        self._atoms.positions = shot.positions
        self._atoms.cell = shot.cell
        if self._has_moved():
            self._list_pairs()
            self._is_new = ~np.isin(self._keys, self._known)
        ratios = np.where(self._is_new, self._ratios(), np.inf)
        nearest = int(np.argmin(ratios)) if len(ratios) else -1
        if nearest < 0 or ratios[nearest] >= self._reach:
            return None
        ratio, pair = float(ratios[nearest]), self._pairs[nearest]
        length = ratio * self._radii[pair].sum()
        which = _name(self._atoms.symbols, pair, length, shot)
        if self.closest is None or ratio < self.closest:
            self.closest, self.worst = ratio, which
        return which if ratio < self._limit else None

    def _list_pairs(self) -> None:
        """Find pairs that may come into reach before the list is made again."""
        cutoffs = self._reach * self._radii + SKIN_A / 2
        first, second, image = neighbor_list("ijS", self._atoms, cutoffs)
        is_once = first <= second
        self._pairs = np.column_stack([first[is_once], second[is_once]])
        self._images = image[is_once]
        # a number that tells a pair from its images
        self._keys = self._pairs[:, 0] * len(self._atoms) + self._pairs[:, 1]
        for cells in self._images.T:
            self._keys = self._keys * MAX_CELLS + (cells + MAX_CELLS // 2) % MAX_CELLS
        self._listed_at = self._atoms.positions.copy(), self._atoms.cell.array.copy()

    def _has_moved(self) -> bool:
        """Return whether atoms or cell have moved so far that others may be near."""
        positions, cell = self._listed_at
        moved = np.linalg.norm(self._atoms.positions - positions, axis=1).max()
        stretched = np.linalg.norm(self._atoms.cell.array - cell)
        farthest = np.abs(self._images).max(initial=1)
        return bool(2 * moved + 3 * farthest * stretched > SKIN_A)

    def _ratios(self) -> np.ndarray:
        """Return distances of all pairs by the sums of their covalent radii."""
        first, second = self._pairs.T
        vectors = self._atoms.positions[second] - self._atoms.positions[first]
        lengths = np.linalg.norm(
            vectors + self._images @ self._atoms.cell.array, axis=1
        )
        return np.asarray(lengths / (self._radii[first] + self._radii[second]))


def _name(
    symbols: Sequence[str], pair: np.ndarray, length: float, shot: Snapshot
) -> str:
    i, j = pair
    step = shot.observables.step
    return f"{symbols[i]}{i}-{symbols[j]}{j}, {length:.2f} A at step {step}"


class Guard:
    """Judges steps.

    Args:
        start: The input of the run.
        settings: Physics of the run.
        watch: Limits.
        initial_K: Temperature of the velocities at the start, K.
        initial_energy_eV: Potential energy at the start.
        degrees_of_freedom: Number that temperatures refer to.
        bond_stride: Steps between looks at the bonds.
    """

    def __init__(
        self,
        start: Atoms,
        settings: MDSettings,
        watch: WatchSettings,
        *,
        initial_K: float,
        initial_energy_eV: float,
        degrees_of_freedom: int,
        bond_stride: int,
    ) -> None:
        self._energy = initial_energy_eV
        hottest_K = max(settings.temperature_at(0), settings.temperature_at(10**15))
        self._limit_K = watch.temperature_limit(
            max(hottest_K, initial_K), degrees_of_freedom
        )
        self._watch = watch
        self._bond_stride = bond_stride
        self._started = time.monotonic()
        self.bonds = BondWatch(start)
        self.contacts = ContactWatch(start, watch.min_contact)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the run has had the time that it was given."""
        limit = self._watch.max_minutes
        return limit is not None and time.monotonic() - self._started > 60.0 * limit

    def problem(self, shot: Snapshot) -> str | None:
        """Return what is wrong with a step and what to do, or None.

        Args:
            shot: The step.
        """
        row = shot.observables
        if spread := self._spread_finding(shot):
            return f"step {row.step} ({row.time_ps:g} ps): {spread}"
        finding = self._finding(shot)
        if finding is None:
            return None
        advice = (
            "relax the input first, use a shorter timestep_fs or a lower "
            "temperature_K, and check that the model covers this structure"
            if row.time_ps <= EARLY_PS
            else "look at the last frames: the model may not know what became of the "
            "structure; a shorter timestep_fs or a lower temperature_K may help"
        )
        return f"step {row.step} ({row.time_ps:g} ps): {finding}; {advice}"

    def _finding(self, shot: Snapshot) -> str | None:
        row = shot.observables
        if not math.isfinite(row.potential_energy_eV):
            return f"the potential energy is {row.potential_energy_eV} eV"
        is_bad = ~np.isfinite(shot.forces).all(axis=1)
        if is_bad.any():
            return f"the force on atom {int(np.argmax(is_bad))} is not finite"
        if not row.temperature_K <= self._limit_K:
            return (
                f"the temperature is {row.temperature_K:.0f} K, above "
                f"max_temperature_K = {self._limit_K:.0f}"
            )
        change = (row.potential_energy_eV - self._energy) / len(shot.forces)
        limit = self._watch.max_energy_change_eV_per_atom
        if abs(change) > limit:
            return (
                f"the potential energy has changed by {change:.1f} eV/atom since the "
                f"start, more than max_energy_change_eV_per_atom = {limit:g}"
            )
        return self._distance_finding(shot)

    def _spread_finding(self, shot: Snapshot) -> str | None:
        limit, spread = self._watch.max_force_spread_eV_per_A, shot.force_spread
        # a run that goes on from a checkpoint was judged there before
        if limit is None or spread is None or spread <= limit:
            return None
        return (
            f"the models spread by {spread:.3g} eV/A about the force on an atom, more "
            f"than max_force_spread_eV_per_A = {limit:g}; they do not know this "
            "structure: train on more like it, or stay closer to the input"
        )

    def _distance_finding(self, shot: Snapshot) -> str | None:
        if shot.observables.step % self._bond_stride:
            return None
        stretch, bond = self.bonds.look(shot)
        limit = self._watch.max_bond_stretch
        if limit is not None and stretch > limit:
            return (
                f"a bond ({bond}) is {stretch:.2f} times as long as at the start, more "
                f"than max_bond_stretch = {limit:g}"
            )
        if contact := self.contacts.look(shot):
            return (
                f"two atoms ({contact}) came closer than min_contact = "
                f"{self._watch.min_contact:g} times the sum of their covalent radii"
            )
        return None
