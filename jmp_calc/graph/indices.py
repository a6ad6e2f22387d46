"""Index lists between edge sets: counter-edges, shared edges, closed triangles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jmp_calc.graph.edge_sets import Edges


class EdgeLookup:
    """Finds edges by source, target and shift."""

    def __init__(self, edges: Edges, n_atoms: int) -> None:
        self.n_atoms = n_atoms
        self.reach = int(np.abs(edges.shift).max(initial=0))
        self.keys = self._key(edges.source, edges.target, edges.shift)

    def _key(
        self, source: np.ndarray, target: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        key = target * self.n_atoms + source
        for axis in range(3):
            key = key * (2 * self.reach + 1) + shift[:, axis] + self.reach
        return key

    def find(
        self,
        source: Int[np.ndarray, " n"],
        target: Int[np.ndarray, " n"],
        shift: Int[np.ndarray, "n 3"],
    ) -> Int[np.ndarray, " n"]:
        """Return the position of each edge, or -1 where there is none."""
        if not len(self.keys):
            return np.full(len(source), -1, dtype=np.int64)
        is_in_reach = (np.abs(shift) <= self.reach).all(axis=1)
        key = self._key(source, target, np.where(is_in_reach[:, None], shift, 0))
        # Canonical order sorts by target, source, shift: the keys ascend.
        place = np.searchsorted(self.keys, key).clip(max=len(self.keys) - 1)
        return np.where(is_in_reach & (self.keys[place] == key), place, -1)


def index_lists(
    sets: dict[str, Edges], n_atoms: int
) -> dict[str, Int[np.ndarray, "..."]]:
    """Return the index lists of an AtomGraph; see there for their meaning.

    Args:
        sets: Edge sets of one system in canonical order; ``main`` is symmetric.
        n_atoms: Number of atoms of the system.
    """
    main, quad = sets["main"], sets["quadruplet"]
    lookup = EdgeLookup(main, n_atoms)
    swap = lookup.find(main.target, main.source, -main.shift)
    assert (swap >= 0).all(), "the main edges are not symmetric"
    reverse = lookup.find(quad.target, quad.source, -quad.shift)
    return {
        "swap": swap,
        "main_is_atom_edge": _same(lookup, sets["atom_edge"]),
        "main_is_quadruplet": _same(lookup, quad),
        "quadruplet_reverse": np.stack(
            [np.flatnonzero(reverse >= 0), reverse[reverse >= 0]]
        ),
        "quadruplet_closure": _closures(main, quad, lookup, n_atoms),
    }


def _same(lookup: EdgeLookup, edges: Edges) -> Int[np.ndarray, "2 n"]:
    """Pairs (main edge, edge of another set) that are one and the same edge."""
    place = lookup.find(edges.source, edges.target, edges.shift)
    return np.stack([place[place >= 0], np.flatnonzero(place >= 0)])


def _closures(
    main: Edges, quad: Edges, lookup: EdgeLookup, n_atoms: int
) -> Int[np.ndarray, "3 n"]:
    """Triangles c -> a, b -> a, c -> b: over all pairs of edges that share atom a."""
    count = np.bincount(quad.target, minlength=n_atoms)
    first = np.cumsum(count) - count
    repeats = count[main.target]
    ca = np.repeat(np.arange(len(main)), repeats)
    within = np.arange(len(ca)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    ba = first[main.target[ca]] + within
    cb = lookup.find(main.source[ca], quad.source[ba], main.shift[ca] - quad.shift[ba])
    keep = cb >= 0
    return np.stack([ca[keep], ba[keep], cb[keep]])
