"""What calculators remember of structures that move."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Generic, TypeVar

from ase import Atoms

from jmp_calc.errors import ArgumentError

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
        is_known = owner is not None and owner() is atoms and kind == kind_of(atoms)
        return value if is_known else None

    def keep(self, atoms: Atoms, value: T) -> None:
        """Remember something of a structure.

        Args:
            atoms: The structure.
            value: What is known of it.
        """
        found, key = self._found, id(atoms)
        owner = weakref.ref(atoms, lambda _: found.pop(key, None))
        found[key] = owner, kind_of(atoms), value

    def forget(self, atoms: Atoms) -> None:
        """Forget what is known of a structure.

        Args:
            atoms: The structure.
        """
        self._found.pop(id(atoms), None)

    def __reduce__(self) -> tuple[type[Memory[T]], tuple[()]]:
        # objects mean nothing in a copy or in another process
        return type(self), ()


def kind_of(atoms: Atoms) -> bytes:
    """Return what stays of a structure in motion: elements and periodicity.

    Args:
        atoms: The structure.
    """
    return bytes(atoms.numbers.tobytes() + atoms.pbc.tobytes())


def require_list(list_of_atoms: Iterable[Atoms], method: str) -> None:
    """Check that there is a list of structures, not one.

    Args:
        list_of_atoms: What was given.
        method: Which method wants it.

    Raises:
        ArgumentError: If it is one structure.
    """
    if isinstance(list_of_atoms, Atoms):
        raise ArgumentError(
            f"{method} takes a list of structures and was given one; put it into a "
            f"list: {method}([atoms])"
        )
