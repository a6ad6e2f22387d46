"""What was computed last and for which positions, so that a resumed run has it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from jmp_calc.errors import JMPError, UnsupportedSystemError
from jmp_calc.sim.evaluation import REFUSALS


class Held(Calculator):
    """Asks another calculator for everything at once, and holds the answer.

    A barostat asks for stress and forces one after the other, and a calculator that was
    asked for forces only would have to compute the structure again for the stress.

    ASE takes results for current if positions have changed by less than 1e-15. So the
    forces of a step may belong to positions that differ in the last digit from those at
    its end, and a run is continued bit for bit only with both.

    Args:
        calculator: Any calculator of ASE.
        has_stress: Whether the stress is needed.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, calculator: Any, *, has_stress: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE
        self._calculator = calculator
        self._has_computed = False
        self._place: Atoms | None = None
        # what gives the others as well comes first
        self._names = ("stress", "forces", "energy") if has_stress else _FORCES

    @property
    def force_spread(self) -> float | None:
        """Largest spread of the force on an atom at the last step, eV/angstrom.

        None if the calculator does not tell it, as ``force_spread``, or has
        computed nothing yet, as after a restart.
        """
        if not has_spread(self._calculator) or not self._has_computed:
            return None
        return float(self._calculator.force_spread)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last step; called by ASE for every result.

        Only positions and cell move, and mostly they have not since they were last
        asked about: that is seen at a hundredth of the cost of ASE's comparison, to
        which the rest is left that is within its tolerance.
        """
        last = self.atoms
        if last is None:
            return list(all_changes)
        now, before = atoms.positions, last.positions
        is_same_cell = last.cell.array.tobytes() == atoms.cell.array.tobytes()
        if is_same_cell and now.shape == before.shape:
            if now.tobytes() == before.tobytes():
                return []
            if np.abs(now - before).max() > tol:
                return ["positions"]
        found: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]  # ASE
        return found

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),  # noqa: ARG002 (ASE's)
        system_changes: Sequence[str] = all_changes,  # noqa: ARG002 (ASE's)
    ) -> None:
        """Compute energy, forces and perhaps stress; called by ASE.

        Raises:
            UnsupportedSystemError: If the calculator cannot compute the structure.
        """
        assert atoms is not None
        self._remember(atoms)
        # the object that moves, not a copy: calculators may follow it
        ask = self._calculator.get_property
        try:
            self.results = {name: ask(name, atoms) for name in self._names}
        except JMPError:
            raise
        except (*REFUSALS, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise UnsupportedSystemError(
                f"the calculator failed ({type(error).__name__}: {text})"
            ) from error
        self.results["free_energy"] = self.results["energy"]
        self._has_computed = True

    def _remember(self, atoms: Atoms) -> None:
        """Remember what is computed for; in a run only positions and cell move."""
        place = self._place
        if place is None or _kind_of(place) != _kind_of(atoms):
            self._place = place = atoms.copy()
            # the constraints are not asked for, and slow to copy
            place.set_constraint()
        place.arrays["positions"][:] = atoms.positions
        place.cell[:] = atoms.cell.array
        self.atoms = place

    def capture(self) -> dict[str, np.ndarray]:
        """Return the results and what they were computed for."""
        assert self.atoms is not None
        found = {name: np.array(self.results[name]) for name in self._names}
        return {
            **found,
            "positions": self.atoms.positions.copy(),
            "cell": np.array(self.atoms.cell),
        }

    def restore(self, atoms: Atoms, computed: Mapping[str, np.ndarray]) -> None:
        """Hold results again.

        Args:
            atoms: The system that they belong to.
            computed: From :meth:`capture`.
        """
        self.atoms = atoms.copy()
        self.atoms.set_constraint()
        self.atoms.set_cell(computed["cell"])
        self.atoms.set_positions(computed["positions"])
        self.results = {name: computed[name].copy() for name in self._names}
        self.results["energy"] = float(computed["energy"])
        self.results["free_energy"] = self.results["energy"]


def has_spread(calculator: Any) -> bool:
    """Return whether a calculator tells how uncertain its forces are.

    Args:
        calculator: Any calculator of ASE.
    """
    # asked of the class: the number itself exists only after a calculation
    return hasattr(type(calculator), "force_spread")


def _kind_of(atoms: Atoms) -> bytes:
    return bytes(atoms.numbers.tobytes() + atoms.pbc.tobytes())


_FORCES = ("forces", "energy")
