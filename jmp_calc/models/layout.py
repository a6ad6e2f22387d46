"""Where edges sit in padded tables, and which places of a table mean something.

Edges are sorted by target, so the incoming edges of an atom fill the first slots of a
row of a table. All this follows from the topology alone: it is made once for as long as
the topology is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet


def count_incoming(edges: EdgeSet, n_atoms: int) -> tuple[Int[Tensor, " atoms"], int]:
    """Return how many edges end at each atom, and how wide a table of them is.

    Args:
        edges: Some edges.
        n_atoms: Of the graph.
    """
    count = torch.bincount(edges.target, minlength=n_atoms)
    return count, max(int(count.max()), 1) if n_atoms else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """Where each edge sits in the padded table (atoms, width) of incoming edges."""

    n_atoms: int
    width: int
    """Largest number of incoming edges of an atom, at least 1."""
    position: Int[Tensor, " edges"]
    """Flat position of each edge in the table."""

    @classmethod
    def of(cls, edges: EdgeSet, n_atoms: int) -> Slots:
        """Lay out an edge set that is sorted by target."""
        count, width = count_incoming(edges, n_atoms)
        first = torch.cumsum(count, 0) - count
        slot = torch.arange(edges.n_edges, device=count.device) - first[edges.target]
        return cls(n_atoms=n_atoms, width=width, position=edges.target * width + slot)

    def pad(
        self, x: Float[Tensor, "edges *dims"]
    ) -> Float[Tensor, "atoms width *dims"]:
        """Spread per-edge rows over the table; empty slots are zero."""
        n_slots = self.n_atoms * self.width
        if x.shape[0] < n_slots:
            x = _Pad.apply(x, self.position, n_slots)  # type: ignore[no-untyped-call]  # torch
        return x.view(self.n_atoms, self.width, *x.shape[1:])

    def unpad(
        self, table: Shaped[Tensor, "atoms width *dims"]
    ) -> Shaped[Tensor, "edges *dims"]:
        """Collect the per-edge rows of a table again."""
        x = table.reshape(-1, *table.shape[2:])
        if self.position.shape[0] == x.shape[0]:
            return x
        rows: Tensor = _Unpad.apply(x, self.position)  # type: ignore[no-untyped-call]  # torch
        return rows

    def position_in_rows(self, n_rows: int) -> Int[Tensor, " edges_rows"]:
        """Return flat positions in a table (atoms, n_rows, width), edge by edge."""
        atom, slot = self.position // self.width, self.position % self.width
        row = torch.arange(n_rows, device=self.position.device)
        row = atom[:, None] * n_rows + row
        return (row * self.width + slot[:, None]).flatten()

    def edge_at(self, position: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return which edges are at filled positions of the table."""
        edges = torch.arange(len(self.position), device=position.device)
        at = edges.new_zeros(self.n_atoms * self.width)
        return at.index_copy(0, self.position, edges)[position]

    def filled(self) -> Bool[Tensor, "atoms width"]:
        """Which slots hold an edge."""
        mask = torch.zeros(
            self.n_atoms * self.width, dtype=torch.bool, device=self.position.device
        )
        mask[self.position] = True
        return mask.view(self.n_atoms, self.width)


class _Pad(torch.autograd.Function):
    """Rows to places of a table, each its own; the derivative collects them again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, position: Tensor, n_slots: int) -> Tensor:
        ctx.save_for_backward(position)
        return x.new_zeros((n_slots, *x.shape[1:])).index_copy_(0, position, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (position,) = ctx.saved_tensors
        return _Unpad.apply(grad, position), None, None  # type: ignore[no-untyped-call]  # torch


class _Unpad(torch.autograd.Function):
    """The other way round."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, position: Tensor) -> Tensor:
        ctx.save_for_backward(position)
        ctx.n_slots = table.shape[0]
        return table.index_select(0, position)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (position,) = ctx.saved_tensors
        return _Pad.apply(grad, position, ctx.n_slots), None  # type: ignore[no-untyped-call]  # torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Layouts of all edge sets, and masks of the tables of angles."""

    main: Slots
    atom_edge: Slots
    """``main`` itself if both graphs have the same edges."""
    quadruplet: Slots
    atom_atom: Slots
    is_triplet: Float[Tensor, "atoms width width"]
    """1 for two main edges with this target that are not the same, else 0."""
    is_atom_edge_triplet: Float[Tensor, "atoms width ae_width"]
    """The same of a main and an atom_edge edge."""
    is_incoming: Bool[Tensor, "quad_edges width"]
    """Which slots d of atom b hold an edge that does not come from a."""
    incoming: Float[Tensor, "quad_edges width"]
    """The same as numbers."""
    is_outgoing: Bool[Tensor, "atoms width quad_width"]
    """Which slots c and b of atom a hold two edges that are not the same."""
    outgoing: Float[Tensor, "atoms width quad_width"]
    """The same as numbers."""
    closure_from: Int[Tensor, " closed"]
    """Flat (quadruplet edge, slot of d at b) of every term with d == c."""
    closure_to: Int[Tensor, " closed"]
    """Flat (main position of c, quadruplet slot of b) of the same terms."""
    minus_closed: Float[Tensor, "atoms width quad_width"]
    """-1 at ``closure_to``, else 0."""
    excluded: Int[Tensor, " closed"]
    """Flat (quadruplet edge, slot of c, slot of d) of the same terms."""

    places: dict[Any, Tensor] = field(default_factory=dict)
    """Places in larger tables, as they are asked for."""

    def to_outgoing(
        self,
        moments: Float[Tensor, "quad_edges harmonics_parts dim"],
        n_harmonics: int,
        n_parts: int,
    ) -> Float[Tensor, "atoms harmonics parts_quad_width dim"]:
        """Spread moments of quadruplet edges over their slots; else 0."""
        q_slots, dim = self.quadruplet, moments.shape[2]
        key = "to_outgoing", n_harmonics, n_parts
        if key not in self.places:
            self.places[key] = q_slots.position_in_rows(n_harmonics * n_parts)
        shape = (q_slots.n_atoms, n_harmonics, n_parts * q_slots.width, dim)
        table: Tensor = _Pad.apply(  # type: ignore[no-untyped-call]  # torch
            moments.flatten(0, 1), self.places[key], math.prod(shape[:3])
        )
        return table.view(shape)

    def of_edges(
        self, table: Float[Tensor, "atoms harmonics width dims"]
    ) -> Float[Tensor, "edges harmonics dims"]:
        """Collect what belongs to the main edges."""
        slots, n_harmonics = self.main, table.shape[1]
        key = "of_edges", n_harmonics
        if key not in self.places:
            self.places[key] = slots.position_in_rows(n_harmonics)
        rows: Tensor = _Unpad.apply(table.flatten(0, 2), self.places[key])  # type: ignore[no-untyped-call]  # torch
        return rows.view(-1, n_harmonics, table.shape[3])

    def to_closure(
        self, x: Float[Tensor, "quad_edges width *dims"]
    ) -> Float[Tensor, "atoms width quad_width *dims"]:
        """Spread what belongs to d over the table of c where d == c; zero elsewhere."""
        chosen = x.flatten(0, 1).index_select(0, self.closure_from)
        n_slots = self.minus_closed.numel()
        table: Tensor = _Pad.apply(chosen, self.closure_to, n_slots)  # type: ignore[no-untyped-call]  # torch
        return table.view(*self.minus_closed.shape, *x.shape[2:])

    @classmethod
    def of(cls, graph: AtomGraph, dtype: torch.dtype) -> Layout:
        """Return the layout of a topology, made once.

        Args:
            graph: Topology.
            dtype: Of the masks that are multiplied with.
        """
        found = graph.derived.get((cls, dtype))
        if not isinstance(found, Layout):
            found = graph.derived[cls, dtype] = cls._made(graph, dtype)
        return found

    @classmethod
    def _made(cls, graph: AtomGraph, dtype: torch.dtype) -> Layout:
        main = Slots.of(graph.main, graph.n_atoms)
        quad = Slots.of(graph.quadruplet, graph.n_atoms)
        filled, same = main.filled(), graph.main_is_atom_edge
        is_triplet = filled[:, :, None] & filled[:, None]
        is_triplet.diagonal(dim1=1, dim2=2).fill_(False)
        if same.shape[1] == graph.main.n_edges == graph.atom_edge.n_edges:
            atom_edge, is_mixed = main, is_triplet
        else:
            atom_edge = Slots.of(graph.atom_edge, graph.n_atoms)
            is_mixed = filled[:, :, None] & atom_edge.filled()[:, None]
            is_mixed.view(-1)[_pair(main, same[0], atom_edge, same[1])] = False
        # d -> b: the slots of atom b, one row per quadruplet edge
        is_incoming = filled[graph.quadruplet.source]
        reverse = graph.quadruplet_reverse
        is_incoming[reverse[0], main.position[reverse[1]] % main.width] = False
        # c -> a: (atom a, slot of c, slot of b)
        same = graph.main_is_quadruplet
        is_outgoing = filled[:, :, None] & quad.filled()[:, None]
        is_outgoing.view(-1)[_pair(main, same[0], quad, same[1])] = False
        out, edge, inner = graph.quadruplet_closure
        slot_d = main.position[inner] % main.width
        to = _pair(main, out, quad, edge)
        closed = torch.zeros_like(is_outgoing, dtype=dtype)
        closed.view(-1)[to] = -1
        return cls(
            main=main,
            atom_edge=atom_edge,
            quadruplet=quad,
            atom_atom=Slots.of(graph.atom_atom, graph.n_atoms),
            is_triplet=is_triplet.to(dtype),
            is_atom_edge_triplet=is_mixed.to(dtype),
            is_incoming=is_incoming,
            incoming=is_incoming.to(dtype),
            is_outgoing=is_outgoing,
            outgoing=is_outgoing.to(dtype),
            closure_from=edge * main.width + slot_d,
            closure_to=to,
            minus_closed=closed,
            excluded=(edge * main.width + main.position[out] % main.width) * main.width
            + slot_d,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedEdges:
    """The edges of all graphs in one list, each set once."""

    parts: dict[str, int]
    """Which sets of edges there are, in this order, and how many edges each has. The
    atom_edge set is missing if it is the main set."""
    source: Int[Tensor, " edges"]
    target: Int[Tensor, " edges"]
    system: Int[Tensor, " edges"]
    shift: Float[Tensor, "edges 3"] | None
    """None: no edge ends in another image."""
    is_other: Float[Tensor, "edges 1"] | None
    """0 for an edge from an atom to its own image, else 1; None: there are none."""
    cutoff: Float[Tensor, " edges"]
    """Where the envelope of each edge ends, angstrom."""

    @classmethod
    def of(cls, graph: AtomGraph) -> JoinedEdges:
        """Return the edges of a topology, made once."""
        found = graph.derived.get(cls)
        if not isinstance(found, JoinedEdges):
            found = graph.derived[cls] = cls._made(graph)
        return found

    @classmethod
    def _made(cls, graph: AtomGraph) -> JoinedEdges:
        main, atom_edge = graph.main, graph.atom_edge
        is_one = graph.main_is_atom_edge.shape[1] == main.n_edges == atom_edge.n_edges
        is_one = is_one and torch.equal(main.envelope_cutoff, atom_edge.envelope_cutoff)
        names = [name for name in GRAPHS if not (is_one and name == "atom_edge")]
        sets: list[EdgeSet] = [getattr(graph, name) for name in names]
        source = torch.cat([edges.source for edges in sets])
        target = torch.cat([edges.target for edges in sets])
        shift = torch.cat([edges.shift for edges in sets])
        is_other = (source != target)[:, None]
        of = graph.system_index
        return cls(
            parts={n: edges.n_edges for n, edges in zip(names, sets, strict=True)},
            source=source,
            target=target,
            system=of[target],
            shift=shift.to(graph.cell.dtype) if bool(shift.any()) else None,
            is_other=None if bool(is_other.all()) else is_other.to(graph.cell.dtype),
            cutoff=torch.cat([x.envelope_cutoff[of[x.target]] for x in sets]),
        )

    def split(self, rows: Shaped[Tensor, "edges *dims"]) -> dict[str, Tensor]:
        """Return what belongs to each set of edges, in the order of ``parts``."""
        sizes = [*self.parts.values()]
        return dict(zip(self.parts, torch.split(rows, sizes), strict=True))

    def vectors(self, graph: AtomGraph) -> Float[Tensor, "edges 3"]:
        """Return the vector from the source image to the target of each edge, angstrom.

        Differences are taken in the dtype of the positions (float64), before any cast
        to the precision of a network. An edge from an atom to its own image does not
        depend on where the atom is: its gradient is exactly zero, not the rounding of a
        sum that cancels (which collinear images would amplify).

        Args:
            graph: Of the same topology.

        Source:
            GemNet-OC specification, section 2.1.
        """
        position = graph.positions
        vector = position.index_select(0, self.target)
        vector = vector - position.index_select(0, self.source)
        if self.is_other is not None:
            vector = vector * self.is_other
        if self.shift is None:
            return vector
        if graph.n_systems == 1:
            return vector - self.shift @ graph.cell[0]
        return vector - (self.shift[:, None] @ graph.cell[self.system])[:, 0]


def _pair(
    rows: Slots, row: Int[Tensor, " n"], columns: Slots, column: Int[Tensor, " n"]
) -> Int[Tensor, " n"]:
    """Flat index of (atom, row slot, column slot) for edges that share a target."""
    return rows.position[row] * columns.width + columns.position[column] % columns.width
