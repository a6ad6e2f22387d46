"""A constraint that holds a bond, an angle or a dihedral beside fixed atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixConstraint, FixedLine, FixedPlane
from ase.geometry import (
    get_angles_derivatives,
    get_dihedrals_derivatives,
    get_distances_derivatives,
)
from jaxtyping import Float

from jmp_calc.errors import UnsupportedSystemError

EXACT = 1e-9
"""A coordinate is held within this, angstrom or degrees."""

_MOST_ROUNDS = 100
_BESIDE = (FixAtoms, FixCartesian, FixedLine, FixedPlane)


def measured(atoms: Atoms, indices: Sequence[int]) -> float:
    """Return a bond length, angstrom, or an angle or dihedral, degrees (0 to 360).

    Args:
        atoms: A structure.
        indices: Two, three or four of its atoms.
    """
    names = {2: "get_distance", 3: "get_angle", 4: "get_dihedral"}
    return float(getattr(atoms, names[len(indices)])(*indices))


class HeldCoordinate(FixConstraint):
    """Holds one coordinate, and leaves all else to the forces.

    ASE's ``FixInternals`` and ``FixBondLengths`` move atoms that another constraint
    fixes; the former also takes the rotation out of all forces, which in a crystal or
    beside fixed atoms is no free motion.

    Args:
        indices: Two, three or four atoms.
        value: Angstrom or degrees.
        others: Constraints that act beside this one, and before it.

    Raises:
        UnsupportedSystemError: If another constraint is not of one atom only.
    """

    def __init__(
        self, indices: Sequence[int], value: float, others: Sequence[FixConstraint]
    ) -> None:
        for other in others:
            if not isinstance(other, _BESIDE):
                raise UnsupportedSystemError(
                    f"the structure has the constraint {type(other).__name__}, beside "
                    "which no coordinate can be held; allowed are "
                    f"{', '.join(kind.__name__ for kind in _BESIDE)}: remove it, or "
                    "do not relax"
                )
        self.indices = tuple(indices)
        self.value = value
        self._others = tuple(others)

    def get_removed_dof(self, atoms: Atoms) -> int:  # noqa: ARG002 (ASE's)
        """Return the number of degrees of freedom that are taken away."""
        return 1

    def get_indices(self) -> list[int]:
        """Return the atoms that define the coordinate."""
        return list(self.indices)

    def adjust_positions(self, atoms: Atoms, new: Float[np.ndarray, "atoms 3"]) -> None:
        """Bring the coordinate of new positions back to its value, by Newton steps."""
        system = atoms.copy()
        for _ in range(_MOST_ROUNDS):
            system.set_positions(new, apply_constraint=False)
            gap = measured(system, self.indices) - self.value
            if len(self.indices) == 4:
                gap = (gap + 180.0) % 360.0 - 180.0
            if abs(gap) < EXACT:
                return
            slope = self._slope(system)
            size = float((slope**2).sum())
            # all of its atoms are fixed: nothing can change it
            if size == 0.0:
                return
            new -= gap * slope / size
        raise ValueError("the coordinate cannot be held")

    def adjust_forces(self, atoms: Atoms, forces: Float[np.ndarray, "atoms 3"]) -> None:
        """Take what would change the coordinate out of forces."""
        slope = self._slope(atoms)
        size = float((slope**2).sum())
        if size > 0.0:
            forces -= float((forces * slope).sum()) / size * slope

    def _slope(self, atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
        """Return the derivative of the coordinate by what may move."""
        derivatives: dict[int, Callable[..., Any]] = {
            2: get_distances_derivatives,
            3: get_angles_derivatives,
            4: get_dihedrals_derivatives,
        }
        places = atoms.positions[list(self.indices)]
        steps = np.diff(places, axis=0)
        if len(self.indices) == 3:
            # ASE measures an angle between the vectors from its middle
            steps[0] *= -1.0
        slope: np.ndarray = np.zeros_like(atoms.positions)
        vectors = [step[None] for step in steps]
        slope[list(self.indices)] = derivatives[len(self.indices)](*vectors)[0]
        for other in self._others:
            other.adjust_forces(atoms, slope)
        return slope
