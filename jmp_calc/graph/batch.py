"""The graph of one system and of a batch: topology only, geometry comes later.

Topology (which edges exist, their periodic shifts, index lists) does not depend on
where the atoms are to the last digit, so it can be kept while they move; vectors,
distances and angles are computed from it inside the model, where they carry gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

GRAPHS = ("main", "atom_edge", "quadruplet", "atom_atom")
"""The four edge sets of GemNet-OC, each sorted by target, source, shift."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeSet:
    """Directed edges source -> target.

    The vector of an edge is ``pos[target] - pos[source] - shift @ cell``.

    Edges are in canonical order: ascending target, then source, then shift
    (lexicographic), so that the incoming edges of an atom are contiguous.
    """

    source: Int[Tensor, " edges"]
    target: Int[Tensor, " edges"]
    shift: Int[Tensor, "edges 3"]
    """Integer image offset of the source, in cell vectors."""
    envelope_cutoff: Float[Tensor, " systems"]
    """Distance at which the radial basis of these edges ends, angstrom."""

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(self.source.shape[0])


@dataclass(frozen=True, kw_only=True)
class AtomGraph:
    """Inputs and topology of one system or, after :func:`collate`, of many.

    Index lists (all are int64; entries are positions in the named edge sets):

    * ``swap``: main edge -> its counter-edge (t, s, -shift).
    * ``main_is_atom_edge`` (2, n): pairs (main edge, atom_edge edge) that are the same
      edge (same source image and target).
    * ``main_is_quadruplet`` (2, n): pairs (main edge, quadruplet edge), likewise.
    * ``quadruplet_reverse`` (2, n): pairs (quadruplet edge b->a, main edge a->b), the
      latter being its counter-edge, where that main edge exists.
    * ``quadruplet_closure`` (3, n): (main edge c->a, quadruplet edge b->a, main edge
      c->b) for every such triangle of atom images; these are the d == c terms.
    """

    positions: Float[Tensor, "atoms 3"]
    """Angstrom, float64."""
    numbers: Int[Tensor, " atoms"]
    tags: Int[Tensor, " atoms"]
    cell: Float[Tensor, "systems 3 3"]
    """Rows are lattice vectors, angstrom, float64; zeros for molecules are allowed."""
    system_index: Int[Tensor, " atoms"]
    main: EdgeSet
    atom_edge: EdgeSet
    quadruplet: EdgeSet
    atom_atom: EdgeSet
    swap: Int[Tensor, " edges"]
    main_is_atom_edge: Int[Tensor, "2 same_atom_edge"]
    main_is_quadruplet: Int[Tensor, "2 same_quadruplet"]
    quadruplet_reverse: Int[Tensor, "2 reversed"]
    quadruplet_closure: Int[Tensor, "3 closed"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_derived", {})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_derived": {}}

    @property
    def derived(self) -> dict[Any, Any]:
        """What others have worked out from the topology, by keys of their own.

        It is there to be used again while the topology is kept, and empty in every new
        graph.
        """
        found: dict[Any, Any] = self.__dict__["_derived"]
        return found

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return int(self.cell.shape[0])

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all systems."""
        return int(self.positions.shape[0])

    def to(self, device: torch.device | str) -> AtomGraph:
        """Return the graph with every tensor on ``device``; itself if it is there."""
        here, there = self.positions.device, torch.device(device)
        if here.type == there.type and there.index in (None, here.index):
            return self
        moved = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, EdgeSet):
                value = EdgeSet(
                    **{f.name: getattr(value, f.name).to(device) for f in fields(value)}
                )
            else:
                value = value.to(device)
            moved[part.name] = value
        return AtomGraph(**moved)

    def with_positions(
        self, positions: Float[Tensor, "atoms 3"], cell: Float[Tensor, "systems 3 3"]
    ) -> AtomGraph:
        """Return the same topology with other (differentiable) coordinates."""
        moved = replace(self, positions=positions, cell=cell)
        object.__setattr__(moved, "_derived", self.derived)
        return moved


INDEX_LISTS = {
    "swap": ("main",),
    "main_is_atom_edge": ("main", "atom_edge"),
    "main_is_quadruplet": ("main", "quadruplet"),
    "quadruplet_reverse": ("quadruplet", "main"),
    "quadruplet_closure": ("main", "quadruplet", "main"),
}


def collate(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """Join the graphs of many systems into one; canonical edge order is kept.

    Args:
        graphs: At least one graph, on the same device.
    """
    if len(graphs) == 1:
        return graphs[0]
    atom_start, system_start = 0, 0
    edge_start = dict.fromkeys(GRAPHS, 0)
    parts: dict[str, list[Tensor]] = {
        name: [] for name in ("positions", "numbers", "tags", "cell", "system_index")
    }
    lists: dict[str, list[Tensor]] = {name: [] for name in INDEX_LISTS}
    edges: dict[str, list[EdgeSet]] = {name: [] for name in GRAPHS}
    for graph in graphs:
        for name in ("positions", "numbers", "tags", "cell"):
            parts[name].append(getattr(graph, name))
        parts["system_index"].append(graph.system_index + system_start)
        for name, of in INDEX_LISTS.items():
            offset = torch.tensor([edge_start[g] for g in of]).to(graph.swap.device)
            value = getattr(graph, name)
            lists[name].append(value + (offset if len(of) == 1 else offset[:, None]))
        for name in GRAPHS:
            edge: EdgeSet = getattr(graph, name)
            edges[name].append(
                replace(
                    edge,
                    source=edge.source + atom_start,
                    target=edge.target + atom_start,
                )
            )
            edge_start[name] += edge.n_edges
        atom_start += graph.n_atoms
        system_start += graph.n_systems
    joined: dict[str, Any] = {
        **{name: torch.cat(value) for name, value in parts.items()},
        **{name: torch.cat(value, dim=-1) for name, value in lists.items()},
        **{name: _join(value) for name, value in edges.items()},
    }
    return AtomGraph(**joined)


def _join(edges: Sequence[EdgeSet]) -> EdgeSet:
    return EdgeSet(
        **{
            f.name: torch.cat([getattr(edge, f.name) for edge in edges])
            for f in fields(EdgeSet)
        }
    )
