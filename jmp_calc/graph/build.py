"""From atoms to the graph of one system."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int

from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet
from jmp_calc.graph.edge_sets import Edges, edge_sets
from jmp_calc.graph.indices import index_lists
from jmp_calc.graph.neighbors import canonical_order
from jmp_calc.graph.rules import GraphRules

ADSORBATE_TAG = 2
"""Tag of every atom that is not part of a slab (OC20 convention)."""


def build_graph(
    atoms: Atoms,
    rules: GraphRules,
    *,
    tags: Int[np.ndarray, " atoms"] | None = None,
) -> AtomGraph:
    """Build the graph of ``atoms`` on the CPU.

    Args:
        atoms: Any structure; a lone atom gives a graph without edges.
        rules: How edges are chosen; part of a head's weights.
        tags: OC20 tags; the default gives every atom the tag of an adsorbate.
    """
    return graph_from_arrays(
        positions=atoms.get_positions(),
        numbers=atoms.get_atomic_numbers(),
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        tags=tags,
        rules=rules,
    )


def graph_from_arrays(
    *,
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    tags: Int[np.ndarray, " atoms"] | None = None,
    rules: GraphRules,
) -> AtomGraph:
    """Build a graph from plain arrays; meaning as in :func:`build_graph`."""
    tags = np.full(len(numbers), ADSORBATE_TAG) if tags is None else np.asarray(tags)
    sets, _ = edge_sets(positions, cell, np.asarray(pbc), tags, rules=rules)
    return _graph(positions, numbers, cell, tags, sets=sets, rules=rules)


def graph_from_edges(
    *,
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    cell: Float[np.ndarray, "3 3"],
    tags: Int[np.ndarray, " atoms"],
    edges: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    rules: GraphRules,
) -> AtomGraph:
    """Build a graph from given edges instead of a search.

    Args:
        positions: Angstrom.
        numbers: Atomic numbers.
        cell: Rows are lattice vectors, angstrom.
        tags: OC20 tags.
        edges: (source, target, shift) of each edge set by name, in any order.
        rules: Only the cutoffs of the envelopes are read.
    """
    sets = {}
    for name in GRAPHS:
        source, target, shift = edges[name]
        order = canonical_order(source, target, shift)
        source, target, shift = source[order], target[order], shift[order]
        vector = positions[target] - positions[source] - shift @ cell
        sets[name] = Edges(
            source=source,
            target=target,
            shift=shift,
            distance=np.linalg.norm(vector, axis=1),
        )
    return _graph(positions, numbers, cell, tags, sets=sets, rules=rules)


def dropped_neighbors(
    atoms: Atoms,
    rules: GraphRules,
    *,
    tags: Int[np.ndarray, " atoms"] | None = None,
) -> dict[str, int]:
    """Return how many edges each neighbour limit drops, by graph; zeros without limits.

    Args:
        atoms: Any structure.
        rules: The rules of a head.
        tags: OC20 tags, as in :func:`build_graph`.
    """
    tags = np.full(len(atoms), ADSORBATE_TAG) if tags is None else np.asarray(tags)
    _, dropped = edge_sets(
        atoms.get_positions(), atoms.cell.array, atoms.pbc, tags, rules=rules
    )
    return dropped


def _graph(
    positions: np.ndarray,
    numbers: np.ndarray,
    cell: np.ndarray,
    tags: np.ndarray,
    *,
    sets: dict[str, Edges],
    rules: GraphRules,
) -> AtomGraph:
    tensors: dict[str, EdgeSet] = {}
    for name, edges in sets.items():
        ends_at = rules.radial_cutoff or rules.cutoffs[name]
        tensors[name] = EdgeSet(
            source=torch.from_numpy(edges.source),
            target=torch.from_numpy(edges.target),
            shift=torch.from_numpy(edges.shift),
            envelope_cutoff=torch.tensor([ends_at], dtype=torch.float64),
        )
    lists = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in index_lists(sets, len(numbers)).items()
    }
    return AtomGraph(
        positions=torch.tensor(np.asarray(positions), dtype=torch.float64),
        numbers=torch.tensor(np.asarray(numbers), dtype=torch.int64),
        tags=torch.tensor(tags, dtype=torch.int64),
        cell=torch.tensor(np.asarray(cell), dtype=torch.float64).reshape(1, 3, 3),
        system_index=torch.zeros(len(numbers), dtype=torch.int64),
        **tensors,
        **lists,
    )
