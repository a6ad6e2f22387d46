"""One neighbor search to the four edge sets of GemNet-OC, by either set of rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.keys import EdgeKeys
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules

_SORTED_AT_A_TIME = 1 << 17
"""Distances that are sorted together: few enough to stay in the cache."""


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
        # taking is much faster than indexing, and fastest column by column
        index = keep
        if keep.dtype == bool:
            if keep.all():
                return self
            index = np.flatnonzero(keep)
        return Edges(
            source=self.source.take(index),
            target=self.target.take(index),
            shift=self.shift.T.take(index, axis=1).T,
            distance=self.distance.take(index),
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
    device: torch.device | None = None,
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
        device: That of the network, see :func:`jmp_calc.graph.neighbors.neighbor_list`.

    Source:
        GemNet-OC specification, sections 2.4 to 2.7; dropout: 2.5, and training
        specification, section 1.7.
    """
    limits = rules.neighbor_limits(len(positions))
    pbc = periodic_directions(pbc, rules)
    if found is None:
        found = _search(
            positions, cell, pbc, cutoff=search_cutoff(rules), device=device
        )
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
    device: torch.device | None = None,
) -> Edges:
    source, target, shift, distance = neighbor_list(
        positions, cell, pbc, cutoff=cutoff, device=device
    )
    return Edges(source=source, target=target, shift=shift, distance=distance)


def _within_cutoffs(
    found: Edges, *, cutoffs: dict[str, float], dropout: EdgeDropout | None
) -> dict[str, Edges]:
    """Return every graph without limits, all from one search."""
    # Both edges of a pair have the same distance, to the last bit (neighbors.py), so
    # that every cutoff keeps both or none. A pair is dropped as a whole too: by these
    # rules every graph, not only the main one, holds each edge with its counter-edge.
    if dropout is not None:
        found = _with_reverse(dropout.apply(_half(found)))
    cut = {
        value: found.select(found.distance <= value) for value in set(cutoffs.values())
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
    # The published non-periodic search keeps the first sources it finds, not the
    # nearest (section 2.3).
    limit = limits["atom_atom"]
    is_kept = (
        _are_nearest(found, [limit])[0] if by_distance else _are_first(found, limit)
    )
    base = found.select(is_kept)
    # As published: directed edges are dropped from the limited atom-atom graph, and the
    # other graphs are cut out of what is left, so that the next nearest sources take
    # the places. The main graph is made symmetric after that, from one edge of each
    # pair, so that a pair is dropped with its deciding edge.
    if dropout is not None:
        base = dropout.apply(base)
    graphs = {"atom_atom": (found.n_edges, base)}
    names = [name for name in GRAPHS if name != "atom_atom"]
    # Edges beyond a cutoff come after those within: the order of the two cuts does not
    # matter, and all limits can be applied to the same edges.
    nearest = _are_nearest(base, [limits[name] for name in names])
    for name, is_near in zip(names, nearest, strict=True):
        within = base.distance <= cutoffs[name]
        graphs[name] = (int(np.count_nonzero(within)), base.select(is_near & within))
    return {name: graphs[name] for name in GRAPHS}


def _are_first(edges: Edges, limit: int) -> Bool[np.ndarray, " edges"]:
    """Return which are among the first ``limit`` incoming edges of their target."""
    start = np.searchsorted(edges.target, edges.target)
    return np.arange(edges.n_edges) - start < limit


def _are_nearest(
    edges: Edges, limits: Sequence[int]
) -> list[Bool[np.ndarray, " edges"]]:
    """Return, for each limit, which edges are among so many nearest of their target.

    Of those at the same distance the first ones are.
    """
    count = np.bincount(edges.target, minlength=1)
    if count.max() <= min(limits):
        return [np.ones(edges.n_edges, dtype=bool)] * len(limits)
    farthest = _farthest_allowed(edges.distance, count, limits)
    chosen = []
    for limit, at_target in zip(limits, farthest, strict=True):
        at_most = np.repeat(at_target, count)
        is_near = edges.distance < at_most
        tied = np.flatnonzero(edges.distance == at_most)
        target = edges.target[tied]
        free = limit - np.bincount(edges.target[is_near], minlength=len(count))
        place = np.arange(len(tied)) - np.searchsorted(target, target)
        is_near[tied[place < free[target]]] = True
        chosen.append(is_near)
    return chosen


def _farthest_allowed(
    distance: Float[np.ndarray, " edges"],
    count: Int[np.ndarray, " atoms"],
    limits: Sequence[int],
) -> Float[np.ndarray, "limits atoms"]:
    """Return the distance of the last edge that each limit allows each target.

    It is infinite where there are fewer. A few targets at a time are sorted, each in a
    row as long as the longest of them.
    """
    farthest = np.full((len(limits), len(count)), np.inf)
    start = count.cumsum() - count
    n_rows = max(_SORTED_AT_A_TIME // max(int(count.max()), 1), 1)
    for begin in range(0, len(count), n_rows):
        part = slice(begin, begin + n_rows)
        width = int(count[part].max())
        if width < min(limits):
            continue
        column = np.arange(width)
        rows = np.full((len(count[part]), width), np.inf)
        is_edge = column < count[part, None]
        rows[is_edge] = distance[start[part][0] : start[part][-1] + count[part][-1]]
        rows.sort(axis=1)
        for of_limit, limit in zip(farthest, limits, strict=True):
            if limit <= width:
                of_limit[part] = rows[:, limit - 1] if limit else 0.0
    return farthest


def _half(edges: Edges) -> Edges:
    """Return one edge of each pair: from the lower atom, or the negative self-image."""
    chosen = edges.source < edges.target
    itself = np.flatnonzero(edges.source == edges.target)
    first, second, third = np.sign(edges.shift[itself]).T
    leading = np.where(first != 0, first, np.where(second != 0, second, third))
    chosen[itself[leading < 0]] = True
    return edges.select(chosen)


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
    keys = EdgeKeys(int(max(source.max(initial=0), target.max(initial=0))) + 1, [shift])
    if keys.fit:
        return keys.of(source, target, shift).argsort()
    return np.lexsort((*shift.T[::-1], source, target))
