"""A system under test: how it is displaced, evaluated, and how noisy its energy is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from jaxtyping import Float, Int

from jmp_calc.sim.check.settings import DEFAULT_REACH_A, CheckSettings
from jmp_calc.sim.evaluation import REFUSALS, Results, evaluate_in_chunks

NOISE_SCALES = ((1e-5, 3), (3e-3, 6))
"""Distance of the points at which noise is measured, angstrom, and which difference is
taken of them: that of a smooth energy is then below 1e-10 eV."""
NOISE_POINTS = 16
CHUNK_ATOMS = 512
"""Atoms that a calculator gets at a time, so that progress can be seen."""
STEEPNESS = 1000.0
"""Third derivative of the energy of a stiff bond, eV/angstrom^3."""
SHORTEST_STEP_A, LONGEST_STEP_A = 1e-4, 1e-2
"""Range of displacements for finite differences, angstrom."""


class Probe:
    """A structure and its calculator, for the tests.

    Args:
        atoms: The structure; not changed.
        calculator: Any ASE calculator.
        settings: Of the check.
        reach_A: Beyond the cutoff of the calculator, angstrom; None: not known.
        progress: Called with the number of structures computed so far.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: Any,
        settings: CheckSettings,
        reach_A: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.given: Atoms = atoms.copy()
        """The structure as it came, without constraints and momenta."""
        self.given.set_constraint()
        self.given.arrays.pop("momenta", None)
        self.calculator = calculator
        self.settings = settings
        self.n_evaluated = 0
        """Structures computed so far."""
        self._progress = progress
        self.reach_A = settings.reach_A or reach_A or DEFAULT_REACH_A
        self.shaken: Atoms = self.given.copy()
        """The same without its symmetry."""
        self.shaken.positions += settings.shake_A * self.rng(0).standard_normal(
            self.given.positions.shape
        )

    def rng(self, stream: int) -> np.random.Generator:
        """Return random numbers of one test.

        Args:
            stream: Number of the test, so that tests do not depend on each other.
        """
        return np.random.default_rng([self.settings.seed, stream])

    def evaluate(
        self, systems: Sequence[Atoms], properties: Sequence[str] = ("energy", "forces")
    ) -> list[Results]:
        """Compute structures.

        Args:
            systems: Structures.
            properties: ASE's names of what is wanted.

        Raises:
            UnsupportedSystemError: If a result is not finite.
        """
        found = []
        chunk = max(1, CHUNK_ATOMS // len(self.given))
        for results in evaluate_in_chunks(
            self.calculator, systems, properties, chunk=min(chunk, 64)
        ):
            found.append(results)
            self.count(1)
        return found

    def count(self, number: int) -> None:
        """Tell how many structures more have been computed.

        Args:
            number: How many.
        """
        self.n_evaluated += number
        if self._progress is not None:
            self._progress(self.n_evaluated)

    def curve(
        self, systems: Sequence[Atoms]
    ) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "points atoms 3"]]:
        """Return energies (eV) and forces (eV/angstrom) of structures.

        Args:
            systems: Structures of one size.
        """
        found = self.evaluate(systems)
        energies = np.array([results["energy"] for results in found], dtype=float)
        return energies, np.array([results["forces"] for results in found], dtype=float)

    @functools.cached_property
    def has_stress(self) -> bool:
        """Whether stress means anything, and the calculator has it."""
        if not self.given.pbc.all():
            return False
        try:
            self.evaluate([self.shaken], ("energy", "stress"))
        except (PropertyNotImplementedError, KeyError):
            return False
        return True

    @functools.cached_property
    def noise(self) -> tuple[float, float]:
        """Scatter of energy (eV) and forces (eV/angstrom) between points that touch.

        High differences of a smooth function vanish over such distances; what is left
        has a known multiple of the variance of the scatter. Medians, so that a single
        jump is not taken for noise. The larger of two distances sees results that are
        rounded so far that neighbours are equal.
        """
        direction = self.rng(1).standard_normal(self.given.positions.shape)
        direction /= np.linalg.norm(direction)
        found = []
        for step, order in NOISE_SCALES:
            systems = []
            for number in range(NOISE_POINTS):
                system = self.shaken.copy()
                system.positions += number * step * direction
                systems.append(system)
            found.append([_scatter(x, order) for x in self.curve(systems)])
        energy, force = np.max(found, axis=0)
        return float(energy), float(force)

    @property
    def knows_noise(self) -> bool:
        """Whether the noise has been measured."""
        return "noise" in self.__dict__

    @property
    def step(self) -> float:
        """Displacement, angstrom, at which noise and curvature spoil a difference."""
        best = (3 * self.noise[0] / STEEPNESS) ** (1 / 3)
        return float(np.clip(best, SHORTEST_STEP_A, LONGEST_STEP_A))

    @functools.cached_property
    def displaced(
        self,
    ) -> tuple[
        Int[np.ndarray, " coordinates"],
        Float[np.ndarray, "2 coordinates"],
        Float[np.ndarray, "2 coordinates atoms 3"],
    ]:
        """Coordinates, and energies and forces with each moved back and forth.

        Coordinates count x, y, z of the first atom, then those of the next. They are
        drawn at random if there are more than the settings allow.
        """
        n_all = 3 * len(self.given)
        n = min(n_all, self.settings.n_coordinates)
        index = np.sort(self.rng(2).choice(n_all, size=n, replace=False))
        systems = []
        for sign in (-1, 1):
            for coordinate in index:
                system = self.shaken.copy()
                system.positions[coordinate // 3, coordinate % 3] += sign * self.step
                systems.append(system)
        energies, forces = self.curve(systems)
        shape = (2, n, len(self.given), 3)
        return index, energies.reshape(2, n), forces.reshape(shape)


def _scatter(values: Float[np.ndarray, "points ..."], order: int) -> float:
    difference = np.abs(np.diff(values, n=order, axis=0))
    # of normal deviates the median is 0.674 standard deviations
    return float(np.median(difference) / 0.674 / np.sqrt(math.comb(2 * order, order)))


REFUSED = (*REFUSALS, RuntimeError)
"""What a calculator may raise in a test without taking the others with it."""
