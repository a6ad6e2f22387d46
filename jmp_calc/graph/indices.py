"""Edge sets to the index lists that tie them together.

Each edge is one integer key (keys.py), so that the edges that two sets share are found
by walking along both. Triangles are too many for that (triangles.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import INDEX_LISTS
from jmp_calc.graph.edge_sets import Edges
from jmp_calc.graph.keys import EdgeKeys, too_far_apart
from jmp_calc.graph.triangles import find_triangles


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexLists:
    """Index lists between edge sets, as described in AtomGraph."""

    swap: Int[np.ndarray, " edges"]
    main_is_atom_edge: Int[np.ndarray, "2 same_atom_edge"]
    main_is_quadruplet: Int[np.ndarray, "2 same_quadruplet"]
    quadruplet_reverse: Int[np.ndarray, "2 reversed"]
    quadruplet_closure: Int[np.ndarray, "3 closed"]


def build_index_lists(
    edges: dict[str, Edges],
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    *,
    known: Mapping[str, Int[np.ndarray, "..."]] | None = None,
) -> IndexLists:
    """Return all index lists of one system.

    Args:
        edges: Main, atom_edge and quadruplet edges in canonical order; the main edges
            must hold the counter-edge of each of them.
        positions: Angstrom. The lists do not depend on them; they help to number the
            images of atoms that lie many cells apart.
        cell: Rows are lattice vectors, angstrom.
        known: Lists by name that were built of the same edges before.

    Raises:
        ArgumentError: If a main edge has no counter-edge or is given twice.
        UnsupportedSystemError: If atoms lie so many cells apart that edges cannot be
            numbered.

    Source:
        GemNet-OC specification, sections 2.8 and 3, and factorised contractions (the
        excluded d == c terms).
    """
    lists = dict(known or {})
    if len(lists) == len(INDEX_LISTS):
        return IndexLists(**lists)
    main, quadruplet = edges["main"], edges["quadruplet"]
    sets = {name: edges[name] for name in ("main", "atom_edge", "quadruplet")}
    numbering = EdgeKeys(len(positions), [edge.shift for edge in sets.values()])
    if not numbering.fit:
        raise too_far_apart(numbering.span)
    keys = {
        name: numbering.of(edge.source, edge.target, edge.shift)
        for name, edge in sets.items()
    }
    if "swap" not in lists:
        lists["swap"] = _counter_edges(main, keys["main"], numbering)
    swap = lists["swap"]
    if "main_is_atom_edge" not in lists:
        lists["main_is_atom_edge"] = np.stack(_same(keys["main"], keys["atom_edge"]))
    if "main_is_quadruplet" not in lists:
        same, quadruplet_edge = _same(keys["main"], keys["quadruplet"])
        lists["main_is_quadruplet"] = np.stack([same, quadruplet_edge])
        # of a main edge that it is, the counter-edge is its own
        lists["quadruplet_reverse"] = np.stack([quadruplet_edge, swap[same]])
        lists["quadruplet_closure"] = find_triangles(
            main, quadruplet, swap, positions=positions, cell=cell
        )
    return IndexLists(**lists)


def _counter_edges(
    main: Edges, key: Int[np.ndarray, " edges"], numbering: EdgeKeys
) -> Int[np.ndarray, " edges"]:
    """Return where the counter-edge of each main edge is."""
    counter_key = numbering.of(main.source, main.target, main.shift, is_counter=True)
    # The counter-edges are the same edges in another order, and going that way twice
    # leads back: the order is its own inverse.
    swap = counter_key.argsort()
    if np.array_equal(counter_key[swap], key):
        return swap
    alone = np.flatnonzero(~np.isin(counter_key, key))
    if len(alone) == 0:
        raise ArgumentError("main edges are given twice; give each of them once")
    edge = int(alone[0])
    raise ArgumentError(
        f"main edge {main.source[edge]} -> {main.target[edge]} with shift "
        f"{main.shift[edge].tolist()} has no counter-edge; the main graph must be "
        "symmetric"
    )


def _same(
    key: Int[np.ndarray, " edges"], other: Int[np.ndarray, " others"]
) -> tuple[Int[np.ndarray, " same"], Int[np.ndarray, " same"]]:
    """Return where the edges that two sets share are in each of them."""
    if np.array_equal(key, other):
        every = np.arange(len(key))
        return every, every
    if len(key) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(key, other), len(key) - 1)
    found = np.flatnonzero(key[place] == other)
    return place[found], found
