"""Curves, geometries and shares that ``beside_xtb.py`` compares, as plain functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation

ECLIPSED_DEG = (90.0, 150.0)
"""Where the barrier between anti and gauche of butane is looked for, degrees."""
GAUCHE_DEG = (30.0, 90.0)
"""Where the gauche minimum is looked for, degrees."""
STATIONS = (
    "eclipsed_above_anti_meV",
    "gauche_above_anti_meV",
    "syn_above_anti_meV",
)
"""What :func:`torsion_barriers` tells."""


def superposed_rmsd(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Return the root mean square distance of atoms after the best superposition.

    Atoms correspond by their order and all count alike. Mirror images are different.

    Args:
        mine: Positions (atoms x 3), angstrom.
        theirs: Positions of the same atoms, angstrom.
    """
    turned, target = (Atoms(np.ones(len(x)), x) for x in (mine, theirs))
    minimize_rotation_and_translation(target, turned)
    return float(np.sqrt(((turned.positions - theirs) ** 2).sum(axis=1).mean()))


def share_within(distances: Sequence[float | None], limit: float) -> float | None:
    """Return the share of distances up to a limit; None without any.

    Args:
        distances: None, of what could not be computed, is beyond every limit.
        limit: In the same unit.
    """
    if not distances:
        return None
    return sum(d is not None and d <= limit for d in distances) / len(distances)


def bond_length_errors(
    pairs: np.ndarray, mine: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
    """Return absolute differences of bond lengths, angstrom.

    Args:
        pairs: Atoms of each bond (bonds x 2).
        mine: Positions (atoms x 3), angstrom.
        theirs: Positions of the same atoms, angstrom.
    """
    first, second = pairs.T
    lengths = [np.linalg.norm(x[first] - x[second], axis=1) for x in (mine, theirs)]
    return np.abs(lengths[0] - lengths[1])


def lowest_point(
    x: np.ndarray, y: np.ndarray, window: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return place and height of the minimum of a curve.

    It is the vertex of the parabola through the lowest point and its neighbors, and
    the point itself at an end of the curve or if a neighbor is lower.

    Args:
        x: Ascending.
        y: One value for each.
        window: Only points from here to there are looked at; None: all.

    Raises:
        ValueError: If no point is in the window.
    """
    low, high = window or (x[0], x[-1])
    places = np.flatnonzero((x >= low) & (x <= high))
    if not len(places):
        raise ValueError(f"no point of the curve is within {low:g} and {high:g}")
    place = int(places[np.argmin(y[places])])
    near = slice(place - 1, place + 2)
    if not 0 < place < len(x) - 1 or y[near].min() < y[place]:
        return float(x[place]), float(y[place])
    # around the point, or a narrow curve far from zero loses its digits
    curvature, slope, _ = np.polyfit(x[near] - x[place], y[near] - y[place], 2)
    if curvature <= 0:  # all three are alike
        return float(x[place]), float(y[place])
    return (
        float(x[place] - slope / (2 * curvature)),
        float(y[place] - slope**2 / (4 * curvature)),
    )


def torsion_barriers(
    dihedral_deg: np.ndarray, energy_meV: np.ndarray
) -> dict[str, float]:
    """Return how far the stations of butane's torsion lie above anti, meV.

    Args:
        dihedral_deg: C-C-C-C, ascending from 0 (syn) to 180 (anti).
        energy_meV: From any zero.

    Raises:
        ValueError: If the curve does not go from 0 to 180 degrees.
    """
    if dihedral_deg[0] != 0 or dihedral_deg[-1] != 180:
        raise ValueError(
            f"the dihedral goes from {dihedral_deg[0]:g} to {dihedral_deg[-1]:g} "
            "degrees; give a curve from 0 to 180"
        )
    above = energy_meV - energy_meV[-1]
    _, eclipsed = lowest_point(dihedral_deg, -above, ECLIPSED_DEG)
    _, gauche = lowest_point(dihedral_deg, above, GAUCHE_DEG)
    return dict(zip(STATIONS, (-eclipsed, gauche, float(above[0])), strict=True))


def errors_of(mine: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return mean and largest absolute difference of two lists: ``mae``, ``largest``.

    Args:
        mine: Numbers.
        theirs: As many, in the same unit.

    Raises:
        ValueError: If they are of different lengths.
    """
    differences = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
    return {"mae": float(np.mean(differences)), "largest": float(np.max(differences))}
