"""Tells while a run goes whether it has left the physical range, or is to stop."""

from __future__ import annotations

import math
import time

import numpy as np
from ase import Atoms

from jmp_calc.sim.dynamics.observables import Snapshot
from jmp_calc.sim.dynamics.settings import MDSettings, WatchSettings
from jmp_calc.sim.dynamics.velocities import bonds_of


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

    def look(self, shot: Snapshot) -> float:
        """Return the largest stretch of a bond in one step.

        Args:
            shot: The step.
        """
        if len(self._pairs) == 0:
            return 1.0
        first, second = self._pairs.T
        # atoms are never wrapped during a run, so each keeps its image
        vectors = shot.positions[second] - shot.positions[first]
        lengths = np.linalg.norm(vectors + self._images @ shot.cell, axis=1)
        stretch = lengths / self._lengths
        worst = int(np.argmax(stretch))
        largest = float(stretch[worst])
        if largest > self.largest_stretch:
            i, j = self._pairs[worst]
            self.largest_stretch = largest
            self.worst = (
                f"{self._symbols[i]}{i}-{self._symbols[j]}{j}, {lengths[worst]:.2f} A "
                f"at step {shot.observables.step}"
            )
        return largest


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
        return (
            f"step {row.step} ({row.time_ps:g} ps): {finding}; relax the input first, "
            "use a shorter timestep_fs or a lower temperature_K, and check that the "
            "model covers this structure"
        )

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
        return self._bond_finding(shot)

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

    def _bond_finding(self, shot: Snapshot) -> str | None:
        if shot.observables.step % self._bond_stride:
            return None
        stretch = self.bonds.look(shot)
        limit = self._watch.max_bond_stretch
        if limit is None or stretch <= limit:
            return None
        return (
            f"a bond ({self.bonds.worst}) is {stretch:.2f} times as long as at the "
            f"start, more than max_bond_stretch = {limit:g}"
        )
