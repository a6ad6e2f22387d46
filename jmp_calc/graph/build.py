"""Atoms, or given edges, to the graph of one system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import GRAPHS, INDEX_LISTS, AtomGraph, EdgeSet
from jmp_calc.graph.edge_sets import (
    EdgeDropout,
    Edges,
    build_edge_sets,
    canonical_order,
    count_dropped,
)
from jmp_calc.graph.indices import build_index_lists
from jmp_calc.graph.rules import DEFAULT_TAG, GraphRules


def build_graph(
    atoms: Atoms,
    rules: GraphRules,
    *,
    tags: Sequence[int] | Int[np.ndarray, " atoms"] | None = None,
    edge_dropout: float = 0.0,
    generator: np.random.Generator | None = None,
    device: torch.device | None = None,
) -> AtomGraph:
    """Return the graph of one system, on the CPU.

    Args:
        atoms: The system; positions and cell in angstrom.
        rules: What the weights assume about edges.
        tags: OC20 tag of each atom (0 sub-surface, 1 surface, 2 adsorbate); None: 2
            for all. ``atoms.get_tags()`` is not read, because others use it otherwise.
        edge_dropout: Part of the edges that is left out at random, in training only.
        generator: What chooses these edges; needed if there are any.
        device: That of the network. If it is a GPU, edges of large systems are searched
            there (not measured); the graph is the same to the last bit.

    Raises:
        ArgumentError: If there is not one tag per atom, or edges are to be dropped
            without a generator or all of them.
        UnsupportedSystemError: If a coordinate is not finite, periodic cell vectors
            span no volume, or atoms overlap.

    Source:
        GemNet-OC specification, sections 1 to 3.
    """
    return graph_from_arrays(
        atoms.positions,
        atoms.numbers,
        atoms.cell.array,
        pbc=atoms.pbc,
        tags=tags,
        rules=rules,
        edge_dropout=edge_dropout,
        generator=generator,
        device=device,
    )


def graph_from_arrays(
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    cell: Float[np.ndarray, "3 3"],
    *,
    pbc: Bool[np.ndarray, "3"],
    rules: GraphRules,
    tags: Sequence[int] | Int[np.ndarray, " atoms"] | None = None,
    edge_dropout: float = 0.0,
    generator: np.random.Generator | None = None,
    device: torch.device | None = None,
) -> AtomGraph:
    """Return the graph of one system given as arrays; see :func:`build_graph`.

    Args:
        positions: Angstrom.
        numbers: Atomic numbers.
        cell: Rows are lattice vectors, angstrom; zeros for molecules are allowed.
        pbc: Which directions are periodic, unless the rules decide that.
        rules: What the weights assume about edges.
        tags: OC20 tag of each atom; None: 2 for all.
        edge_dropout: Part of the edges that is left out at random.
        generator: What chooses these edges.
        device: That of the network.
    """
    of_atoms = tag_array(tags, len(numbers))
    return assemble(
        positions=positions,
        numbers=numbers,
        cell=cell,
        tags=of_atoms,
        edges=build_edge_sets(
            positions,
            cell,
            pbc,
            tags=of_atoms,
            rules=rules,
            dropout=_checked_dropout(edge_dropout, generator),
            device=device,
        ),
        rules=rules,
    )


def graph_from_edges(
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    cell: Float[np.ndarray, "3 3"],
    *,
    tags: Int[np.ndarray, " atoms"] | None,
    edges: Mapping[
        str,
        tuple[
            Int[np.ndarray, " edges"],
            Int[np.ndarray, " edges"],
            Int[np.ndarray, "edges 3"],
        ],
    ],
    rules: GraphRules,
) -> AtomGraph:
    """Return the graph of one system whose edges are already known, on the CPU.

    Args:
        positions: Angstrom.
        numbers: Atomic numbers.
        cell: Rows are lattice vectors, angstrom; zeros for molecules are allowed.
        tags: OC20 tag of each atom; None: 2 for all.
        edges: Source, target and shift of the edges of all four graphs by name, in any
            order; the main edges must be symmetric. They are sorted, not checked
            against cutoffs.
        rules: Gives the cutoff at which the envelope of each graph ends.

    Raises:
        ArgumentError: If a graph is missing, there is not one tag per atom, or a main
            edge has no counter-edge.
    """
    if sorted(edges) != sorted(GRAPHS):
        raise ArgumentError(
            f"edges are given for {', '.join(sorted(edges)) or 'no graph'}; they are "
            f"needed for {', '.join(GRAPHS)}"
        )
    return assemble(
        positions=positions,
        numbers=numbers,
        cell=cell,
        tags=tag_array(tags, len(numbers)),
        edges={
            name: _sorted_edges(positions, cell, edges=edge)
            for name, edge in edges.items()
        },
        rules=rules,
    )


def dropped_neighbors(atoms: Atoms, rules: GraphRules) -> dict[str, int]:
    """Count how many neighbors the limit of each graph cuts off, over all atoms.

    Where a count is not zero, the energy jumps as neighbors change rank. Counted before
    the main graph is made symmetric and before quadruplet edges are filtered by tags.

    Args:
        atoms: The system.
        rules: What the weights assume about edges.

    Returns:
        Number of dropped edges by graph name; all zero for the smooth rules.
    """
    return count_dropped(atoms.positions, atoms.cell.array, atoms.pbc, rules=rules)


def _checked_dropout(
    probability: float, generator: np.random.Generator | None
) -> EdgeDropout | None:
    if not 0 <= probability < 1:
        raise ArgumentError(
            f"edge_dropout is {probability}; it must be at least 0 and below 1"
        )
    if probability == 0:
        return None
    if generator is None:
        raise ArgumentError(
            f"edge_dropout is {probability} and there is no generator; give a "
            "numpy.random.Generator, so that the choice can be repeated"
        )
    return EdgeDropout(probability=probability, generator=generator)


def tag_array(
    tags: Sequence[int] | Int[np.ndarray, " atoms"] | None, n_atoms: int
) -> Int[np.ndarray, " atoms"]:
    """Return one tag per atom.

    Args:
        tags: OC20 tags; None: 2 for all.
        n_atoms: Number of atoms.

    Raises:
        ArgumentError: If there is not one tag per atom.
    """
    if tags is None:
        return np.full(n_atoms, DEFAULT_TAG, dtype=np.int64)
    array = np.asarray(tags, dtype=np.int64)
    if array.shape != (n_atoms,):
        raise ArgumentError(
            f"tags have shape {array.shape} for {n_atoms} atoms; give one tag (0, 1 or "
            "2) per atom"
        )
    return array


def _sorted_edges(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    *,
    edges: tuple[
        Int[np.ndarray, " edges"],
        Int[np.ndarray, " edges"],
        Int[np.ndarray, "edges 3"],
    ],
) -> Edges:
    source, target, shift = (np.asarray(part, dtype=np.int64) for part in edges)
    vector = positions[target] - positions[source] - shift @ cell
    return Edges(
        source=source,
        target=target,
        shift=shift,
        distance=np.linalg.norm(vector, axis=1),
    ).select(canonical_order(source, target, shift))


def assemble(
    *,
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    cell: Float[np.ndarray, "3 3"],
    tags: Int[np.ndarray, " atoms"],
    edges: dict[str, Edges],
    rules: GraphRules,
    before: AtomGraph | None = None,
) -> AtomGraph:
    """Return the graph of edges that are right, in canonical order; on the CPU.

    Args:
        positions: Angstrom.
        numbers: Atomic numbers.
        cell: Rows are lattice vectors, angstrom.
        tags: OC20 tag of each atom.
        edges: Of all four graphs, by name.
        rules: Gives the cutoff at which the envelope of each graph ends.
        before: A graph of the same atoms, tags and rules. What depends on edges that
            are still the same is taken from it.
    """
    same = set() if before is None else _same_edges(edges, before)
    moved: dict[str, Any] = {
        "positions": torch.tensor(positions, dtype=torch.float64),
        "cell": torch.tensor(cell, dtype=torch.float64)[None],
    }
    if before is not None and len(same) == len(GRAPHS):
        return before.with_positions(**moved)
    known: dict[str, Tensor] = {
        name: getattr(before, name)
        for name, of in INDEX_LISTS.items()
        if same.issuperset(of)
    }
    lists = build_index_lists(
        edges,
        positions,
        cell,
        known={name: value.numpy() for name, value in known.items()},
    )
    parts: dict[str, Any] = {
        **{
            name: getattr(before, name)
            if name in same
            else _edge_set(edges[name], name, rules)
            for name in GRAPHS
        },
        **{
            name: known.get(name, torch.from_numpy(getattr(lists, name)))
            for name in INDEX_LISTS
        },
    }
    return AtomGraph(
        **moved,
        numbers=torch.tensor(numbers, dtype=torch.int64),
        tags=torch.tensor(tags, dtype=torch.int64),
        system_index=torch.zeros(len(numbers), dtype=torch.int64),
        **parts,
    )


def _same_edges(edges: dict[str, Edges], before: AtomGraph) -> set[str]:
    """Return the graphs whose edges are those that they were before."""
    same = set()
    for name, edge in edges.items():
        old: EdgeSet = getattr(before, name)
        pairs = (
            (edge.target, old.target),
            (edge.source, old.source),
            (edge.shift, old.shift),
        )
        if all(np.array_equal(new, known.numpy()) for new, known in pairs):
            same.add(name)
    return same


def _edge_set(edges: Edges, name: str, rules: GraphRules) -> EdgeSet:
    # Copies: graphs of equal cutoff share their arrays up to here.
    radial_cutoff = rules.radial_cutoff
    return EdgeSet(
        source=torch.tensor(edges.source),
        target=torch.tensor(edges.target),
        shift=torch.from_numpy(np.array(edges.shift, order="C")),
        envelope_cutoff=torch.tensor(
            [rules.cutoffs[name] if radial_cutoff is None else radial_cutoff],
            dtype=torch.float64,
        ),
    )
