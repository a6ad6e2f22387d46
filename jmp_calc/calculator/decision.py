"""Head and tags of a structure: decided once, and how long that holds."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from ase import Atoms
from jaxtyping import Int

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.head_choice import HeadChoice, choose_head
from jmp_calc.calculator.tags import guess_tags
from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.models.config import ForceKind
from jmp_calc.models.jmp import JMPModel

SAME_MOVE = 1.0
"""Another Atoms object in which no atom is farther than this from the last one is the
same structure in motion, angstrom."""

SAME_STRAIN = 0.1
"""Likewise for the cell: largest change of a vector by the length of the longest."""

T = TypeVar("T")


class Memory(Generic[T]):
    """What is known of structures in motion, forgotten with the objects.

    It holds for the same Atoms object, wherever its atoms and cell have gone, while
    its elements and periodicity stay.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref[Atoms], bytes, T]] = {}

    def find(self, atoms: Atoms) -> T | None:
        """Return what is known of a structure, or None.

        Args:
            atoms: The structure.
        """
        owner, kind, value = self._found.get(id(atoms), (None, b"", None))
        is_known = owner is not None and owner() is atoms and kind == _kind(atoms)
        return value if is_known else None

    def keep(self, atoms: Atoms, value: T) -> None:
        """Remember something of a structure.

        Args:
            atoms: The structure.
            value: What is known of it.
        """
        found, key = self._found, id(atoms)
        owner = weakref.ref(atoms, lambda _: found.pop(key, None))
        found[key] = owner, _kind(atoms), value

    def forget(self, atoms: Atoms) -> None:
        """Forget what is known of a structure.

        Args:
            atoms: The structure.
        """
        self._found.pop(id(atoms), None)

    def __reduce__(self) -> tuple[type[Memory[T]], tuple[()]]:
        # objects mean nothing in a copy or in another process
        return type(self), ()


def _kind(atoms: Atoms) -> bytes:
    return bytes(atoms.numbers.tobytes() + atoms.pbc.tobytes())


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Head and tags of a structure, kept while it moves."""

    choice: HeadChoice
    """The head, and why."""
    guessed_tags: Int[np.ndarray, " atoms"] | None
    """Tags found from the geometry, or None if the head does not look at tags."""
    last: Atoms
    """Copy of where it was last."""

    def holds_for(self, atoms: Atoms) -> bool:
        """Whether another object (a displaced copy) is close to where this was last.

        Args:
            atoms: The structure.
        """
        last = self.last
        if _kind(last) != _kind(atoms):
            return False
        move = np.linalg.norm(atoms.positions - last.positions, axis=1).max()
        strain = np.abs(atoms.cell.array - last.cell.array).max()
        longest = max(last.cell.lengths())
        return bool(move <= SAME_MOVE and strain <= SAME_STRAIN * longest)

    def moved_to(self, atoms: Atoms) -> Decision:
        """Return the same decision for where the structure is now.

        Args:
            atoms: The structure.
        """
        return replace(self, last=atoms.copy())


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
        last=atoms.copy(),
    )
