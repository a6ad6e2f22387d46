"""Neighbour lists: matscipy behind an adapter that completes missing cell vectors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from matscipy.neighbours import neighbour_list as _matscipy

from jmp_calc.errors import UnsupportedSystemError

MIN_DISTANCE = 0.01
"""Pairs closer than this (angstrom) are one atom image, not an edge."""


def neighbor_list(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
) -> tuple[
    Int[np.ndarray, " edges"],
    Int[np.ndarray, " edges"],
    Int[np.ndarray, "edges 3"],
    Float[np.ndarray, " edges"],
]:
    """Return all directed edges within a cutoff, in canonical order.

    An edge goes from ``source`` to ``target``; ``shift`` is the integer image offset of
    the source: ``vector = positions[target] - positions[source] - shift @ cell``.
    Directions that are not periodic may have a zero cell vector and get no shift.

    Args:
        positions: Angstrom; atoms may lie outside the cell.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic.
        cutoff: Largest distance, inclusive, angstrom.

    Returns:
        source, target, shift, distance, sorted by target, source, shift.

    Raises:
        UnsupportedSystemError: If the periodic lattice vectors are not independent.
    """
    pbc = np.asarray(pbc, dtype=bool)
    if len(positions) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros((0, 3), dtype=np.int64), np.zeros(0)
    full, origin = _completed_cell(positions, cell, pbc, cutoff)
    # matscipy's bound is exclusive: search a little further, then cut exactly.
    target, source, shift = _matscipy(
        "ijS",
        positions=positions,
        cell=full,
        cell_origin=origin,
        pbc=pbc,
        cutoff=cutoff * (1 + 1e-9) + 1e-9,
    )
    shift = shift.astype(np.int64)
    source, target = source.astype(np.int64), target.astype(np.int64)
    vector = positions[target] - positions[source] - shift @ cell
    square = (vector**2).sum(axis=1)
    keep = (square <= cutoff**2) & (square > MIN_DISTANCE**2)
    source, target, shift = source[keep], target[keep], shift[keep]
    order = canonical_order(source, target, shift)
    return (
        source[order],
        target[order],
        shift[order],
        np.sqrt(square[keep][order]),
    )


def canonical_order(
    source: Int[np.ndarray, " edges"],
    target: Int[np.ndarray, " edges"],
    shift: Int[np.ndarray, "edges 3"],
) -> Int[np.ndarray, " edges"]:
    """Return the permutation that sorts edges by target, source, shift."""
    return np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], source, target))


def _completed_cell(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Replace non-periodic vectors by perpendicular ones that enclose all atoms."""
    periodic = np.asarray(cell, dtype=float)[pbc]
    lengths = np.linalg.norm(periodic, axis=1)
    _, singular, rows = np.linalg.svd(periodic) if len(periodic) else (0, [], np.eye(3))
    # A zero-volume lattice has images at arbitrarily small distances.
    if (lengths < 1e-8).any() or (
        len(periodic) and np.min(singular) < 1e-6 * np.max(singular)
    ):
        raise UnsupportedSystemError(
            f"periodic directions {np.flatnonzero(pbc).tolist()} have lattice vectors "
            f"{periodic.tolist()} that span no volume; set atoms.cell, or set "
            "atoms.pbc to False for directions without periodicity"
        )
    perpendicular = rows[len(periodic) :]
    full, origin = np.array(cell, dtype=float), np.zeros(3)
    for index, direction in zip(np.flatnonzero(~pbc), perpendicular, strict=True):
        along = positions @ direction
        # Wide enough for every atom, with a margin, so that matscipy's bins hold all.
        full[index] = direction * max(np.ptp(along) + 2.0, cutoff)
        origin += direction * (along.min() - 1.0)
    return full, origin
