"""Jumps of energy and forces along a path, found by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

FINER, MARGIN = 8, 4
"""How much finer the grid around a candidate is, and how many points it goes beyond."""
FINE_POINTS = 2 * (FINER + MARGIN) + 1
"""Points of that grid."""
DEPTH = 17
"""Bisections: from 0.005 angstrom to 4e-8, where smooth forces change by 4e-6 eV/Å."""
WINDOW = 8
"""Points on either side that say how large differences usually are."""

Rows = Callable[[Float[np.ndarray, " points"]], Float[np.ndarray, "points columns"]]
"""From places on a path to energy, forces and so on there, one row each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Jump:
    """The largest jump that was found in some columns."""

    size: float
    """In the unit of the columns."""
    place: float
    """Where on the path."""


def find_jumps(
    rows_at: Rows,
    grid: Float[np.ndarray, " points"],
    columns: Sequence[slice],
    *,
    n_candidates: int,
) -> list[Jump]:
    """Return the largest jump of each group of columns along a path.

    Candidates are where the fourth difference is large, or larger than around. Where it
    is largest on a finer grid, they are bisected towards the half that changes more
    than the slope beside it explains. What is left over an interval of no length is the
    jump.

    Args:
        rows_at: What is computed along the path.
        grid: Places on it, evenly spaced, at least 12.
        columns: Groups of columns, each of one unit.
        n_candidates: How many places are looked at closely, at least 2.
    """
    starts = _candidates(rows_at(grid), n_candidates)
    # (candidates, fine points, columns): there a jump stands out by far more
    step = float(grid[1] - grid[0]) / FINER
    offsets = np.arange(-MARGIN, 2 * FINER + MARGIN + 1) * step
    fine = grid[starts][:, None] + offsets
    rows = rows_at(fine.ravel()).reshape(*fine.shape, -1)
    size = np.abs(np.diff(rows, n=4, axis=1)).max(axis=2)
    each, at = np.arange(len(starts)), size.argmax(axis=1)
    left, right = fine[each, at + 1], fine[each, at + 3]
    at_left, at_right = rows[each, at + 1], rows[each, at + 3]
    slope_left = (at_left - rows[each, at]) / step
    slope_right = (rows[each, at + 4] - at_right) / step
    for _ in range(DEPTH):
        middle = (left + right) / 2
        at_middle = rows_at(middle)
        half = (right - left)[:, None] / 2
        first = np.abs(at_middle - at_left - slope_left * half).max(axis=1)
        second = np.abs(at_right - at_middle - slope_right * half).max(axis=1)
        goes_left = first > second
        left = np.where(goes_left, left, middle)
        right = np.where(goes_left, middle, right)
        at_left = np.where(goes_left[:, None], at_left, at_middle)
        at_right = np.where(goes_left[:, None], at_middle, at_right)
    left_over = np.abs(at_right - at_left)
    return [_largest(left_over[:, group], left) for group in columns]


def _largest(
    left_over: Float[np.ndarray, "candidates columns"],
    places: Float[np.ndarray, " candidates"],
) -> Jump:
    sizes = left_over.max(axis=1)
    worst = int(sizes.argmax())
    return Jump(size=float(sizes[worst]), place=float(places[worst]))


def _candidates(
    rows: Float[np.ndarray, "points columns"], n: int
) -> Int[np.ndarray, " candidates"]:
    """Return where intervals of two steps begin that may hold a jump."""
    # (points) -> (points - 4); a jump between p and p + 1 gives most at p - 2 and p - 1
    size = np.abs(np.diff(rows, n=4, axis=0)).max(axis=1)
    usual = np.array(
        [np.median(size[max(0, k - WINDOW) : k + WINDOW + 1]) for k in range(len(size))]
    )
    ratio = size / (usual + 1e-12)
    found: list[int] = []
    for order in (np.argsort(ratio)[::-1], np.argsort(size)[::-1]):
        wanted = len(found) + n // 2
        for k in order:
            if len(found) == wanted:
                break
            # one candidate for all differences that see the same jump
            if all(abs(int(k) - other) > 1 for other in found):
                found.append(int(k))
    return np.array(found) + 1
