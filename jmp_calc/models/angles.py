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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.config import Rules
from jmp_calc.models.dihedral_floor import FlooredTerms, floored_terms, normalised
from jmp_calc.models.harmonics import closure_table, legendre, outer_table, powers
from jmp_calc.models.layout import Layout, Slots
from jmp_calc.models.tables import SharedTable


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletWeights:
    """Circular harmonics of all pairs of edges that share their target."""

    main: Slots
    atom_edge: Slots
    edge_to_edge: Float[Tensor, "atoms slots_angular slots"] | SharedTable
    """Rows (main slot, l), columns main slots; zero for an edge with itself."""
    atom_to_edge: Float[Tensor, "atoms slots_angular ae_slots"] | SharedTable
    """Rows (main slot, l), columns atom_edge slots; zero for the same atom image."""
    edge_to_atom: Float[Tensor, "atoms ae_slots_angular slots"] | SharedTable
    """Rows (atom_edge slot, l), columns main slots; likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuadrupletWeights:
    """Everything geometric in the sum over d -> b -> a <- c, without its list.

    Components of a harmonic j are the cosine and sine of j times the azimuth, and two
    more under the published rules when collinear atoms occur.
    """

    layout: Layout
    source: Int[Tensor, " quad_edges"]
    """Atom b of each quadruplet edge b -> a."""
    incoming_cosine: Float[Tensor, "quad_edges width angular"]
    """Circular harmonics of the angle a, b, d for each slot d of atom b."""
    incoming: Float[Tensor, "quad_edges harmonics_parts width"] | SharedTable
    """Azimuth functions of d, rows (j, component); zero where not incoming."""
    outgoing: Float[Tensor, "atoms harmonics width_angular parts_quad"] | SharedTable
    """Azimuth function of c times the circular harmonic of the angle c, a, b; rows
    (slot of c, l), columns (component, slot of b)."""
    closure: Float[Tensor, "atoms_width rows quad_width"] | SharedTable
    """Minus what the terms with d == c weigh in the full sum. Such a dihedral is 0:
    rows are (j, l) under the smooth rules, l alone under the published ones, where all
    j weigh the same."""
    flat_closure: Float[Tensor, "atoms_width rows quad_width"] | None
    """Those of them that are collinear, under the published rules; None: there are
    none."""
    floored: FlooredTerms | None
    """Corrections for planar, nearly collinear quadruplets (published rules)."""


def triplet_weights(
    layout: Layout,
    *,
    main: Float[Tensor, "edges 3"],
    atom_edge: Float[Tensor, "ae_edges 3"],
    n_spherical: int,
    rules: Rules,
) -> TripletWeights:
    """Evaluate all triplet angles.

    Args:
        layout: Of the topology.
        main: Unit vectors of the main edges.
        atom_edge: Unit vectors of the atom_edge edges.
        n_spherical: Number of circular harmonics.
        rules: The published rules clamp cosines to [-1, 1].
    """
    slots = layout.main
    v = slots.pad(main)
    y_ee = _circular(_cosine(v, v, rules), layout.is_triplet, n_spherical)
    if layout.atom_edge is slots:
        # one graph: the angle between two edges is that between them the other way
        return TripletWeights(
            main=slots,
            atom_edge=slots,
            edge_to_edge=y_ee,
            atom_to_edge=y_ee,
            edge_to_atom=y_ee,
        )
    is_pair = layout.is_atom_edge_triplet
    cosine = _cosine(v, layout.atom_edge.pad(atom_edge), rules)
    return TripletWeights(
        main=slots,
        atom_edge=layout.atom_edge,
        edge_to_edge=y_ee,
        atom_to_edge=_circular(cosine, is_pair, n_spherical),
        edge_to_atom=_circular(
            cosine.transpose(1, 2), is_pair.transpose(1, 2), n_spherical
        ),
    )


def quadruplet_weights(
    graph: AtomGraph,
    layout: Layout,
    *,
    main: Float[Tensor, "edges 3"],
    quadruplet: Float[Tensor, "quad_edges 3"],
    n_spherical: int,
    rules: Rules,
    outer: Callable[[Tensor, Tensor], Tensor | SharedTable] = outer_table,
) -> QuadrupletWeights:
    """Evaluate all quadruplet angles.

    Where c, a, b (or d, b, a) are collinear there is no dihedral. Under the published
    rules its cosine is 0 there, up to rounding, with a huge derivative; under the
    smooth rules harmonic j is weighted by (sin sin)^j of both angles, which makes it a
    polynomial of the bond vectors, so that it vanishes without a jump in any
    derivative.

    Args:
        graph: Topology.
        layout: Of the same topology.
        main: Unit vectors of the main edges.
        quadruplet: Unit vectors of the quadruplet edges.
        n_spherical: Number of harmonics of the angle and of the dihedral.
        rules: Which of the two treatments of collinear atoms to use.
        outer: Makes the table of outgoing angles.
    """
    q_slots, source = layout.quadruplet, graph.quadruplet.source
    n_atoms, width = layout.main.n_atoms, layout.main.width
    v = layout.main.pad(main)
    axes = torch.stack([quadruplet, *_frame(quadruplet)], dim=-1)
    # d -> b: the slots of atom b, one row per quadruplet edge
    cosine_in, *z_in = (v.index_select(0, source) @ axes).unbind(-1)
    # c -> a: (atom a, slot of c, slot of b)
    columns = q_slots.pad(axes).permute(0, 2, 3, 1).flatten(2)
    cosine_out, *z_out = (v @ columns).view(n_atoms, width, 3, -1).unbind(2)
    ends = (z_in[0], z_in[1]), (z_out[0], z_out[1])
    y_in = legendre(_clamped(cosine_in, rules), n_spherical)
    y_out = legendre(
        _clamped(cosine_out, rules), n_spherical, dim=2, mask=layout.outgoing
    )
    floored = flat = None
    if rules == "published":
        f_in, f_out, is_flat = _unit_harmonics(*ends, n_spherical, layout)
        closure = y_out * layout.minus_closed[:, :, None]
        if is_flat is not None:
            flat = (closure * is_flat[:, :, None]).flatten(0, 1)
        floored = floored_terms(
            (ends[0], layout.is_incoming),
            (
                (_of_edges(z_out[0], q_slots), _of_edges(z_out[1], q_slots)),
                _of_edges(layout.is_outgoing, q_slots),
            ),
            y_out=lambda: _of_edges(y_out.transpose(2, 3), q_slots),
            is_open=~_has_images(graph)[graph.system_index[graph.quadruplet.target]],
            excluded=layout.excluded,
            row=graph.quadruplet.target * width,
        )
    else:
        f_in = powers(ends[0], n_spherical, mask=layout.incoming)
        f_out = powers(ends[1], n_spherical)
        # the same plane: the product of both vectors is that of their lengths
        x, y = (layout.to_closure(d) * c for d, c in zip(*ends, strict=True))
        closure = closure_table(y_out, x + y, layout.minus_closed)
    return QuadrupletWeights(
        layout=layout,
        source=source,
        incoming_cosine=y_in,
        incoming=f_in.flatten(1, 2),
        outgoing=outer(y_out, f_out),
        closure=closure.flatten(0, 1),
        flat_closure=flat,
        floored=floored,
    )


def _circular(
    cosine: Float[Tensor, "atoms rows columns"],
    is_pair: Float[Tensor, "atoms rows columns"],
    n: int,
) -> Float[Tensor, "atoms rows_angular columns"]:
    """Circular harmonics of a table of angles, rows (row, l); zero where no pair."""
    return legendre(cosine, n, dim=2, mask=is_pair).flatten(1, 2)


def _of_edges(table: Tensor, q_slots: Slots) -> Tensor:
    """Return the rows b -> a of a table (atoms, slots of c, slots of b, ...)."""
    return q_slots.unpad(table.transpose(1, 2))


def _has_images(graph: AtomGraph) -> Bool[Tensor, " systems"]:
    """Which systems have an edge to another periodic image."""
    found = torch.zeros(graph.n_systems, dtype=torch.bool, device=graph.cell.device)
    for edges in (graph.main, graph.quadruplet):
        found[graph.system_index[edges.target[edges.shift.any(dim=1)]]] = True
    return found


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


def _unit_harmonics(
    inner: tuple[Tensor, Tensor],
    outer: tuple[Tensor, Tensor],
    n: int,
    layout: Layout,
) -> tuple[Tensor, Tensor, Bool[Tensor, "atoms width quad_width"] | None]:
    """Functions f, g with ``sum_parts f_j g_j = cos(j theta)``, 0 for collinear atoms.

    Returns:
        For the inner (d) and outer (c) atom a tensor with two axes (j, component) more:
        j after the first axis, the component before the last; and which terms with
        d == c are collinear (others may be marked, too), or None if no atoms are.
    """
    (in_unit, in_flat), (out_unit, out_flat) = normalised(inner), normalised(outer)
    f, g = powers(in_unit, n, mask=layout.incoming), powers(out_unit, n)
    in_flat, out_flat = in_flat & layout.is_incoming, out_flat & layout.is_outgoing
    if not bool(in_flat.any() | out_flat.any()):
        return f, g, None
    # cos(theta) = 0 where either bond lies on the axis; j = 0 is in the powers already
    value = right_angle_cosines(n).to(f)
    value[0] = 0
    d, c = (flat.to(f.dtype).unsqueeze(-2) for flat in (in_flat, out_flat))
    present = layout.incoming.unsqueeze(-2)
    d = torch.stack([d, present], dim=-2).flatten(-3, -2)
    c = torch.stack([1 - c, c], dim=-2).flatten(-3, -2)
    # (j, first axis, ...) -> j after the first axis
    d = (value.view(n, *[1] * d.ndim) * d).movedim(0, 1)
    f = torch.cat([f, d], dim=-2)
    g = torch.cat([g, c.unsqueeze(1).expand(-1, n, *c.shape[1:])], dim=-2)
    return f, g, out_flat | (layout.to_closure(in_flat.to(f.dtype)) > 0)


def right_angle_cosines(n: int) -> Float[Tensor, " n"]:
    """Return cos(j pi/2), j = 0 .. n-1.

    Args:
        n: How many.
    """
    return torch.tensor([(1.0, 0.0, -1.0, 0.0)[j % 4] for j in range(n)])
