"""The triangles of edges that the sum over quadruplets leaves out.

Their number is that of three neighbors which are neighbors of each other; that of the
pairs to try is larger still. So none is searched: a table of the images around a few
atoms at a time says which edge comes from where.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from jmp_calc.graph.edge_sets import Edges
from jmp_calc.graph.keys import largest_shift, too_far_apart

_PAIRS_AT_A_TIME = 1 << 16
"""Pairs of edges that are tried together: few enough to stay in the cache."""
_TABLE_SIZE = 1 << 22
"""Entries of the table, which holds the images around as many atoms as fit."""
_MAX_TABLE_SIZE = 1 << 26
"""Where the images around one atom are more than this, they are searched instead."""


def find_triangles(
    main: Edges,
    quadruplet: Edges,
    swap: Int[np.ndarray, " edges"],
    *,
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
) -> Int[np.ndarray, "3 closed"]:
    """Return all triangles main c->a, quadruplet b->a, main c->b, in this order.

    Args:
        main: Main edges in canonical order.
        quadruplet: Quadruplet edges in canonical order.
        swap: Where the counter-edge of each main edge is.
        positions: Angstrom. The triangles do not depend on them; they help to number
            the images of atoms that lie many cells apart.
        cell: Rows are lattice vectors, angstrom.

    Returns:
        The three edges of each triangle, sorted.

    Raises:
        UnsupportedSystemError: If atoms lie so many cells apart that their images
            cannot be numbered.
    """
    if main.n_edges == 0 or quadruplet.n_edges == 0:
        return np.zeros((3, 0), dtype=np.int64)
    images = _Images(main, quadruplet, positions=positions, cell=cell)
    n_incoming = np.bincount(main.target, minlength=len(positions))
    first = n_incoming.cumsum() - n_incoming
    parts: list[tuple[Int[np.ndarray, " part"], ...]] = []
    for begin, end in images.chunks(n_incoming[main.source]):
        # For each edge c->a every main edge b->c is tried. The image that it comes
        # from, carried along with that of c, is where b->a has to come from.
        center = main.source[begin:end]
        n_pairs = n_incoming[center]
        incoming = np.repeat(first[center] - (n_pairs.cumsum() - n_pairs), n_pairs)
        incoming += np.arange(len(incoming))
        closing = images.find(begin, end, incoming, n_pairs)
        pair = np.flatnonzero(closing >= 0)
        outgoing = np.repeat(np.arange(begin, end, dtype=np.int32), n_pairs)
        parts.append(
            (
                outgoing[pair],
                closing[pair],
                swap[incoming[pair]].astype(np.int32),
            )
        )
    return _joined(parts)


class _Images:
    """Finds the quadruplet edge that comes to an atom from an image of another one.

    The image of atom b with shift t has the number b * n_shifts + t', where t' is the
    shift as one integer: moving by one more shift adds a constant to the number.
    """

    def __init__(
        self,
        main: Edges,
        quadruplet: Edges,
        *,
        positions: Float[np.ndarray, "atoms 3"],
        cell: Float[np.ndarray, "3 3"],
    ) -> None:
        n_atoms = len(positions)
        main_shift, shift = main.shift, quadruplet.shift
        span = _span(main_shift, shift)
        if math.prod(span) * n_atoms > _TABLE_SIZE:
            # counted from the cell that each atom is in, shifts are small
            home = _home_cells(positions, cell, shift=main_shift)
            main_shift = main_shift + home[main.source] - home[main.target]
            shift = shift + home[quadruplet.source] - home[quadruplet.target]
            span = _span(main_shift, shift)
        n_shifts = math.prod(span)
        self._n_images = n_shifts * n_atoms
        if self._n_images * n_atoms >= 2**63:
            raise too_far_apart(span)
        self._has_table = self._n_images <= _MAX_TABLE_SIZE
        dtype = np.int32 if self._has_table else np.int64
        # the shift 0 has a number in the middle of those of its atom
        zero = n_shifts // 2
        self._target = main.target
        self._move = _number(main_shift, span)
        self._comes_from = (main.source * n_shifts + (self._move + zero)).astype(dtype)
        # over the images around all targets; as sorted as the edges are
        self._place = quadruplet.target * self._n_images
        self._place += quadruplet.source * n_shifts + (_number(shift, span) + zero)
        self._start = np.searchsorted(quadruplet.target, np.arange(n_atoms + 1))
        self._table = np.zeros(0, dtype=np.int32)

    def chunks(self, n_pairs: Int[np.ndarray, " edges"]) -> Iterator[tuple[int, int]]:
        """Yield ranges of main edges with not too many pairs and targets.

        Args:
            n_pairs: How many pairs each main edge is in.
        """
        n_targets = max(_TABLE_SIZE // self._n_images, 1)
        total = n_pairs.cumsum()
        begin = 0
        while begin < len(total):
            done = int(total[begin] - n_pairs[begin])
            last = int(self._target[begin]) + n_targets - 1
            end = min(
                int(total.searchsorted(done + _PAIRS_AT_A_TIME, side="right")),
                int(self._target.searchsorted(last, side="right")),
            )
            end = max(end, begin + 1)
            yield begin, end
            begin = end

    def find(
        self,
        begin: int,
        end: int,
        incoming: Int[np.ndarray, " pairs"],
        n_pairs: Int[np.ndarray, " edges"],
    ) -> Int[np.ndarray, " pairs"]:
        """Return the quadruplet edge b->a that closes each pair, -1 if there is none.

        Args:
            begin: First of the main edges c->a.
            end: End of their range.
            incoming: The main edge b->c of each pair, ordered by c->a.
            n_pairs: How many pairs each edge c->a is in.
        """
        first = int(self._target[begin]) if self._has_table else 0
        end_target = int(self._target[end - 1]) + 1
        moved = (self._target[begin:end] - first) * self._n_images
        moved += self._move[begin:end]
        wanted = self._comes_from[incoming]
        wanted += np.repeat(moved.astype(wanted.dtype), n_pairs)
        if not self._has_table:
            return self._searched(wanted)
        edges = slice(self._start[first], self._start[end_target])
        place = self._place[edges] - first * self._n_images
        table = self._empty_table((end_target - first) * self._n_images)
        table[place] = np.arange(edges.start, edges.stop)
        found: Int[np.ndarray, " pairs"] = table.take(wanted)
        table[place] = -1
        return found

    def _empty_table(self, size: int) -> Int[np.ndarray, " images"]:
        """Return a table of at least this size with -1 everywhere."""
        if len(self._table) < size:
            # twice what is needed: the next targets will need about as much
            size = max(size, min(2 * size, _TABLE_SIZE))
            self._table = np.full(size, -1, dtype=np.int32)
        return self._table

    def _searched(self, wanted: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
        at = np.minimum(self._place.searchsorted(wanted), len(self._place) - 1)
        return np.where(self._place[at] == wanted, at, -1)


def _span(
    main_shift: Int[np.ndarray, "main 3"], shift: Int[np.ndarray, "quadruplet 3"]
) -> list[int]:
    """Return how many shifts images can have that two main edges lead to."""
    pairs = zip(largest_shift(main_shift), largest_shift(shift), strict=True)
    return [2 * max(2 * main, other) + 1 for main, other in pairs]


def _number(
    shift: Int[np.ndarray, "edges 3"], span: list[int]
) -> Int[np.ndarray, " edges"]:
    """Return each shift as one integer, 0 for the shift 0."""
    first, second, third = shift.T
    number: Int[np.ndarray, " edges"] = (first * span[1] + second) * span[2] + third
    return number


def _home_cells(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    *,
    shift: Int[np.ndarray, "edges 3"],
) -> Int[np.ndarray, "atoms 3"]:
    """Return the cell in which each atom is, 0 in directions that do not repeat."""
    repeats = np.array(largest_shift(shift)) > 0
    inverse = np.linalg.pinv(np.where(repeats[:, None], cell, 0.0))
    return np.floor(positions @ inverse).astype(np.int64)


def _joined(
    parts: list[tuple[Int[np.ndarray, " part"], ...]],
) -> Int[np.ndarray, "3 closed"]:
    """Return the columns of all parts; each part is given up when it is copied."""
    joined = np.empty((3, sum(len(part[0]) for part in parts)), dtype=np.int64)
    end = joined.shape[1]
    while parts:
        part = parts.pop()
        begin = end - len(part[0])
        for row, values in zip(joined, part, strict=True):
            row[begin:end] = values
        end = begin
    return joined
