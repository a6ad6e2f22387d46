"""Angular weights: every cosine and dihedral of a forward pass, once, in dense form.

Edges are sorted by target, so the incoming edges of an atom fill the first slots of a
padded row. A sum over triplets is then one batched matrix product per atom, and a sum
over quadruplets never needs the list of quadruplets: the dihedral is a difference of
two azimuths around the b -> a axis, and cos j(alpha - beta) factorises.

Source:
    GemNet-OC specification, sections 3 and 4.4; factorised contractions (addition
    theorem for cosines), exact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.models.basis import legendre
from jmp_calc.models.config import Rules
from jmp_calc.models.dihedral_floor import FlooredTerms, floored_terms, normalised


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
        count = torch.bincount(edges.target, minlength=n_atoms)
        first = torch.cumsum(count, 0) - count
        slot = torch.arange(edges.n_edges, device=count.device) - first[edges.target]
        width = max(int(count.max()), 1) if n_atoms else 1
        return cls(n_atoms=n_atoms, width=width, position=edges.target * width + slot)

    def pad(
        self, x: Float[Tensor, "edges *dims"]
    ) -> Float[Tensor, "atoms width *dims"]:
        """Spread per-edge rows over the table; empty slots are zero."""
        table = x.new_zeros((self.n_atoms * self.width, *x.shape[1:]))
        table = table.index_copy(0, self.position, x)
        return table.view(self.n_atoms, self.width, *x.shape[1:])

    def unpad(
        self, table: Shaped[Tensor, "atoms width *dims"]
    ) -> Shaped[Tensor, "edges *dims"]:
        """Collect the per-edge rows of a table again."""
        return table.reshape(-1, *table.shape[2:]).index_select(0, self.position)

    def filled(self) -> Bool[Tensor, "atoms width"]:
        """Which slots hold an edge."""
        mask = torch.zeros(
            self.n_atoms * self.width, dtype=torch.bool, device=self.position.device
        )
        mask[self.position] = True
        return mask.view(self.n_atoms, self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletWeights:
    """Circular harmonics of all pairs of edges that share their target."""

    main: Slots
    atom_edge: Slots
    edge_to_edge: Float[Tensor, "atoms slots_angular slots"]
    """Rows (main slot, l), columns main slots; zero for an edge with itself."""
    atom_to_edge: Float[Tensor, "atoms slots_angular ae_slots"]
    """Rows (main slot, l), columns atom_edge slots; zero for the same atom image."""
    edge_to_atom: Float[Tensor, "atoms ae_slots_angular slots"]
    """Rows (atom_edge slot, l), columns main slots; likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuadrupletWeights:
    """Everything geometric in the sum over d -> b -> a <- c, without its list.

    Components of a harmonic j are the cosine and sine of j times the azimuth, and two
    more under the published rules when collinear atoms occur.
    """

    main: Slots
    quadruplet: Slots
    source: Int[Tensor, " quad_edges"]
    """Atom b of each quadruplet edge b -> a."""
    incoming_cosine: Float[Tensor, "quad_edges width angular"]
    """Circular harmonics of the angle a, b, d for each slot d of atom b."""
    is_incoming: Bool[Tensor, "quad_edges width"]
    """Which slots d of atom b hold an edge that does not come from a."""
    incoming: Float[Tensor, "quad_edges harmonics_parts width"]
    """Azimuth functions of d, rows (j, component); zero where not incoming."""
    outgoing: Float[Tensor, "atoms harmonics width_angular parts_quad"]
    """Azimuth function of c times the circular harmonic of the angle c, a, b; rows
    (slot of c, l), columns (component, slot of b)."""
    closure_from: Int[Tensor, "2 closed"]
    """(quadruplet edge, slot of d at b) of every term with d == c."""
    closure_to: Int[Tensor, " closed"]
    """Flat (main position of c, quadruplet slot of b) of the same terms."""
    closure: Float[Tensor, "atoms_width harmonics_angular quad_width"]
    """What those terms weigh in the full sum, to be taken out again."""
    floored: FlooredTerms | None
    """Corrections for planar, nearly collinear quadruplets (published rules)."""


def triplet_weights(
    graph: AtomGraph,
    *,
    main: Float[Tensor, "edges 3"],
    atom_edge: Float[Tensor, "ae_edges 3"],
    n_spherical: int,
    rules: Rules,
) -> TripletWeights:
    """Evaluate all triplet angles.

    Args:
        graph: Topology.
        main: Unit vectors of the main edges.
        atom_edge: Unit vectors of the atom_edge edges.
        n_spherical: Number of circular harmonics.
        rules: The published rules clamp cosines to [-1, 1].
    """
    slots = Slots.of(graph.main, graph.n_atoms)
    v, filled, same = slots.pad(main), slots.filled(), graph.main_is_atom_edge
    is_pair = filled[:, :, None] & filled[:, None]
    is_pair.diagonal(dim1=1, dim2=2).fill_(False)
    y_ee = _circular(_cosine(v, v, rules), is_pair, n_spherical)
    if same.shape[1] == graph.main.n_edges == graph.atom_edge.n_edges:
        # one graph: the angle between two edges is that between them the other way
        return TripletWeights(
            main=slots,
            atom_edge=slots,
            edge_to_edge=y_ee,
            atom_to_edge=y_ee,
            edge_to_atom=y_ee,
        )
    ae_slots = Slots.of(graph.atom_edge, graph.n_atoms)
    is_pair = filled[:, :, None] & ae_slots.filled()[:, None]
    is_pair.view(-1)[_pair(slots, same[0], ae_slots, same[1])] = False
    cosine = _cosine(v, ae_slots.pad(atom_edge), rules)
    return TripletWeights(
        main=slots,
        atom_edge=ae_slots,
        edge_to_edge=y_ee,
        atom_to_edge=_circular(cosine, is_pair, n_spherical),
        edge_to_atom=_circular(
            cosine.transpose(1, 2), is_pair.transpose(1, 2), n_spherical
        ),
    )


def quadruplet_weights(
    graph: AtomGraph,
    *,
    main: Float[Tensor, "edges 3"],
    quadruplet: Float[Tensor, "quad_edges 3"],
    n_spherical: int,
    rules: Rules,
) -> QuadrupletWeights:
    """Evaluate all quadruplet angles.

    Where c, a, b (or d, b, a) are collinear there is no dihedral. Under the published
    rules its cosine is 0 there, up to rounding, with a huge derivative; under the
    smooth rules harmonic j is weighted by (sin sin)^j of both angles, which makes it a
    polynomial of the bond vectors, so that it vanishes without a jump in any
    derivative.

    Args:
        graph: Topology.
        main: Unit vectors of the main edges.
        quadruplet: Unit vectors of the quadruplet edges.
        n_spherical: Number of harmonics of the angle and of the dihedral.
        rules: Which of the two treatments of collinear atoms to use.
    """
    slots = Slots.of(graph.main, graph.n_atoms)
    q_slots = Slots.of(graph.quadruplet, graph.n_atoms)
    source = graph.quadruplet.source
    width = slots.width
    v, filled = slots.pad(main), slots.filled()
    e1, e2 = _frame(quadruplet)

    # d -> b: the slots of atom b, one row per quadruplet edge
    v_in, is_incoming = v.index_select(0, source), filled[source]
    reverse = graph.quadruplet_reverse
    is_incoming[reverse[0], slots.position[reverse[1]] % width] = False
    axes = torch.stack([quadruplet, e1, e2], dim=-1)
    cosine_in, *z_in = (v_in @ axes).unbind(-1)
    # c -> a: (atom a, slot of c, slot of b)
    same = graph.main_is_quadruplet
    is_outgoing = filled[:, :, None] & q_slots.filled()[:, None]
    is_outgoing.view(-1)[_pair(slots, same[0], q_slots, same[1])] = False
    columns = q_slots.pad(axes).permute(0, 2, 3, 1).flatten(2)
    cosine_out, *z_out = (v @ columns).view(graph.n_atoms, width, 3, -1).unbind(2)

    f_in, f_out = _harmonics(
        (z_in[0], z_in[1]),
        (z_out[0], z_out[1]),
        n_spherical,
        rules,
        is_incoming=is_incoming,
        is_outgoing=is_outgoing,
    )
    f_in = f_in * is_incoming[:, None, None].to(v.dtype)
    y_in = legendre(_clamped(cosine_in, rules), n_spherical)
    y_out = legendre(_clamped(cosine_out, rules), n_spherical, dim=2)
    y_out = y_out * is_outgoing[:, :, None].to(v.dtype)
    outgoing: Tensor = OuterTable.apply(y_out, f_out)  # type: ignore[no-untyped-call]

    out, quad, inner = graph.quadruplet_closure
    slot_d = slots.position[inner] % width
    to = _pair(slots, out, q_slots, quad)
    floored = None
    if rules == "published":
        floored = floored_terms(
            ((z_in[0], z_in[1]), is_incoming),
            (
                (_of_edges(z_out[0], q_slots), _of_edges(z_out[1], q_slots)),
                _of_edges(is_outgoing, q_slots),
            ),
            y_out=_of_edges(y_out.transpose(2, 3), q_slots),
            is_open=~_has_images(graph)[graph.system_index[graph.quadruplet.target]],
            excluded=(quad * width + slots.position[out] % width) * width + slot_d,
            row=graph.quadruplet.target * width,
        )
    return QuadrupletWeights(
        main=slots,
        quadruplet=q_slots,
        source=source,
        incoming_cosine=y_in,
        is_incoming=is_incoming,
        incoming=f_in.flatten(1, 2),
        outgoing=outgoing.flatten(4).flatten(2, 3),
        closure_from=torch.stack([quad, slot_d]),
        closure_to=to,
        closure=_closure(y_out, f_out, f_in[quad, :, :, slot_d], to),
        floored=floored,
    )


class OuterTable(torch.autograd.Function):
    """The product of functions of the angle c, a, b and of the azimuth of c.

    ``table[a, j, c, l, p, b] = y[a, c, l, b] f[a, j, c, p, b]``. The table is the
    largest array of the network; its derivative is summed up without another of its
    size.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Float[Tensor, "atoms width angular quad_width"],
        f: Float[Tensor, "atoms harmonics width parts quad_width"],
    ) -> Float[Tensor, "atoms harmonics width angular parts quad_width"]:
        """Make the table."""
        ctx.save_for_backward(y, f)
        return y[:, None, :, :, None] * f[:, :, :, None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives with respect to both factors."""
        y, f = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            return (
                (grad * f[:, :, :, None]).sum(dim=(1, 4)),
                (grad * y[:, None, :, :, None]).sum(dim=3),
            )
        by_y, by_f = torch.zeros_like(y), torch.zeros_like(f)
        for j, part in itertools.product(range(f.shape[1]), range(f.shape[3])):
            by_y.addcmul_(grad[:, j, :, :, part], f[:, j, :, None, part])
        for angular in range(y.shape[2]):
            by_f.addcmul_(grad[:, :, :, angular], y[:, None, :, angular, None])
        return by_y, by_f


def _circular(
    cosine: Float[Tensor, "atoms rows columns"],
    is_pair: Bool[Tensor, "atoms rows columns"],
    n: int,
) -> Float[Tensor, "atoms rows_angular columns"]:
    """Circular harmonics of a table of angles, rows (row, l); zero where no pair."""
    y = legendre(cosine, n, dim=2) * is_pair[:, :, None].to(cosine.dtype)
    return y.flatten(1, 2)


def _of_edges(table: Tensor, q_slots: Slots) -> Tensor:
    """Return the rows b -> a of a table (atoms, slots of c, slots of b, ...)."""
    return q_slots.unpad(table.transpose(1, 2))


def _closure(
    y_out: Float[Tensor, "atoms width angular quad_width"],
    f_out: Float[Tensor, "atoms harmonics width parts quad_width"],
    f_in: Float[Tensor, "closed harmonics parts"],
    to: Int[Tensor, " closed"],
) -> Float[Tensor, "atoms_width harmonics_angular quad_width"]:
    """What the terms with d == c weigh, spread over a table."""
    n_atoms, width, n, q_width = y_out.shape
    atom, c, b = to // (width * q_width), to // q_width % width, to % q_width
    dihedral = (f_in * f_out[atom, :, c, :, b]).sum(-1)
    value = (dihedral[:, :, None] * y_out[atom, c, :, b][:, None, :]).flatten(1)
    table = value.new_zeros((n_atoms * width * q_width, n * n))
    table = table.index_copy(0, to, value)
    return table.view(n_atoms * width, q_width, n * n).transpose(1, 2)


def _has_images(graph: AtomGraph) -> Bool[Tensor, " systems"]:
    """Which systems have an edge to another periodic image."""
    found = torch.zeros(graph.n_systems, dtype=torch.bool, device=graph.cell.device)
    for edges in (graph.main, graph.quadruplet):
        found[graph.system_index[edges.target[edges.shift.any(dim=1)]]] = True
    return found


def _pair(
    rows: Slots, row: Int[Tensor, " n"], columns: Slots, column: Int[Tensor, " n"]
) -> Int[Tensor, " n"]:
    """Flat index of (atom, row slot, column slot) for edges that share a target."""
    return rows.position[row] * columns.width + columns.position[column] % columns.width


def _cosine(a: Tensor, b: Tensor, rules: Rules) -> Tensor:
    return _clamped(a @ b.transpose(-1, -2), rules)


def _clamped(cosine: Tensor, rules: Rules) -> Tensor:
    return cosine.clamp(-1, 1) if rules == "published" else cosine


def _frame(
    axis: Float[Tensor, "edges 3"],
) -> tuple[Float[Tensor, "edges 3"], Float[Tensor, "edges 3"]]:
    """Two unit vectors that complete ``axis`` to an orthonormal frame.

    Source:
        Duff et al., "Building an orthonormal basis, revisited", JCGT 6 (2017).
    """
    x, y, z = axis.unbind(-1)
    sign = torch.where(z.detach() < 0, -1.0, 1.0).to(axis.dtype)
    a = -1 / (sign + z)
    b = x * y * a
    e1 = torch.stack([1 + sign * x * x * a, sign * b, -sign * x], dim=-1)
    e2 = torch.stack([b, sign + y * y * a, -y], dim=-1)
    return e1, e2


def _harmonics(
    inner: tuple[Tensor, Tensor],
    outer: tuple[Tensor, Tensor],
    n: int,
    rules: Rules,
    *,
    is_incoming: Tensor,
    is_outgoing: Tensor,
) -> tuple[Tensor, Tensor]:
    """Functions f, g with ``sum_parts f_j g_j = cos(j theta)`` (or its smooth form).

    Returns:
        For the inner (d) and outer (c) atom a tensor with two axes (j, component) more:
        j after the first axis, the component before the last.
    """
    if rules == "smooth":
        return _powers(inner, n), _powers(outer, n)
    (in_unit, in_flat), (out_unit, out_flat) = normalised(inner), normalised(outer)
    f, g = _powers(in_unit, n), _powers(out_unit, n)
    in_flat, out_flat = in_flat & is_incoming, out_flat & is_outgoing
    if bool(in_flat.any() | out_flat.any()):
        # cos(theta) = 0 where either bond lies on the axis: cos(j theta) = cos(j pi/2)
        value = torch.tensor(
            [0.0 if j == 0 else (1.0, 0.0, -1.0, 0.0)[j % 4] for j in range(n)],
            dtype=f.dtype,
            device=f.device,
        )
        d, c = (flat.to(f.dtype).unsqueeze(-2) for flat in (in_flat, out_flat))
        d = torch.stack([d, torch.ones_like(d)], dim=-2).flatten(-3, -2)
        c = torch.stack([1 - c, c], dim=-2).flatten(-3, -2)
        # (j, first axis, ...) -> j after the first axis
        d = (value.view(n, *[1] * d.ndim) * d).movedim(0, 1)
        f = torch.cat([f, d], dim=-2)
        g = torch.cat([g, c.unsqueeze(1).expand(-1, n, *c.shape[1:])], dim=-2)
    return f, g


def _powers(z: tuple[Tensor, Tensor], n: int) -> Tensor:
    """Real and imaginary parts of z^j, j = 0 .. n-1: shape (first, n, ..., 2, last)."""
    x, y = z
    powers = [(torch.ones_like(x), torch.zeros_like(x)), (x, y)]
    for _ in range(n - 2):
        re, im = powers[-1]
        powers.append((re * x - im * y, re * y + im * x))
    return torch.stack([torch.stack(pair, dim=-2) for pair in powers[:n]], dim=1)
