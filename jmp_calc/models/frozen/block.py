"""An interaction block with frozen weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.errors import ArgumentError
from jmp_calc.models.activation import SILU_GAIN
from jmp_calc.models.embedding import Shared
from jmp_calc.models.frozen.functions import (
    AtomMessages,
    Concatenated,
    Joined,
    Messages,
    Residuals,
    Summed,
    Updated,
    residual_weights,
)
from jmp_calc.models.interaction import (
    AtomUpdate,
    InteractionBlock,
    sum_quadruplets,
    sum_triplets,
)
from jmp_calc.models.layers import INV_SQRT_2, Dense, ScaleFactor


def factor_of(layer: ScaleFactor) -> float:
    """Return what a scale factor multiplies with."""
    return float(layer.factor) or 1.0


def transposed(layer: Dense, scale: float = 1.0) -> Tensor:
    """Return the weight of a layer, input axis first, times a constant."""
    return (layer.weight.detach().t() * scale).contiguous()


def _gate(layer: Any) -> Tensor:
    """Return the radial filter of activated features, constants included."""
    return transposed(layer.radial, SILU_GAIN * factor_of(layer.scale_radial))


class Weights(torch.nn.Module):
    """Named tensors and lists of tensors that move with the module and are frozen."""

    def keep(self, name: str, value: Tensor) -> None:
        """Keep a tensor under a name."""
        self.register_buffer(name, value, persistent=False)

    def keep_all(self, name: str, values: Sequence[Tensor]) -> None:
        """Keep a list of tensors, to be read with :meth:`all`."""
        for k, value in enumerate(values):
            self.keep(f"{name}_{k}", value)

    def all(self, name: str) -> list[Tensor]:
        """Return a list of tensors."""
        found: list[Tensor] = []
        while (value := self._buffers.get(f"{name}_{len(found)}")) is not None:
            found.append(value)
        return found

    def _save_to_state_dict(self, *_: Any) -> None:
        # a file of what is left could not be loaded
        raise ArgumentError(
            "this network is in its form for inference, which a calculator makes of "
            "its own copy, and cannot be saved or trained; use the model that the "
            "calculator was given, or load_model"
        )


class FrozenResiduals(Weights):
    """Residual layers."""

    def __init__(self, stack: Any) -> None:
        super().__init__()
        self.keep_all("weight", residual_weights(stack))

    def forward(
        self, x: Float[Tensor, "rows dim"], scale: float = 1.0
    ) -> Float[Tensor, "rows dim"]:
        """Apply the layers, and multiply the result."""
        weights = self.all("weight")
        if not weights:
            return x if scale == 1.0 else x * scale
        y: Tensor = Residuals.apply(x, weights, scale)  # type: ignore[no-untyped-call]
        return y


class FrozenAtomUpdate(Weights):
    """Gated sum of the incoming edges of each atom, and residual layers after it."""

    gate: Tensor

    def __init__(self, layer: AtomUpdate) -> None:
        super().__init__()
        then = layer.dense_in
        self.keep("gate", transposed(layer.radial, factor_of(layer.scale_sum)))
        self.keep_all("dense", [transposed(then)] if isinstance(then, Dense) else [])
        self.keep_all("residual", residual_weights(layer.residuals))

    def forward(
        self,
        edge: Float[Tensor, "edges edge_dim"],
        radial: Float[Tensor, "edges rbf"],
        shared: Shared,
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return new atom features from edge features."""
        x: Tensor = Summed.apply(  # type: ignore[no-untyped-call]  # torch
            edge,
            radial,
            shared.graph.main.target,
            shared.graph.n_atoms,
            self.gate,
            next(iter(self.all("dense")), None),
            self.all("residual"),
        )
        return x


class FrozenBlock(Weights):
    """One round of message passing over atoms and edges; see ``InteractionBlock``."""

    dense: Tensor
    atom_dense: Tensor
    a2e_gate: Tensor
    a2e_down: Tensor
    a2e_bilinear: Tensor
    trip_bilinear: Tensor
    quad_circular: Tensor
    quad_bilinear: Tensor
    e2a_bilinear: Tensor
    e2a_up: Tensor
    pair_bilinear: Tensor
    pair_up: Tensor
    concat_atoms: Tensor
    concat_edge: Tensor

    def __init__(self, block: InteractionBlock) -> None:
        super().__init__()
        self._keep_messages(block)
        self._keep_sums(block)
        self.keep_all("before", residual_weights(block.before_skip))
        self.keep_all("after", residual_weights(block.after_skip))
        self.atom_residuals = FrozenResiduals(block.atom_residuals)
        self.atom_update = FrozenAtomUpdate(block.atom_update)
        weight = transposed(block.concat)  # rows: source, target, edge
        n_atom = (weight.shape[0] - weight.shape[1]) // 2
        ends = torch.cat([weight[:n_atom], weight[n_atom : 2 * n_atom]], dim=1)
        self.keep("concat_atoms", ends)
        self.keep("concat_edge", weight[2 * n_atom :].contiguous())
        self.keep_all("concat", residual_weights(block.concat_residuals))

    def _keep_messages(self, block: InteractionBlock) -> None:
        trip, quad = block.triplet, block.quadruplet
        a2e, e2a, pair = block.atom_to_edge, block.edge_to_atom, block.atom_to_atom
        dense = (block.dense_ca, trip.dense, quad.dense, e2a.dense)
        self.keep("dense", torch.cat([transposed(x) for x in dense], dim=1))
        parts = (trip, quad, e2a)
        self.keep_all("gate", [_gate(part) for part in parts])
        self.keep_all("down", [transposed(part.down) for part in parts])
        both = transposed(a2e.dense), transposed(pair.down)
        self.keep("atom_dense", torch.cat(both, dim=1))
        self.keep("a2e_gate", _gate(a2e))
        self.keep("a2e_down", transposed(a2e.down))

    def _keep_sums(self, block: InteractionBlock) -> None:
        trip, quad = block.triplet, block.quadruplet
        a2e, e2a, pair = block.atom_to_edge, block.edge_to_atom, block.atom_to_atom
        for name, layer in (("trip", trip), ("a2e", a2e), ("e2a", e2a), ("pair", pair)):
            scale = SILU_GAIN * factor_of(layer.scale_sum)
            self.keep(f"{name}_bilinear", transposed(layer.bilinear, scale))
        scale = SILU_GAIN * factor_of(quad.scale_circular)
        self.keep("quad_circular", transposed(quad.circular, scale))
        scale = factor_of(quad.scale_sum)
        self.keep("quad_bilinear", transposed(quad.bilinear, scale))
        both = (
            torch.cat([transposed(x.up_ca), transposed(x.up_ac)], dim=1)
            for x in (trip, quad, a2e)
        )
        self.keep_all("up", list(both))
        self.keep("e2a_up", transposed(e2a.up_ca))
        self.keep("pair_up", transposed(pair.up))

    def forward(
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        edge: Float[Tensor, "edges edge_dim"],
        shared: Shared,
    ) -> tuple[Float[Tensor, "atoms atom_dim"], Float[Tensor, "edges edge_dim"]]:
        """Return the new atom and edge features; all interactions read the old ones."""
        graph, silu = shared.graph, torch.nn.functional.silu
        own, m_trip, m_quad, m_e2a = Messages.apply(  # type: ignore[no-untyped-call]  # torch
            edge,
            shared.radial_triplet,
            shared.radial_quadruplet,
            shared.radial_edge_to_atom,
            self.dense,
            self.all("gate"),
            self.all("down"),
        )
        m_a2e, pairs = AtomMessages.apply(  # type: ignore[no-untyped-call]  # torch
            atom,
            shared.radial_atom_to_edge,
            graph.atom_edge.source,
            graph.atom_atom.source,
            self.atom_dense,
            self.a2e_gate,
            self.a2e_down,
        )
        sums = (
            self._triplets(m_trip, shared),
            self._quadruplets(m_quad, shared),
            self._atom_to_edge(m_a2e, shared),
        )
        x = Joined.apply(  # type: ignore[no-untyped-call]  # torch
            own,
            graph.swap,
            self.all("up"),
            0.5 * SILU_GAIN,
            0.5 * SILU_GAIN * INV_SQRT_2,
            *sums,
        )
        updates = silu(torch.mm(self._edge_to_atom(m_e2a, shared), self.e2a_up))
        updates = updates + silu(torch.mm(self._pairs(pairs, shared), self.pair_up))
        atom = torch.add(atom, updates, alpha=SILU_GAIN) * (1 / math.sqrt(3))
        edge = Updated.apply(edge, x, self.all("before"), self.all("after"))  # type: ignore[no-untyped-call]
        atom = self.atom_residuals(atom, INV_SQRT_2)
        update = self.atom_update(edge, shared.radial_atom_update, shared)
        atom = torch.add(atom, update, alpha=INV_SQRT_2)
        ends = torch.mm(atom, self.concat_atoms)
        width = edge.shape[1]
        edge = Concatenated.apply(  # type: ignore[no-untyped-call]  # torch
            edge,
            ends[:, :width],
            ends[:, width:],
            graph.main.source,
            graph.main.target,
            self.concat_edge,
            self.all("concat"),
        )
        return atom, edge

    def _triplets(self, message: Tensor, shared: Shared) -> Tensor:
        slots = shared.triplets.main
        z = sum_triplets(slots.pad(message), shared.triplets.edge_to_edge, slots)
        return torch.mm((shared.factors_triplet @ z).flatten(1), self.trip_bilinear)

    def _atom_to_edge(self, message: Tensor, shared: Shared) -> Tensor:
        triplets = shared.triplets
        x = triplets.atom_edge.pad(message)
        z = sum_triplets(x, triplets.atom_to_edge, triplets.main)
        return torch.mm((shared.factors_atom_to_edge @ z).flatten(1), self.a2e_bilinear)

    def _edge_to_atom(self, message: Tensor, shared: Shared) -> Tensor:
        z = shared.triplets.edge_to_atom @ shared.triplets.main.pad(message)
        return torch.mm((shared.factors_edge_to_atom @ z).flatten(1), self.e2a_bilinear)

    def _quadruplets(self, message: Tensor, shared: Shared) -> Tensor:
        quads = shared.quadruplets
        x = quads.layout.main.pad(message).index_select(0, quads.source)
        x = x * torch.matmul(shared.circular_quadruplet, self.quad_circular)
        summed = sum_quadruplets(x, quads)
        return torch.mm(
            (shared.factors_quadruplet @ summed).flatten(1), self.quad_bilinear
        )

    def _pairs(self, x: Tensor, shared: Shared) -> Tensor:
        v = shared.pair_table @ shared.pair_slots.pad(x)
        return torch.mm(v.flatten(1), self.pair_bilinear)
