"""Positions and cell to a list of neighbors, whatever the cell looks like.

The search itself tries all images in small cells (images.py) and is that of matscipy in
large ones, which needs three independent cell vectors and lays one grid over the whole
cell. Molecules, wires and slabs have fewer, and cells with much vacuum would need a
huge grid, so each search runs in a frame of its own: atoms wrapped, empty directions
cut open, vacuum taken out. Distances are always computed from the positions as given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matscipy.neighbours import neighbour_list

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph.images import Pairs, try_all_images
from jmp_calc.graph.keys import EdgeKeys

MIN_DISTANCE = 0.01
"""Atoms that are not farther apart than this overlap, angstrom."""

_EDGES_AT_A_TIME = 1 << 15
"""Edges whose lengths are computed together: few enough to stay in the cache."""
_MAX_ATOMS_OF_ALL_PAIRS = 128
"""Molecules of up to so many atoms are not searched: all pairs are tried."""
_MAX_GRID_CELLS = 1e7
_MIN_RELATIVE_VOLUME = 1e-6

Neighbors = tuple[
    Int[np.ndarray, " edges"],
    Int[np.ndarray, " edges"],
    Int[np.ndarray, "edges 3"],
    Float[np.ndarray, " edges"],
]
"""Source, target, shift and distance of every edge."""

Candidates = tuple[
    Int[np.ndarray, " candidates"],
    Int[np.ndarray, " candidates"],
    Int[np.ndarray, "candidates 3"],
]
"""Source, target and shift of edges that may be within the cutoff."""


def neighbor_list(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    cutoff: float,
    device: Any = None,
) -> Neighbors:
    """List all edges up to a cutoff, in canonical order (target, source, shift).

    An edge is a target atom and one periodic image of a source atom; ``shift`` is the
    image offset of the source, so that
    ``vector = positions[target] - positions[source] - shift @ cell``. (matscipy's pair
    (i, j, S) has ``positions[j] - positions[i] + S @ cell``, hence target = i,
    source = j, shift = S.) Atoms may lie outside the cell.

    Args:
        positions: Angstrom.
        cell: Rows are lattice vectors, angstrom. Rows of directions that are not
            periodic are not used and may be zero.
        pbc: Which directions are periodic. The shift of the others is zero.
        cutoff: Largest distance, angstrom; included if any direction is periodic,
            excluded otherwise (a difference that only the published rules can see).
        device: That of the network, of torch; None: the CPU. If it is a GPU, large
            systems are searched there (not measured); the edges are the same to the
            last bit.

    Returns:
        Source and target atom, shift, and distance in angstrom of each edge.

    Raises:
        UnsupportedSystemError: If a coordinate is not finite, periodic cell vectors
            are zero or dependent, or atoms overlap.

    Source:
        GemNet-OC specification, sections 2.1 to 2.3.
    """
    positions = np.asarray(positions, dtype=np.float64)
    cell = np.asarray(cell, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    _check_coordinates(positions, cell, pbc)
    if len(positions) == 0:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 3), dtype=np.int64), np.zeros(0)
    return edges_within(
        positions,
        cell,
        pbc,
        edges=_candidates(positions, cell, pbc, cutoff, device),
        cutoff=cutoff,
    )


def edges_within(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    edges: Candidates,
    cutoff: float,
) -> Neighbors:
    """Return those of some edges that are within a cutoff, in the order given.

    The distance of an edge does not depend on which others are given, to the last bit.

    Args:
        positions: Angstrom, finite.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic.
        edges: Source, target and shift.
        cutoff: Largest distance, as for :func:`neighbor_list`.

    Raises:
        UnsupportedSystemError: If atoms overlap.
    """
    source, target, shift = edges
    squared = squared_distances(positions, cell, pbc, edges=edges)
    inside = squared <= cutoff**2 if pbc.any() else squared < cutoff**2
    if not inside.all():
        keep = np.flatnonzero(inside)
        source, target, squared = (x.take(keep) for x in (source, target, squared))
        shift = shift.take(keep, axis=0)
    if len(squared) and squared.min() <= MIN_DISTANCE**2:
        raise _overlap(int(squared.argmin()), source, target, shift, squared)
    return source, target, shift, np.sqrt(squared)


def squared_distances(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    edges: Candidates,
) -> Float[np.ndarray, " edges"]:
    """Return the squared length of each edge, square angstrom.

    That of an edge does not depend on which others are given, and that of its
    counter-edge is the same, to the last bit.

    Args:
        positions: Angstrom, finite.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic.
        edges: Source, target and shift.
    """
    source, target, shift = edges
    squared = np.zeros(len(source))
    coordinates = positions.T.copy()
    axes = np.flatnonzero(pbc).tolist()
    repeats = [
        [(axis, along[axis]) for axis in axes if along[axis]]
        for along in cell.T.tolist()
    ]
    for begin in range(0, len(source), _EDGES_AT_A_TIME):
        part = slice(begin, begin + _EDGES_AT_A_TIME)
        to, of = target[part], source[part]
        # By coordinate, and not as a matrix product, whose rounding depends on the
        # place of a row.
        for coordinate, repeat in zip(coordinates, repeats, strict=True):
            vector = coordinate.take(to)
            vector -= coordinate.take(of)
            for axis, length in repeat:
                vector -= shift[part, axis] * length
            vector *= vector
            squared[part] += vector
    return squared


def _check_coordinates(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
) -> None:
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise UnsupportedSystemError(
            f"the position of atom {bad[0]} is {positions[bad[0]].tolist()}; "
            "coordinates must be finite numbers"
        )
    used = np.where(pbc[:, None], cell, 0.0)
    if not np.isfinite(used).all():
        raise UnsupportedSystemError(
            f"the cell is {cell.tolist()}; cell vectors must be finite numbers"
        )
    if not pbc.any():
        return
    lengths = np.linalg.norm(used, axis=1)
    if (lengths[pbc] == 0).any() or (
        abs(np.linalg.det(_complete(cell, pbc)))
        < _MIN_RELATIVE_VOLUME * lengths[pbc].prod()
    ):
        raise UnsupportedSystemError(
            f"the cell vectors of the periodic directions {pbc.tolist()} are "
            f"{cell[pbc].tolist()}, which span no volume; give every periodic "
            "direction a cell vector of its own or switch its periodicity off"
        )


def _complete(
    cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Return the cell with unit normals in place of the vectors that do not repeat."""
    full = cell.copy()
    if not pbc.all():
        # The last rows of V^T of an SVD span what the periodic vectors do not.
        full[~pbc] = np.linalg.svd(np.vstack([cell[pbc], np.zeros((1, 3))]))[2][
            pbc.sum() :
        ]
    return full


def _candidates(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
    device: Any,
) -> Candidates:
    """Return at least all edges within the cutoff, in canonical order."""
    n_atoms = len(positions)
    if not pbc.any() and n_atoms <= _MAX_ATOMS_OF_ALL_PAIRS:
        target, source = (~np.eye(n_atoms, dtype=bool)).nonzero()
        return source, target, np.zeros((len(source), 3), dtype=np.int64)
    target, source, shift = _search(positions, cell, pbc, cutoff, device)
    itself = np.flatnonzero(source == target)
    itself = itself[~shift[itself].any(axis=1)]
    if len(itself):
        source, target = np.delete(source, itself), np.delete(target, itself)
        shift = np.delete(shift, itself, axis=0)
    return source, target, shift


def _search(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
    device: Any,
) -> Pairs:
    """Return at least all pairs within the cutoff, in canonical order."""
    reach = cutoff * (1 + 1e-6) + 1e-6
    wraps, is_open = _wrap(positions, cell, pbc, reach)
    repeats = pbc & ~is_open
    frame = _complete(cell, repeats)
    coordinate = (positions - wraps @ cell) @ np.linalg.inv(frame)
    for axis in np.flatnonzero(~repeats):
        coordinate[:, axis] = _without_vacuum(coordinate[:, axis], reach)
    lengths = np.where(repeats, 1.0, coordinate.max(axis=0) + reach)
    wrapped = coordinate @ frame
    frame = frame * lengths[:, None]

    found: Pairs | None = None
    if device is not None:
        # here, because whoever prepares data searches without torch
        from jmp_calc.graph import device_search

        if device_search.is_for(device, len(positions)):
            found = device_search.search_on_device(
                wrapped, frame, repeats, reach=reach, device=device
            )
    if found is None:
        found = try_all_images(wrapped, frame, repeats, reach=reach)
    if found is None:
        found = _searched_on_grid(wrapped, frame, repeats, reach)
    target, source, shift = found
    for axis in np.flatnonzero(wraps.any(axis=0)):
        shift[:, axis] += wraps[target, axis] - wraps[source, axis]
    return target, source, shift


def _searched_on_grid(
    positions: Float[np.ndarray, "atoms 3"],
    frame: Float[np.ndarray, "3 3"],
    repeats: Bool[np.ndarray, "3"],
    reach: float,
) -> Pairs:
    heights = 1 / np.linalg.norm(np.linalg.inv(frame), axis=0)
    grid_cells = np.maximum(heights / reach, 1).prod()
    target, source, shift = neighbour_list(
        "ijS",
        positions=positions,
        cell=frame,
        pbc=repeats,
        cutoff=float(reach * max(1.0, grid_cells / _MAX_GRID_CELLS) ** (1 / 3)),
    )
    target, source = target.astype(np.int64), source.astype(np.int64)
    shift = shift.astype(np.int64)
    # To sort keys and take them apart is faster than to bring edges into order. As
    # atoms are inside the frame, shifts are small, and the keys always fit.
    keys = EdgeKeys(len(positions), [shift])
    source, target, shift = keys.edges(np.sort(keys.of(source, target, shift)))
    return target, source, shift


def _wrap(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    reach: float,
) -> tuple[Int[np.ndarray, "atoms 3"], Bool[np.ndarray, "3"]]:
    """Return how many cells to move each atom back, and which directions to cut open.

    A direction with a gap of at least ``reach`` between layers of atoms has no edge
    across the gap: wrapped so that the gap is at the cell's border, it need not repeat.
    """
    inverse = np.linalg.inv(_complete(cell, pbc))
    fractional = positions @ inverse
    wraps = np.where(pbc, np.floor(fractional), 0).astype(np.int64)
    fractional = fractional - wraps
    is_open = np.zeros(3, dtype=bool)
    for axis in np.flatnonzero(pbc):
        levels = np.sort(fractional[:, axis])
        gaps = np.diff(levels, prepend=levels[-1] - 1)
        first = int(gaps.argmax())
        if gaps[first] > reach * np.linalg.norm(inverse[:, axis]):
            is_open[axis] = True
            wraps[fractional[:, axis] < levels[first], axis] -= 1
    return wraps, is_open


def _without_vacuum(
    coordinate: Float[np.ndarray, " atoms"], reach: float
) -> Float[np.ndarray, " atoms"]:
    """Return coordinates from zero with gaps wider than two reaches narrowed."""
    order = coordinate.argsort()
    gaps = np.diff(coordinate[order], prepend=coordinate[order[0]])
    narrowed = np.empty_like(coordinate)
    narrowed[order] = np.minimum(gaps, 2 * reach).cumsum()
    return narrowed


def _overlap(
    edge: int,
    source: Int[np.ndarray, " edges"],
    target: Int[np.ndarray, " edges"],
    shift: Int[np.ndarray, "edges 3"],
    squared: Float[np.ndarray, " edges"],
) -> UnsupportedSystemError:
    image = f" (image {shift[edge].tolist()})" if shift[edge].any() else ""
    first, second = sorted((int(source[edge]), int(target[edge])))
    return UnsupportedSystemError(
        f"atoms {first} and {second}{image} overlap: they are "
        f"{np.sqrt(squared[edge]):.4f} angstrom apart and must be more than "
        f"{MIN_DISTANCE} apart; remove one or move it"
    )
