"""The search for neighbors that tries everything: the fastest one in small cells.

A grid finds fewer pairs to try, but needs several times as long for each, so that it
pays only in cells that are longer than about five cutoffs.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

_MAX_IMAGES = 1 << 20
"""Where there are more images, all of them are not even counted."""
_COST_ON_GRID = 8
"""How much longer a pair takes on the grid, measured with matscipy 1.3."""
_PAIRS_AT_A_TIME = 1 << 15
"""Distances that are computed together: few enough to stay in the cache."""

Pairs = tuple[
    Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Int[np.ndarray, "pairs 3"]
]
"""Target, source and shift."""


def try_all_images(
    positions: Float[np.ndarray, "atoms 3"],
    frame: Float[np.ndarray, "3 3"],
    repeats: Bool[np.ndarray, "3"],
    *,
    reach: float,
) -> Pairs | None:
    """Return all pairs within reach in canonical order, None if they are too many.

    Each atom is paired with itself too.

    Args:
        positions: Angstrom.
        frame: Rows are three independent vectors, angstrom.
        repeats: Along which of them everything repeats.
        reach: Largest distance, angstrom.

    Returns:
        Target, source and shift of each pair; None where trying is not the fastest way.
    """
    inverse = np.linalg.inv(frame)
    fractional = positions @ inverse
    margin = reach * np.linalg.norm(inverse, axis=0) + 1e-9
    most = np.where(repeats, np.floor(margin + np.ptp(fractional, axis=0)), 0)
    n_shifts, n_atoms = math.prod((2 * most + 1).tolist()), len(positions)
    if n_shifts * n_atoms > _MAX_IMAGES:
        return None
    shifts = np.stack(
        np.meshgrid(*[np.arange(-m, m + 1) for m in most], indexing="ij")
    ).reshape(3, -1)
    source, shift = _near_images(fractional, shifts, repeats, margin)
    # on the grid, pairs are those with the atoms of 27 grid cells
    n_grid_cells = np.maximum(np.floor(1 / margin), 1).prod()
    if len(source) * n_grid_cells > _COST_ON_GRID * 27 * n_atoms:
        return None
    image = positions.T[:, source] + frame.T @ shift
    parts = []
    n_rows = max(_PAIRS_AT_A_TIME // len(source), 1)
    for begin in range(0, n_atoms, n_rows):
        squared = np.zeros((len(positions[begin : begin + n_rows]), len(source)))
        for coordinate, of_image in zip(positions.T, image, strict=True):
            difference = of_image - coordinate[begin : begin + n_rows, None]
            difference *= difference
            squared += difference
        near = np.flatnonzero(squared <= reach**2)
        parts.append(near + begin * len(source))
    target, place = np.divmod(np.concatenate(parts), len(source))
    integers = shift.astype(np.int64)
    return target, source.take(place), integers.take(place, axis=1).T


def _near_images(
    fractional: Float[np.ndarray, "atoms 3"],
    shifts: Float[np.ndarray, "3 shifts"],
    repeats: Bool[np.ndarray, "3"],
    margin: Float[np.ndarray, "3"],
) -> tuple[Int[np.ndarray, " images"], Float[np.ndarray, "3 images"]]:
    """Return the atom and shift of all images that may be within reach of an atom.

    Args:
        fractional: Positions in the frame.
        shifts: Lexicographic.
        repeats: Along which directions everything repeats.
        margin: The reach as a part of each height of the frame.
    """
    is_near = np.ones((len(fractional), shifts.shape[1]), dtype=bool)
    for axis in np.flatnonzero(repeats):
        atoms = fractional[:, axis]
        place = atoms[:, None] + shifts[axis]
        is_near &= place >= atoms.min() - margin[axis]
        is_near &= place <= atoms.max() + margin[axis]
    source, number = is_near.nonzero()
    return source, shifts[:, number]
