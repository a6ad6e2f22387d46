"""Checks that settings and structures of several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError, did_you_mean

VACUUM_A = 7.0
"""Layers without atoms that are wider are vacuum, angstrom; crystals have 4 at most."""


def require(
    name: str, value: float | int | None, is_ok: Callable[[float], bool], rule: str
) -> None:
    """Check a number; None stands for a setting that is not given.

    Args:
        name: What the setting is called.
        value: The number.
        is_ok: Whether it is allowed; infinity and not-a-number never are.
        rule: What is allowed, for the message.

    Raises:
        ArgumentError: If it is not.
    """
    if value is not None and not (math.isfinite(value) and is_ok(value)):
        raise ArgumentError(f"{name} is {value}; it must be {rule}")


def require_positive(settings: Any, *names: str) -> None:
    """Check that numbers of a settings dataclass are above zero and finite.

    Args:
        settings: The dataclass.
        names: Its fields.

    Raises:
        ArgumentError: If one is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise ArgumentError(f"{name} is {value}; give a number above 0")


def require_at_least(settings: Any, **least: int) -> None:
    """Check that whole numbers of a settings dataclass are large enough.

    Args:
        settings: The dataclass.
        least: Field -> smallest value.

    Raises:
        ArgumentError: If one is smaller.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value < smallest:
            raise ArgumentError(f"{name} is {value}; give {smallest} or more")


def require_choice(settings: Any, name: str, allowed: Sequence[str]) -> None:
    """Check that a text of a settings dataclass is one of those allowed.

    Args:
        settings: The dataclass.
        name: Its field.
        allowed: What it may be.

    Raises:
        ArgumentError: If it is none of them.
    """
    given = getattr(settings, name)
    if given not in allowed:
        raise ArgumentError(
            f"{name} is {given!r}; choose one of {', '.join(allowed)}"
            f"{did_you_mean(given, allowed)}"
        )


def require_crystal(atoms: Atoms, what: str) -> None:
    """Check that a structure is periodic in three directions, and filled with atoms.

    Args:
        atoms: The structure.
        what: What needs it, for the message.

    Raises:
        UnsupportedSystemError: If it is not, has no atoms, or is a slab or a molecule
            in a box.
    """
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise UnsupportedSystemError(
            f"{what} needs a crystal, periodic in three directions, and pbc is "
            f"{atoms.pbc.tolist()}; give a file with a cell and pbc"
        )
    gaps = _gaps(atoms)
    if gaps.max() > VACUUM_A:
        raise UnsupportedSystemError(
            f"{what} needs a crystal, and along cell vector {int(gaps.argmax()) + 1} "
            f"there are {gaps.max():.1f} Å without atoms, as in a slab or a molecule "
            "in a box, whose volume means nothing; give a crystal"
        )


def _gaps(atoms: Atoms) -> np.ndarray:
    """Return the widest empty layer between planes of atoms, for each cell vector."""
    places = np.sort(atoms.get_scaled_positions(), axis=0)
    steps = np.diff(places, axis=0, append=places[:1] + 1)
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    gaps: np.ndarray = steps.max(axis=0) * heights
    return gaps
