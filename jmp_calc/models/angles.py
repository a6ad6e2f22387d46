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

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
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
        self, table: Float[Tensor, "atoms width *dims"]
    ) -> Float[Tensor, "edges *dims"]:
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
    outgoing: Float[Tensor, "atoms harmonics width_angular quad_parts"]
    """Azimuth function of c times the circular harmonic of the angle c, a, b."""
    closure_from: Int[Tensor, "2 closed"]
    """(quadruplet edge, slot of d at b) of every term with d == c."""
    closure_to: Int[Tensor, " closed"]
    """Flat (main position of c, quadruplet slot of b) of the same terms."""
    closure: Float[Tensor, "atoms_width angular_harmonics quad_width"]
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
    ae_slots = Slots.of(graph.atom_edge, graph.n_atoms)
    v, w = slots.pad(main), ae_slots.pad(atom_edge)
    filled, same = slots.filled(), graph.main_is_atom_edge
    ee = (filled[:, :, None] & filled[:, None]).to(v.dtype)
    ee.diagonal(dim1=1, dim2=2).zero_()
    ae = (filled[:, :, None] & ae_slots.filled()[:, None]).to(v.dtype)
    ae.view(-1)[_pair(slots, same[0], ae_slots, same[1])] = 0
    y_ee = legendre(_cosine(v, v, rules), n_spherical) * ee[..., None]
    y_ae = legendre(_cosine(v, w, rules), n_spherical) * ae[..., None]
    return TripletWeights(
        main=slots,
        atom_edge=ae_slots,
        edge_to_edge=y_ee.transpose(2, 3).flatten(1, 2),
        atom_to_edge=y_ae.transpose(2, 3).flatten(1, 2),
        edge_to_atom=y_ae.permute(0, 2, 3, 1).flatten(1, 2),
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
    source, target = graph.quadruplet.source, graph.quadruplet.target
    width = slots.width
    v = slots.pad(main)
    filled = slots.filled()
    e1, e2 = _frame(quadruplet)

    def azimuth(vector: Tensor) -> tuple[Tensor, Tensor]:
        return (vector @ e1[..., None])[..., 0], (vector @ e2[..., None])[..., 0]

    # d -> b: the slots of atom b, one row per quadruplet edge
    v_in = v[source]
    is_incoming = filled[source]
    reverse = graph.quadruplet_reverse
    is_incoming[reverse[0], slots.position[reverse[1]] % width] = False
    # c -> a: the slots of atom a
    v_out = v[target]
    same = graph.main_is_quadruplet
    is_outgoing = filled[target]
    is_outgoing[same[1], slots.position[same[0]] % width] = False

    z_in, z_out = azimuth(v_in), azimuth(v_out)
    f_in, f_out = _harmonics(z_in, z_out, n_spherical, rules)
    f_in = f_in * is_incoming[..., None, None].to(v.dtype)
    y_in = legendre(_cosine(v_in, quadruplet[:, None], rules)[..., 0], n_spherical)
    y_out = legendre(_cosine(v_out, quadruplet[:, None], rules)[..., 0], n_spherical)
    y_out = y_out * is_outgoing[..., None].to(v.dtype)

    # (quad_edges, width, angular, harmonics, parts) -> per atom a
    outgoing = y_out[..., None, None] * f_out[:, :, None]
    n_parts = f_in.shape[-1]
    table = q_slots.pad(outgoing)
    table = table.permute(0, 4, 2, 3, 1, 5).reshape(
        graph.n_atoms, n_spherical, width * n_spherical, q_slots.width * n_parts
    )

    out, quad, inner = graph.quadruplet_closure
    slot_c = slots.position[out] % width
    slot_d = slots.position[inner] % width
    dihedral = (f_in[quad, slot_d] * f_out[quad, slot_c]).sum(-1)
    value = (y_out[quad, slot_c][:, :, None] * dihedral[:, None, :]).flatten(1)
    to = slots.position[out] * q_slots.width + q_slots.position[quad] % q_slots.width
    floored = None
    if rules == "published":
        floored = floored_terms(
            (z_in, is_incoming),
            (z_out, is_outgoing),
            y_out=y_out,
            is_open=~_has_images(graph)[graph.system_index[target]],
            excluded=(quad * width + slot_c) * width + slot_d,
            row=target * width,
        )
    closure = value.new_zeros(
        (graph.n_atoms * width * q_slots.width, value.shape[1])
    ).index_copy(0, to, value)
    return QuadrupletWeights(
        main=slots,
        quadruplet=q_slots,
        source=source,
        incoming_cosine=y_in,
        is_incoming=is_incoming,
        incoming=f_in.permute(0, 2, 3, 1).flatten(1, 2),
        outgoing=table,
        closure_from=torch.stack([quad, slot_d]),
        closure_to=to,
        closure=closure.view(graph.n_atoms * width, q_slots.width, -1).transpose(1, 2),
        floored=floored,
    )


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
    cosine = a @ b.transpose(-1, -2)
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
    inner: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor], n: int, rules: Rules
) -> tuple[Tensor, Tensor]:
    """Functions f, g with ``sum_parts f_j g_j = cos(j theta)`` (or its smooth form).

    Returns:
        Two tensors (quad_edges, width, n, parts) for the inner (d) and outer (c) atom.
    """
    if rules == "smooth":
        return _powers(inner, n), _powers(outer, n)
    (in_unit, in_flat), (out_unit, out_flat) = normalised(inner), normalised(outer)
    f, g = _powers(in_unit, n), _powers(out_unit, n)
    if bool(in_flat.any() | out_flat.any()):
        # cos(theta) = 0 where either bond lies on the axis: cos(j theta) = cos(j pi/2)
        flat_value = torch.tensor(
            [0.0 if j == 0 else (1.0, 0.0, -1.0, 0.0)[j % 4] for j in range(n)],
            dtype=f.dtype,
            device=f.device,
        )
        d, c = in_flat.to(f.dtype)[..., None], out_flat.to(f.dtype)[..., None]
        one = torch.ones_like(d) * torch.ones_like(flat_value)
        f = torch.cat(
            [f, (d * flat_value)[..., None], (one * flat_value)[..., None]], -1
        )
        g = torch.cat([g, ((1 - c) * one)[..., None], (c * one)[..., None]], -1)
    return f, g


def _powers(z: tuple[Tensor, Tensor], n: int) -> Tensor:
    """Real and imaginary parts of z^j, j = 0 .. n-1: shape (..., n, 2)."""
    x, y = z
    real, imaginary = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(n - 1):
        re, im = real[-1], imaginary[-1]
        real.append(re * x - im * y)
        imaginary.append(re * y + im * x)
    return torch.stack([torch.stack(real, -1), torch.stack(imaginary, -1)], dim=-1)
