"""Edge sets to the index lists that tie them together.

An edge is identified by its target, source and shift. The three are packed into one
integer key that grows in canonical order, so that every question "which edge is that?"
is one binary search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.edge_sets import Edges

_PAIRS_PER_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexLists:
    """Index lists between edge sets, as described in AtomGraph."""

    swap: Int[np.ndarray, " edges"]
    main_is_atom_edge: Int[np.ndarray, "2 same_atom_edge"]
    main_is_quadruplet: Int[np.ndarray, "2 same_quadruplet"]
    quadruplet_reverse: Int[np.ndarray, "2 reversed"]
    quadruplet_closure: Int[np.ndarray, "3 closed"]


def build_index_lists(edges: dict[str, Edges], n_atoms: int) -> IndexLists:
    """Return all index lists of one system.

    Args:
        edges: Main, atom_edge and quadruplet edges in canonical order; the main edges
            must hold the counter-edge of each of them.
        n_atoms: Number of atoms.

    Raises:
        ArgumentError: If a main edge has no counter-edge.
        UnsupportedSystemError: If atoms lie so many cells apart that edges cannot be
            numbered.

    Source:
        GemNet-OC specification, sections 2.8 and 3, and factorised contractions (the
        excluded d == c terms).
    """
    main, quadruplet = edges["main"], edges["quadruplet"]
    finder = _EdgeFinder(main, n_atoms)
    swap = finder.find(main.target, main.source, -main.shift)
    if (swap < 0).any():
        edge = int(np.flatnonzero(swap < 0)[0])
        raise ArgumentError(
            f"main edge {main.source[edge]} -> {main.target[edge]} with shift "
            f"{main.shift[edge].tolist()} has no counter-edge; the main graph must be "
            "symmetric"
        )
    reverse = finder.find(quadruplet.target, quadruplet.source, -quadruplet.shift)
    return IndexLists(
        swap=swap,
        main_is_atom_edge=_same(finder, edges["atom_edge"]),
        main_is_quadruplet=_same(finder, quadruplet),
        quadruplet_reverse=np.stack(_found(reverse)),
        quadruplet_closure=_closure(finder, main, quadruplet),
    )


class _EdgeFinder:
    """Finds edges of one set by target, source and shift."""

    def __init__(self, edges: Edges, n_atoms: int) -> None:
        self._n_atoms = n_atoms
        self._low = edges.shift.min(axis=0, initial=0)
        self._span = edges.shift.max(axis=0, initial=0) - self._low + 1
        n_keys = n_atoms**2 * int(self._span[0]) * int(self._span[1])
        if n_keys * int(self._span[2]) >= 2**63:
            raise UnsupportedSystemError(
                f"edges span {self._span.tolist()} cells, too many to number; wrap the "
                "atoms into the cell"
            )
        self._keys = self._pack(edges.source, edges.target, edges.shift - self._low)

    def _pack(
        self,
        source: Int[np.ndarray, " queries"],
        target: Int[np.ndarray, " queries"],
        offset: Int[np.ndarray, "queries 3"],
    ) -> Int[np.ndarray, " queries"]:
        key: Int[np.ndarray, " queries"] = target * self._n_atoms + source
        for axis in range(3):
            key = key * self._span[axis] + offset[:, axis]
        return key

    def find(
        self,
        source: Int[np.ndarray, " queries"],
        target: Int[np.ndarray, " queries"],
        shift: Int[np.ndarray, "queries 3"],
    ) -> Int[np.ndarray, " queries"]:
        """Return the index of each edge, -1 where there is no such edge."""
        if len(self._keys) == 0:
            return np.full(len(source), -1, dtype=np.int64)
        offset = shift - self._low
        exists = ((offset >= 0) & (offset < self._span)).all(axis=1)
        key = self._pack(source, target, np.where(exists[:, None], offset, 0))
        place = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(exists & (self._keys[place] == key), place, -1)


def _found(
    index: Int[np.ndarray, " queries"],
) -> tuple[Int[np.ndarray, " hits"], Int[np.ndarray, " hits"]]:
    """Return which queries were found, and what they found."""
    query = np.flatnonzero(index >= 0)
    return query, index[query]


def _same(finder: _EdgeFinder, edges: Edges) -> Int[np.ndarray, "2 same"]:
    other, main = _found(finder.find(edges.source, edges.target, edges.shift))
    return np.stack([main, other])


def _closure(
    finder: _EdgeFinder, main: Edges, quadruplet: Edges
) -> Int[np.ndarray, "3 closed"]:
    """Return the triangles main c->a, quadruplet b->a, main c->b."""
    parts = [np.zeros((3, 0), dtype=np.int64)]
    for outgoing, incoming in _pairs_of_equal_target(main, quadruplet):
        closing = finder.find(
            main.source[outgoing],
            quadruplet.source[incoming],
            # Seen from the image b: that of c minus that of b, both relative to a.
            main.shift[outgoing] - quadruplet.shift[incoming],
        )
        pair, edge = _found(closing)
        parts.append(np.stack([outgoing[pair], incoming[pair], edge]))
    return np.concatenate(parts, axis=1)


def _pairs_of_equal_target(
    first: Edges, second: Edges
) -> Iterator[tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]]:
    """Yield all pairs (first edge, second edge) with one target, in chunks.

    In chunks because their number, not the result, is what would fill the memory.
    """
    # Edges are sorted by target, so that those of one target are contiguous.
    start = np.searchsorted(second.target, first.target, side="left")
    count = np.searchsorted(second.target, first.target, side="right") - start
    total = count.cumsum()
    begin = 0
    while begin < first.n_edges:
        done = int(total[begin] - count[begin])
        end = int(np.searchsorted(total, done + _PAIRS_PER_CHUNK, side="right"))
        end = max(end, begin + 1)
        repeat = count[begin:end]
        left = np.repeat(np.arange(begin, end), repeat)
        within = np.arange(len(left)) - np.repeat(repeat.cumsum() - repeat, repeat)
        yield left, start[left] + within
        begin = end
