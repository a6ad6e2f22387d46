"""Head and tags of a structure: decided once, and how long that holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.head_choice import HeadChoice, choose_head
from jmp_calc.calculator.memory import kind_of
from jmp_calc.calculator.tags import guess_tags
from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.models.config import ForceKind
from jmp_calc.models.jmp import JMPModel

SAME_MOVE = 1.0
"""Another Atoms object in which no atom is farther than this from the last one is the
same structure in motion, angstrom."""

SAME_STRAIN = 0.1
"""Likewise for the cell: largest change of a vector by the length of the longest."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """Where a structure was, of what kind it was."""

    kind: bytes
    """Elements and periodicity; see :func:`memory.kind_of`."""
    positions: Float[np.ndarray, "atoms 3"]
    """Angstrom."""
    cell: Float[np.ndarray, "3 3"]
    """Cell vectors as rows, angstrom."""

    @classmethod
    def of(cls, atoms: Atoms) -> Place:
        """Return where a structure is now.

        Args:
            atoms: The structure.
        """
        # a tenth of the time that a copy of the structure takes
        positions, cell = atoms.positions.copy(), atoms.cell.array.copy()
        return cls(kind=kind_of(atoms), positions=positions, cell=cell)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Head and tags of a structure, kept while it moves."""

    choice: HeadChoice
    """The head, and why."""
    guessed_tags: Int[np.ndarray, " atoms"] | None
    """Tags found from the geometry, or None if the head does not look at tags."""
    last: Place
    """Where it was last."""

    @property
    def facts(self) -> dict[str, Any]:
        """What results depend on."""
        choice = self.choice
        tags = self.guessed_tags
        return {"head": choice.spec.name, "forces": choice.forces, "tags": tags}

    def holds_for(self, atoms: Atoms) -> bool:
        """Whether another object (a displaced copy) is close to where this was last.

        Args:
            atoms: The structure.
        """
        last = self.last
        if last.kind != kind_of(atoms):
            return False
        move = np.linalg.norm(atoms.positions - last.positions, axis=1).max()
        strain = np.abs(atoms.cell.array - last.cell).max()
        longest = np.linalg.norm(last.cell, axis=1).max()
        return bool(move <= SAME_MOVE and strain <= SAME_STRAIN * longest)

    def moved_to(self, atoms: Atoms) -> Decision:
        """Return the same decision for where the structure is now.

        Args:
            atoms: The structure.
        """
        return replace(self, last=Place.of(atoms))


def decide(
    model: JMPModel, atoms: Atoms, *, head: str | None, forces: ForceKind | None
) -> Decision:
    """Return the head of a structure, and its tags where the head looks at them.

    Args:
        model: The model.
        atoms: The structure.
        head: Head asked for; None: the one that covers the structure.
        forces: Force kind asked for; None: what the head was trained for.

    Raises:
        UnsupportedSystemError: If the structure is empty or broken, or no head or more
            than one fits.
        ArgumentError: If the head or the force kind does not exist.
    """
    if len(atoms) == 0:
        raise UnsupportedSystemError(
            "the structure has no atoms; give one with at least one atom"
        )
    bonds = find_bonds(atoms)
    kind = classify(atoms, bonds)
    choice = choose_head(model, atoms, kind, name=head, forces=forces)
    has_filter = choice.spec.graph.quadruplet_tags is not None
    return Decision(
        choice=choice,
        guessed_tags=guess_tags(atoms, bonds, kind) if has_filter else None,
        last=Place.of(atoms),
    )
