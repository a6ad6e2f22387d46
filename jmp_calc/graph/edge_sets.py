"""The four edge sets of GemNet-OC, cut out of one neighbour search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.neighbors import canonical_order, neighbor_list
from jmp_calc.graph.rules import GraphRules


@dataclass(frozen=True, kw_only=True, slots=True)
class Edges:
    """Directed edges as numpy arrays, in canonical order."""

    source: Int[np.ndarray, " edges"]
    target: Int[np.ndarray, " edges"]
    shift: Int[np.ndarray, "edges 3"]
    distance: Float[np.ndarray, " edges"]

    def __getitem__(self, keep: np.ndarray) -> Edges:
        """Select edges by mask or index."""
        return Edges(
            source=self.source[keep],
            target=self.target[keep],
            shift=self.shift[keep],
            distance=self.distance[keep],
        )

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.source)


def edge_sets(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    tags: Int[np.ndarray, " atoms"],
    *,
    rules: GraphRules,
) -> tuple[dict[str, Edges], dict[str, int]]:
    """Build main, atom_edge, quadruplet and atom_atom edges of one system.

    Args:
        positions: Angstrom.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic; ``rules.is_periodic`` may overrule it.
        tags: OC20 tags (0 sub-surface, 1 surface, 2 adsorbate).
        rules: Which rules to follow.

    Returns:
        The edge sets by name, and by name how many edges the neighbour limits dropped.

    Source:
        GemNet-OC specification, sections 2.2 to 2.7.
    """
    if rules.is_periodic is not None:
        pbc = np.full(3, rules.is_periodic)
    cutoffs = rules.cutoffs
    found = Edges(
        **dict(
            zip(
                ("source", "target", "shift", "distance"),
                neighbor_list(positions, cell, pbc, max(cutoffs.values())),
                strict=True,
            )
        )
    )
    limits = rules.neighbor_limits
    if limits is None:
        sets = {name: found[found.distance <= cutoffs[name]] for name in GRAPHS}
        dropped = dict.fromkeys(GRAPHS, 0)
    else:
        sets, dropped = _published_sets(
            found, limits, cutoff=rules.cutoff, is_periodic=bool(pbc.all())
        )
    if rules.quadruplet_tags is not None:
        quad = sets["quadruplet"]
        is_tagged = np.isin(tags, rules.quadruplet_tags)
        sets["quadruplet"] = quad[is_tagged[quad.source] | is_tagged[quad.target]]
    return sets, dropped


def _published_sets(
    found: Edges, limits: dict[str, int], *, cutoff: float, is_periodic: bool
) -> tuple[dict[str, Edges], dict[str, int]]:
    """Cut by nearest-K per target; only the search itself differs without periodicity."""
    if is_periodic:
        base = _nearest(found, limits["atom_atom"])
    else:  # the published search keeps the first it finds, and its bound is strict
        found = found[found.distance < cutoff]
        base = found[_rank(found.target) < limits["atom_atom"]]
    sets = {"atom_atom": base}
    for name in ("main", "atom_edge", "quadruplet"):
        sets[name] = _nearest(base, limits[name])
    dropped = {name: len(base) - len(edges) for name, edges in sets.items()}
    dropped["atom_atom"] = len(found) - len(base)
    sets["main"] = _symmetrised(sets["main"])
    return sets, dropped


def _rank(target: Int[np.ndarray, " edges"]) -> Int[np.ndarray, " edges"]:
    """Running number of each edge within its target (edges sorted by target)."""
    count = np.bincount(target)
    first = np.cumsum(count) - count
    return np.arange(len(target)) - first[target]


def _nearest(edges: Edges, limit: int) -> Edges:
    """Keep the ``limit`` shortest edges of each target; ties go to the first listed."""
    order = np.lexsort((np.arange(len(edges)), edges.distance, edges.target))
    keep = np.zeros(len(edges), dtype=bool)
    keep[order[_rank(edges.target[order]) < limit]] = True
    return edges[keep]


def _symmetrised(edges: Edges) -> Edges:
    """Keep the edges that point up in index, and the reverse of each.

    For an atom and its own image the shift decides: its first non-zero number must be
    negative. A pair thus survives by the neighbour list of the higher-indexed atom.
    """
    first = np.zeros(len(edges), dtype=np.int64)
    for axis in (2, 1, 0):
        first = np.where(edges.shift[:, axis] != 0, edges.shift[:, axis], first)
    is_same = edges.source == edges.target
    kept = edges[(edges.source < edges.target) | (is_same & (first < 0))]
    both = Edges(
        source=np.concatenate([kept.source, kept.target]),
        target=np.concatenate([kept.target, kept.source]),
        shift=np.concatenate([kept.shift, -kept.shift]),
        distance=np.concatenate([kept.distance, kept.distance]),
    )
    return both[canonical_order(both.source, both.target, both.shift)]
