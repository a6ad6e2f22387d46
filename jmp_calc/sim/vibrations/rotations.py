"""How many rotations turn a molecule into itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

TOLERANCE_A = 0.05
"""Largest distance of an atom from its symmetric place, angstrom."""

STRAIGHT = 1e-2
"""Smallest by largest radius of gyration below which a molecule counts as linear."""


def is_linear(arms: Float[np.ndarray, "atoms 3"]) -> bool:
    """Return whether a molecule lies on a line.

    Args:
        arms: Places seen from the centre of mass, times the roots of the masses.
    """
    size = np.linalg.svd(arms, compute_uv=False)
    return len(size) < 2 or bool(size[1] <= STRAIGHT * size[0])


def symmetry_number(atoms: Atoms) -> int:
    """Count the rotations that exchange atoms of one element and mass only.

    Args:
        atoms: A molecule at rest.

    Returns:
        1 if there are none but the identity; of a linear molecule 2 if its ends are
        alike, else 1.
    """
    arms = atoms.positions - atoms.get_center_of_mass()
    masses = atoms.get_masses()
    kinds = np.stack([atoms.numbers, masses], axis=1)
    is_alike = (np.abs(kinds[:, None] - kinds) < 1e-3).all(axis=2)
    if len(atoms) == 1:
        return 1
    if is_linear(np.sqrt(masses)[:, None] * arms):
        return 1 if _exchanged(arms, -arms, is_alike) is None else 2
    found = {
        _exchanged(arms, arms @ _fitted(arms, arms @ turn, is_alike), is_alike)
        for turn in _turns(arms, is_alike)
    }
    return len(found - {None})


def _turns(
    arms: Float[np.ndarray, "atoms 3"], is_alike: Bool[np.ndarray, "atoms atoms"]
) -> Iterator[Float[np.ndarray, "3 3"]]:
    """Yield rotations that put two atoms where two others of their kind are."""
    length = np.linalg.norm(arms, axis=1)
    reach = 2 * TOLERANCE_A
    is_candidate = is_alike & (np.abs(length[:, None] - length) < reach)
    few = np.argsort(is_candidate.sum(axis=1), kind="stable")
    # the two are as few of their kind as can be, and span a plane with the centre
    first = next(n for n in few if length[n] > 0.3 * length.max())
    across = np.linalg.norm(np.cross(arms[first], arms), axis=1) / length[first]
    second = next(n for n in few if across[n] > 0.5 * across.max())
    distance = np.linalg.norm(arms[first] - arms[second])
    frame = _frame(arms[first], arms[second])
    for one in np.flatnonzero(is_candidate[first]):
        for other in np.flatnonzero(is_candidate[second]):
            apart = np.linalg.norm(arms[one] - arms[other])
            if one != other and abs(apart - distance) < reach:
                yield frame.T @ _frame(arms[one], arms[other])


def _frame(
    first: Float[np.ndarray, "3"], second: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Return right-handed axes, rows, of which two span the plane of two vectors."""
    x = first / np.linalg.norm(first)
    z = np.cross(first, second)
    z = z / np.linalg.norm(z)
    return np.array([x, np.cross(z, x), z])


def _partners(
    arms: Float[np.ndarray, "atoms 3"],
    turned: Float[np.ndarray, "atoms 3"],
    is_alike: Bool[np.ndarray, "atoms atoms"],
) -> Int[np.ndarray, "atoms"]:
    """Return for each turned atom the closest one of its kind."""
    apart = np.linalg.norm(turned[:, None] - arms, axis=2)
    closest: Int[np.ndarray, "atoms"]
    closest = np.where(is_alike, apart, np.inf).argmin(axis=1)
    return closest


def _fitted(
    arms: Float[np.ndarray, "atoms 3"],
    turned: Float[np.ndarray, "atoms 3"],
    is_alike: Bool[np.ndarray, "atoms atoms"],
) -> Float[np.ndarray, "3 3"]:
    """Return the rotation that brings all atoms closest to their partners.

    Source:
        Kabsch, Acta Cryst. A 32, 922 (1976).
    """
    targets = arms[_partners(arms, turned, is_alike)]
    left, _, right = np.linalg.svd(arms.T @ targets)
    sign = np.sign(np.linalg.det(left @ right))
    rotation: Float[np.ndarray, "3 3"] = left @ np.diag([1, 1, sign]) @ right
    return rotation


def _exchanged(
    arms: Float[np.ndarray, "atoms 3"],
    turned: Float[np.ndarray, "atoms 3"],
    is_alike: Bool[np.ndarray, "atoms atoms"],
) -> tuple[int, ...] | None:
    """Return where each atom has come to; None if one is where there was none."""
    partners = _partners(arms, turned, is_alike)
    if np.linalg.norm(turned - arms[partners], axis=1).max() > TOLERANCE_A:
        return None
    return tuple(partners.tolist())
