"""Neighbors by trying every image of every atom; the oracle of the neighbor list."""

from __future__ import annotations

from itertools import product

import numpy as np


def brute_force_neighbors(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> list[tuple[int, int, int, int, int]]:
    """List (target, source, shift) of all edges up to the cutoff, sorted."""
    edges = []
    for shift in product(*_ranges(positions, cell, pbc, cutoff)):
        images = positions + np.array(shift) @ np.where(pbc[:, None], cell, 0)
        distance = np.linalg.norm(positions[:, None] - images[None], axis=-1)
        for target, source in np.argwhere(distance <= cutoff):
            if target != source or any(shift):
                edges.append((int(target), int(source), *shift))
    return sorted(edges)


def _ranges(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> list[range]:
    """Return shifts large enough for any cell and any place of the atoms."""
    rows = cell[pbc]
    spread = np.linalg.norm(np.ptp(positions, axis=0))
    # The height of a cell over the plane of its other vectors, by Gram-Schmidt.
    ranges = [range(1)] * 3
    for axis in np.flatnonzero(pbc):
        others = np.delete(cell, axis, axis=0)[np.delete(pbc, axis)]
        normal = cell[axis].copy()
        for vector in np.linalg.qr(others.T)[0].T if len(rows) > 1 else ():
            normal -= (normal @ vector) * vector
        n = int(np.ceil((cutoff + spread) / np.linalg.norm(normal)))
        ranges[axis] = range(-n, n + 1)
    return ranges
