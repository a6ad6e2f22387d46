"""One neighbor search to the four edge sets of GemNet-OC, by either set of rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules


@dataclass(frozen=True, kw_only=True, slots=True)
class Edges:
    """Directed edges source -> target in canonical order (target, source, shift)."""

    source: Int[np.ndarray, " edges"]
    target: Int[np.ndarray, " edges"]
    shift: Int[np.ndarray, "edges 3"]
    """Integer image offset of the source, in cell vectors."""
    distance: Float[np.ndarray, " edges"]
    """Angstrom."""

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.source)

    def select(
        self, keep: Bool[np.ndarray, " edges"] | Int[np.ndarray, " kept"]
    ) -> Edges:
        """Return some of the edges, by mask or by index."""
        return Edges(
            source=self.source[keep],
            target=self.target[keep],
            shift=self.shift[keep],
            distance=self.distance[keep],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeDropout:
    """Edges to leave out at random, a regulariser of training."""

    probability: float
    """Part of the edges that is dropped, from 0 to below 1."""
    generator: np.random.Generator
    """What chooses them."""

    def apply(self, edges: Edges) -> Edges:
        """Return the edges that stay.

        Args:
            edges: Edges in canonical order, so that the choice is reproducible.
        """
        return edges.select(self.generator.random(edges.n_edges) >= self.probability)


def build_edge_sets(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    tags: Int[np.ndarray, " atoms"],
    rules: GraphRules,
    dropout: EdgeDropout | None = None,
    found: Edges | None = None,
) -> dict[str, Edges]:
    """Return the edges of each graph (main, atom_edge, quadruplet, atom_atom).

    By the published rules the atom_atom graph is searched and the others are cut out of
    it, each keeping the nearest sources of every target; ties at the limit go to the
    edge that comes first in canonical order. Only the main graph is made symmetric, and
    for a pair it is the neighbors of the atom with the higher index that decide. By
    the smooth rules every graph holds all edges within its own cutoff.

    Args:
        positions: Angstrom.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic, unless the rules decide that.
        tags: OC20 tag of each atom (0 sub-surface, 1 surface, 2 adsorbate).
        rules: What the weights assume.
        dropout: Leaves out edges at random (training); None: all stay.
        found: All edges within :func:`search_cutoff`, if they are known already.

    Source:
        GemNet-OC specification, sections 2.4 to 2.7; dropout: 2.5, and training
        specification, section 1.7.
    """
    limits = rules.neighbor_limits(len(positions))
    pbc = periodic_directions(pbc, rules)
    if found is None:
        found = _search(positions, cell, pbc, cutoff=search_cutoff(rules))
    if limits is None:
        edges = _within_cutoffs(found, cutoffs=rules.cutoffs, dropout=dropout)
    else:
        limited = _limited(
            found,
            cutoffs=rules.cutoffs,
            limits=limits,
            by_distance=bool(pbc.any()),
            dropout=dropout,
        )
        edges = {name: kept for name, (_, kept) in limited.items()}
        edges["main"] = _with_reverse(_half(edges["main"]))
    if rules.quadruplet_tags is not None:
        edge = edges["quadruplet"]
        wanted = np.isin(tags, rules.quadruplet_tags)
        edges["quadruplet"] = edge.select(wanted[edge.source] | wanted[edge.target])
    return edges


def count_dropped(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    rules: GraphRules,
) -> dict[str, int]:
    """Count how many edges the neighbor limit of each graph cuts off.

    Edges are counted before the main graph is made symmetric and before quadruplet
    edges are filtered by tags. Without limits (smooth rules) every count is zero.

    Args:
        positions: Angstrom.
        cell: Rows are lattice vectors, angstrom.
        pbc: Which directions are periodic, unless the rules decide that.
        rules: What the weights assume.
    """
    limits = rules.neighbor_limits(len(positions))
    if limits is None:
        return dict.fromkeys(GRAPHS, 0)
    pbc = periodic_directions(pbc, rules)
    limited = _limited(
        _search(positions, cell, pbc, cutoff=search_cutoff(rules)),
        cutoffs=rules.cutoffs,
        limits=limits,
        by_distance=bool(pbc.any()),
    )
    return {name: within - kept.n_edges for name, (within, kept) in limited.items()}


def search_cutoff(rules: GraphRules) -> float:
    """Return up to which distance edges are searched, angstrom.

    Args:
        rules: What the weights assume.
    """
    cutoffs = rules.cutoffs
    if rules.max_neighbors is None:
        return max(cutoffs.values())
    return cutoffs["atom_atom"]


def periodic_directions(
    pbc: Bool[np.ndarray, "3"], rules: GraphRules
) -> Bool[np.ndarray, "3"]:
    """Return which directions are periodic for the graph of a structure.

    Args:
        pbc: Which are for the structure.
        rules: What the weights assume.
    """
    if rules.is_periodic is False:
        return np.zeros(3, dtype=bool)
    if rules.is_periodic and rules.rules == "published":
        return np.ones(3, dtype=bool)
    return np.array(pbc, dtype=bool)


def _search(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    *,
    cutoff: float,
) -> Edges:
    source, target, shift, distance = neighbor_list(positions, cell, pbc, cutoff=cutoff)
    return Edges(source=source, target=target, shift=shift, distance=distance)


def _within_cutoffs(
    found: Edges, *, cutoffs: dict[str, float], dropout: EdgeDropout | None
) -> dict[str, Edges]:
    """Return every graph without limits, all from one search."""
    # Both directions of a pair come from one of them: their distances could differ by
    # rounding, and an edge at the cutoff must not lose its counter-edge.
    # For the same reason a pair is dropped as a whole: by these rules every graph, not
    # only the main one, holds each edge with its counter-edge.
    half = _half(found)
    if dropout is not None:
        half = dropout.apply(half)
    cut = {
        value: _with_reverse(half.select(half.distance <= value))
        for value in set(cutoffs.values())
    }
    return {name: cut[cutoffs[name]] for name in GRAPHS}


def _limited(
    found: Edges,
    *,
    cutoffs: dict[str, float],
    limits: dict[str, int],
    by_distance: bool,
    dropout: EdgeDropout | None = None,
) -> dict[str, tuple[int, Edges]]:
    """Return, for each graph, its edge count before the limit and its edges after."""
    base_cutoff = cutoffs["atom_atom"]
    # The published non-periodic search keeps the first sources it finds, not the
    # nearest (section 2.3).
    base = _nearest(found, limits["atom_atom"], by_distance=by_distance)
    # As published: directed edges are dropped from the limited atom-atom graph, and the
    # other graphs are cut out of what is left, so that the next nearest sources take
    # the places. The main graph is made symmetric after that, from one edge of each
    # pair, so that a pair is dropped with its deciding edge.
    if dropout is not None:
        base = dropout.apply(base)
    graphs = {"atom_atom": (found.n_edges, base)}
    for name in ("main", "atom_edge", "quadruplet"):
        within = base
        if cutoffs[name] != base_cutoff:
            within = base.select(base.distance <= cutoffs[name])
        graphs[name] = (within.n_edges, _nearest(within, limits[name]))
    return {name: graphs[name] for name in GRAPHS}


def _nearest(edges: Edges, limit: int, *, by_distance: bool = True) -> Edges:
    """Return at most ``limit`` incoming edges of each target, the nearest or first."""
    count = np.bincount(edges.target)
    if len(count) == 0 or count.max() <= limit:
        return edges
    order = np.arange(edges.n_edges)
    if by_distance:
        order = np.lexsort((order, edges.distance, edges.target))
    start = np.cumsum(count) - count
    rank = np.empty(edges.n_edges, dtype=np.int64)
    # (edges in order of target, distance) -> (edges)
    rank[order] = np.arange(edges.n_edges) - start[edges.target]
    return edges.select(rank < limit)


def _half(edges: Edges) -> Edges:
    """Return one edge of each pair: from the lower atom, or the negative self-image."""
    first, second, third = np.sign(edges.shift).T
    leading = np.where(first != 0, first, np.where(second != 0, second, third))
    is_self = edges.source == edges.target
    return edges.select((edges.source < edges.target) | (is_self & (leading < 0)))


def _with_reverse(half: Edges) -> Edges:
    """Return the edges and their reverses, in canonical order."""
    both = Edges(
        source=np.concatenate([half.source, half.target]),
        target=np.concatenate([half.target, half.source]),
        shift=np.concatenate([half.shift, -half.shift]),
        distance=np.concatenate([half.distance, half.distance]),
    )
    return both.select(canonical_order(both.source, both.target, both.shift))


def canonical_order(
    source: Int[np.ndarray, " edges"],
    target: Int[np.ndarray, " edges"],
    shift: Int[np.ndarray, "edges 3"],
) -> Int[np.ndarray, " edges"]:
    """Return the order of edges by target, then source, then shift (lexicographic).

    Args:
        source: Source atom of each edge.
        target: Target atom of each edge.
        shift: Integer image offset of the source.
    """
    return np.lexsort((*shift.T[::-1], source, target))
