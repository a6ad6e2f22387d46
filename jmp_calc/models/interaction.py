"""The five interactions of GemNet-OC and the block that merges them (section 6)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from jmp_calc.models.angles import QuadrupletWeights, right_angle_cosines
from jmp_calc.models.config import ModelConfig
from jmp_calc.models.embedding import EdgeEmbedding, Shared
from jmp_calc.models.layers import (
    INV_SQRT_2,
    Dense,
    ScaleFactor,
    residual_stack,
    scaled_silu,
    sum_by_target,
)
from jmp_calc.models.layout import Slots
from jmp_calc.models.tables import SharedTable
from jmp_calc.models.twice import is_lean, recomputed

_INV_SQRT_3 = 1 / math.sqrt(3)


class TripletInteraction(torch.nn.Module):
    """Messages along b -> a that reach the edge c -> a.

    With atom features as input it is the atom-to-edge interaction, with edge features
    the edge-to-edge (triplet) interaction; both share this code.
    """

    def __init__(self, config: ModelConfig, n_in: int) -> None:
        super().__init__()
        edge, down, up = (
            config.emb_size_edge,
            config.emb_size_trip_in,
            config.emb_size_trip_out,
        )
        self.dense = Dense(n_in, n_in)
        self.radial = Dense(config.emb_size_rbf, n_in, activation=False)
        self.scale_radial = ScaleFactor()
        self.bilinear = Dense(config.emb_size_cbf * down, up, activation=False)
        self.scale_sum = ScaleFactor()
        self.down = Dense(n_in, down)
        self.up_ca = Dense(up, edge)
        self.up_ac = Dense(up, edge)

    def forward(
        self,
        message: Float[Tensor, "in_edges down"],
        slots: tuple[Slots, Slots],
        weights: Float[Tensor, "atoms out_angular in"] | SharedTable,
        factors: Float[Tensor, "edges cbf angular"] | SharedTable,
        shared: Shared,
    ) -> Float[Tensor, "edges edge_dim"]:
        """Sum the messages of all incoming edges over the angle to each main edge.

        Args:
            message: Gated features of the incoming edges, projected down.
            slots: Layout of incoming and of outgoing (main) edges.
            weights: Circular harmonics, per atom.
            factors: Radial factors of the main edges.
            shared: Shared quantities of this forward pass.
        """
        incoming, outgoing = slots
        x = incoming.pad(message)
        z = sum_triplets(x, weights, outgoing)
        y = self.scale_sum(
            self.bilinear((factors @ z).flatten(1)),
            lambda: _triplet_inputs(x, weights, outgoing.width),
        )
        return _symmetric(self, y, shared)


class EdgeToAtomInteraction(torch.nn.Module):
    """Messages along main edges b -> a that reach atom a, seen from its neighbours."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        edge, down, up = (
            config.emb_size_edge,
            config.emb_size_trip_in,
            config.emb_size_trip_out,
        )
        self.dense = Dense(edge, edge)
        self.radial = Dense(config.emb_size_rbf, edge, activation=False)
        self.scale_radial = ScaleFactor()
        self.bilinear = Dense(config.emb_size_cbf * down, up, activation=False)
        self.scale_sum = ScaleFactor()
        self.down = Dense(edge, down)
        self.up_ca = Dense(up, config.emb_size_atom)

    def forward(
        self, edge: Float[Tensor, "edges edge_dim"], shared: Shared
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return the update of the atom features."""
        triplets = shared.triplets
        x = _message(self, edge, shared.radial_edge_to_atom, shared)
        x = triplets.main.pad(x)
        z = triplets.edge_to_atom @ x  # (atoms, slots * angular, channels)
        y = self.scale_sum(
            self.bilinear((shared.factors_edge_to_atom @ z).flatten(1)),
            lambda: _triplet_inputs(x, triplets.edge_to_atom, triplets.atom_edge.width),
        )
        out: Tensor = self.up_ca(y)
        return out


class AtomToAtomInteraction(torch.nn.Module):
    """Messages between atoms over distances only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.bilinear = Dense(
            config.emb_size_rbf * config.emb_size_aint_in,
            config.emb_size_aint_out,
            activation=False,
        )
        self.scale_sum = ScaleFactor()
        self.down = Dense(config.emb_size_atom, config.emb_size_aint_in)
        self.up = Dense(config.emb_size_aint_out, config.emb_size_atom)

    def forward(
        self, atom: Float[Tensor, "atoms atom_dim"], shared: Shared
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return the update of the atom features."""
        x = self.down(atom)[shared.graph.atom_atom.source]
        v = shared.pair_table @ shared.pair_slots.pad(x)
        y = self.scale_sum(self.bilinear(v.flatten(1)), lambda: x)
        out: Tensor = self.up(y)
        return out


class QuadrupletInteraction(torch.nn.Module):
    """Messages along d -> b -> a that reach the edge c -> a, over the dihedral."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        edge, down, up = (
            config.emb_size_edge,
            config.emb_size_quad_in,
            config.emb_size_quad_out,
        )
        self.dense = Dense(edge, edge)
        self.radial = Dense(config.emb_size_rbf, edge, activation=False)
        self.scale_radial = ScaleFactor()
        self.circular = Dense(config.emb_size_cbf, down, activation=False)
        self.scale_circular = ScaleFactor()
        self.bilinear = Dense(config.emb_size_sbf * down, up, activation=False)
        self.scale_sum = ScaleFactor()
        self.down = Dense(edge, down)
        self.up_ca = Dense(up, edge)
        self.up_ac = Dense(up, edge)

    def forward(
        self, edge: Float[Tensor, "edges edge_dim"], shared: Shared
    ) -> Float[Tensor, "edges edge_dim"]:
        """Return the update of the edge features."""
        quads = shared.quadruplets
        layout = quads.layout
        x = _message(self, edge, shared.radial_quadruplet, shared)
        x = layout.main.pad(x)[quads.source]  # (quad_edges, width, channels)
        gathered = x
        x = self.scale_circular(
            x * self.circular(shared.circular_quadruplet),
            lambda: gathered[layout.is_incoming],
            rows=layout.is_incoming,
        )
        summed = sum_quadruplets(x, quads)
        y = self.scale_sum(
            self.bilinear((shared.factors_quadruplet @ summed).flatten(1)),
            lambda: x[layout.is_incoming],
        )
        return _symmetric(self, y, shared)


def sum_triplets(
    x: Float[Tensor, "atoms in dim"],
    weights: Float[Tensor, "atoms out_angular in"] | SharedTable,
    outgoing: Slots,
) -> Float[Tensor, "edges angular dim"]:
    """Sum over the incoming edges of each atom for every edge that ends there.

    Args:
        x: Features of the incoming edges, in slots.
        weights: Circular harmonics, per atom.
        outgoing: Layout of the edges that get the sums.
    """
    total = (weights @ x).view(x.shape[0], outgoing.width, -1, x.shape[-1])
    return outgoing.unpad(total)


def sum_quadruplets(
    x: Float[Tensor, "quad_edges width dim"], quads: QuadrupletWeights
) -> Float[Tensor, "edges harmonics_angular dim"]:
    """Sum over b and d for every c -> a, without a list of quadruplets.

    Args:
        x: Features of d -> b, for every quadruplet edge b -> a and slot d of atom b.
        quads: Angular weights, and which terms to leave out.

    Returns:
        One row per edge c -> a; columns (j, l), j the cosine index.

    Source:
        Factorised contractions (addition theorem for cosines), exact.
    """
    layout, n = quads.layout, quads.incoming_cosine.shape[-1]
    n_parts, channels = quads.incoming.shape[1] // n, x.shape[-1]
    moments = layout.to_outgoing(quads.incoming @ x, n, n_parts)
    total = quads.outgoing @ moments  # (atoms, harmonics, width * angular, dim)
    shape = (*total.shape[:2], layout.main.width, n * channels)
    total = layout.of_edges(total.view(shape))
    total = total.view(-1, n, n, channels)
    closed = layout.to_closure(x).flatten(0, 1)
    total = total + _minus_closed(quads.closure, closed, quads)
    if quads.flat_closure is not None:
        j_is_missing = 1 - right_angle_cosines(n).to(total)
        flat = _minus_closed(quads.flat_closure, closed, quads)
        total = total - j_is_missing[:, None, None] * flat
    total = total.flatten(1, 2)
    if quads.floored is not None:
        quad, slot = quads.floored.incoming
        term = quads.floored.weight[:, :, None] * x[quad, slot][:, None]
        term = term.to(total.dtype)  # under autocast the sums have 16 bits
        edge = layout.main.edge_at(quads.floored.to)
        total = total.index_add(0, edge, term)
    return total


def _minus_closed(
    table: Tensor | SharedTable,
    x: Float[Tensor, "atoms_width quad_width dim"],
    quads: QuadrupletWeights,
) -> Float[Tensor, "edges harmonics angular dim"]:
    """Minus terms with d == c of the full sum; one j where all are the same."""
    slots, n = quads.layout.main, quads.incoming_cosine.shape[-1]
    total = table @ x
    n_rows = total.shape[1] // n
    total = slots.unpad(total.view(slots.n_atoms, slots.width, *total.shape[1:]))
    return total.view(-1, n_rows, n, x.shape[-1])


class AtomUpdate(torch.nn.Module):
    """Gated sum of the incoming edges of each atom, and residual layers after it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_edge, n_atom = config.emb_size_edge, config.emb_size_atom
        self.radial = Dense(config.emb_size_rbf, n_edge, activation=False)
        self.scale_sum = ScaleFactor()
        self.dense_in = (
            torch.nn.Identity() if n_edge == n_atom else Dense(n_edge, n_atom)
        )
        self.residuals = residual_stack(config.num_atom, n_atom)

    def forward(
        self,
        edge: Float[Tensor, "edges edge_dim"],
        radial: Float[Tensor, "edges rbf"],
        shared: Shared,
        kept: float = 1.0,
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return new atom features from edge features.

        Args:
            edge: Features of the main edges.
            radial: Radial factors of these edges.
            shared: Shared quantities of this forward pass.
            kept: Part of the edges that dropout has left; the sum is divided by it.
        """
        graph = shared.graph
        gated = edge * self.radial(radial)
        total = sum_by_target(gated, graph.main.target, graph.n_atoms)
        if kept != 1:
            total = total / kept
        out: Tensor = self.residuals(self.dense_in(self.scale_sum(total, lambda: edge)))
        return out


class InteractionBlock(torch.nn.Module):
    """One round of message passing over atoms and edges."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_edge, n_atom = config.emb_size_edge, config.emb_size_atom
        self.dense_ca = Dense(n_edge, n_edge)
        self.triplet = TripletInteraction(config, n_edge)
        self.quadruplet = QuadrupletInteraction(config)
        self.atom_to_edge = TripletInteraction(config, n_atom)
        self.edge_to_atom = EdgeToAtomInteraction(config)
        self.atom_to_atom = AtomToAtomInteraction(config)
        self.before_skip = residual_stack(config.num_before_skip, n_edge)
        self.after_skip = residual_stack(config.num_after_skip, n_edge)
        self.atom_residuals = residual_stack(config.num_atom_emb_layers, n_atom)
        self.atom_update = AtomUpdate(config)
        self.concat = EdgeEmbedding(n_atom, n_edge, n_edge)
        self.concat_residuals = residual_stack(config.num_concat, n_edge)

    def forward(
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        edge: Float[Tensor, "edges edge_dim"],
        shared: Shared,
    ) -> tuple[Float[Tensor, "atoms atom_dim"], Float[Tensor, "edges edge_dim"]]:
        """Return the new atom and edge features; all interactions read the old ones."""
        main = shared.graph.main
        x = self.dense_ca(edge)
        x = x + self._edge_to_edge(edge, shared)
        x = x + self.quadruplet(edge, shared)
        x = (x + self._atom_to_edge(atom, shared)) * 0.5
        atom = (
            atom + self.edge_to_atom(edge, shared) + self.atom_to_atom(atom, shared)
        ) * _INV_SQRT_3
        edge = (edge + self.before_skip(x)) * INV_SQRT_2
        edge = self.after_skip(edge)
        atom = self.atom_residuals(atom)
        update = self.atom_update(edge, shared.radial_atom_update, shared)
        atom = (atom + update) * INV_SQRT_2
        new = self.concat_residuals(self.concat(atom, edge, main.source, main.target))
        return atom, (edge + new) * INV_SQRT_2

    def _edge_to_edge(self, edge: Tensor, shared: Shared) -> Tensor:
        layer, triplets = self.triplet, shared.triplets
        out: Tensor = layer(
            _message(layer, edge, shared.radial_triplet, shared),
            (triplets.main, triplets.main),
            triplets.edge_to_edge,
            shared.factors_triplet,
            shared,
        )
        return out

    def _atom_to_edge(self, atom: Tensor, shared: Shared) -> Tensor:
        layer, triplets = self.atom_to_edge, shared.triplets
        source = shared.graph.atom_edge.source
        out: Tensor = layer(
            _message(layer, atom, shared.radial_atom_to_edge, shared, source),
            (triplets.atom_edge, triplets.main),
            triplets.atom_to_edge,
            shared.factors_atom_to_edge,
            shared,
        )
        return out


def _symmetric(
    layer: TripletInteraction | QuadrupletInteraction, y: Tensor, shared: Shared
) -> Tensor:
    """Project up, and join the messages of both directions of an edge."""
    back = layer.up_ac(y).index_select(0, shared.graph.swap)
    out: Tensor = (layer.up_ca(y) + back) * INV_SQRT_2
    return out


def _light(shared: Shared, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply what is quickly computed again where training on forces needs it twice."""
    if shared.edge_unit.requires_grad and is_lean(*inputs):
        return recomputed(function, *inputs)
    return function(*inputs)


def _message(
    layer: TripletInteraction | QuadrupletInteraction | EdgeToAtomInteraction,
    x: Tensor,
    radial: Tensor,
    shared: Shared,
    source: Tensor | None = None,
) -> Tensor:
    """Gate the features of edges by their length, and project them down.

    Args:
        layer: Has the weights.
        x: Features of edges, or of atoms.
        radial: Radial factors of the edges.
        shared: Shared quantities of this forward pass.
        source: The atom of each edge, for features of atoms.
    """

    def gate(hidden: Tensor, radial: Tensor, by_radial: Tensor, down: Tensor) -> Tensor:
        y = scaled_silu(hidden)
        if source is not None:
            y = y[source]
        y = layer.scale_radial(y * linear(radial, by_radial), lambda: y)
        return scaled_silu(linear(y, down))

    hidden = linear(x, layer.dense.weight)
    weights = layer.radial.weight, layer.down.weight
    return _light(shared, gate, hidden, radial, *weights)


def _triplet_inputs(x: Tensor, weights: Tensor | SharedTable, out_width: int) -> Tensor:
    """Rows that enter a triplet sum, one per triplet (for fitting scale factors)."""
    assert isinstance(weights, Tensor)  # nothing is fitted at inference
    # The l = 0 harmonic is a non-zero constant for real pairs, zero for all others.
    n_angular = weights.shape[1] // out_width
    is_pair = weights[:, ::n_angular] != 0
    return x[:, None].expand(-1, is_pair.shape[1], -1, -1)[is_pair]
