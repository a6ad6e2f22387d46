"""An interaction block with frozen weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
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
from jmp_calc.models.frozen.products import Packed, Weight, linear, packed
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

    _of_products: tuple[str, ...] = ()
    """Names of the weights that may be packed."""

    @cached_property
    def _found(self) -> dict[str, list[Weight]]:
        """Lists that were asked for, as long as the weights stay what they are."""
        return {}

    def keep(self, name: str, value: Tensor) -> None:
        """Keep a tensor under a name."""
        self.register_buffer(name, value, persistent=False)

    def keep_factor(self, name: str, value: Tensor) -> None:
        """Keep a weight that only the products of ``products`` are made with."""
        self.keep(name, value)
        self._of_products += (name,)

    def keep_factors(self, name: str, values: Sequence[Tensor]) -> None:
        """Keep a list of such weights, to be read with :meth:`factors`."""
        for k, value in enumerate(values):
            self.keep_factor(f"{name}_{k}", value)

    def factors(self, name: str) -> list[Weight]:
        """Return a list of weights of products."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = []
            while f"{name}_{len(found)}" in self._of_products:
                found.append(getattr(self, f"{name}_{len(found)}"))
        return found

    def pack(self, *, transposed: bool) -> None:
        """Bring weights of products into the layout that the processor reads.

        Args:
            transposed: Whether derivatives are expected, too.
        """
        self._found.clear()
        for name in self._of_products:
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                continue
            found = packed(value, transposed=transposed)
            if isinstance(found, Packed):
                delattr(self, name)
                setattr(self, name, found)

    def nbytes(self) -> int:
        """Return the bytes of the packed weights of this module alone."""
        found = (getattr(self, name) for name in self._of_products)
        return sum(value.nbytes for value in found if isinstance(value, Packed))

    def _apply(self, fn: Any, recurse: bool = True) -> Weights:
        # what moves, or changes its precision, is the plain weight
        for name in self._of_products:
            value = getattr(self, name)
            if isinstance(value, Packed):
                delattr(self, name)
                self.keep(name, value.dense())
        self._found.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch
        return self

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
        self.keep_factors("weight", residual_weights(stack))

    def forward(
        self, x: Float[Tensor, "rows dim"], scale: float = 1.0
    ) -> Float[Tensor, "rows dim"]:
        """Apply the layers, and multiply the result."""
        weights = self.factors("weight")
        if not weights:
            return x if scale == 1.0 else x * scale
        y: Tensor = Residuals.apply(x, weights, scale)  # type: ignore[no-untyped-call]
        return y


class FrozenAtomUpdate(Weights):
    """Gated sum of the incoming edges of each atom, and residual layers after it."""

    gate: Weight

    def __init__(self, layer: AtomUpdate) -> None:
        super().__init__()
        then = layer.dense_in
        self.keep_factor("gate", transposed(layer.radial, factor_of(layer.scale_sum)))
        dense = [transposed(then)] if isinstance(then, Dense) else []
        self.keep_factors("dense", dense)
        self.keep_factors("residual", residual_weights(layer.residuals))

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
            next(iter(self.factors("dense")), None),
            self.factors("residual"),
        )
        return x


class FrozenBlock(Weights):
    """One round of message passing over atoms and edges; see ``InteractionBlock``."""

    dense: Weight
    atom_dense: Weight
    a2e_gate: Weight
    a2e_down: Weight
    a2e_bilinear: Weight
    trip_bilinear: Weight
    quad_circular: Tensor
    quad_bilinear: Weight
    e2a_bilinear: Weight
    e2a_up: Weight
    pair_bilinear: Weight
    pair_up: Weight
    concat_atoms: Weight
    concat_edge: Weight

    def __init__(self, block: InteractionBlock) -> None:
        super().__init__()
        self._keep_messages(block)
        self._keep_sums(block)
        self.keep_factors("before", residual_weights(block.before_skip))
        self.keep_factors("after", residual_weights(block.after_skip))
        self.atom_residuals = FrozenResiduals(block.atom_residuals)
        self.atom_update = FrozenAtomUpdate(block.atom_update)
        weight = transposed(block.concat)  # rows: source, target, edge
        n_atom = (weight.shape[0] - weight.shape[1]) // 2
        ends = torch.cat([weight[:n_atom], weight[n_atom : 2 * n_atom]], dim=1)
        self.keep_factor("concat_atoms", ends)
        self.keep_factor("concat_edge", weight[2 * n_atom :].contiguous())
        self.keep_factors("concat", residual_weights(block.concat_residuals))

    def _keep_messages(self, block: InteractionBlock) -> None:
        trip, quad = block.triplet, block.quadruplet
        a2e, e2a, pair = block.atom_to_edge, block.edge_to_atom, block.atom_to_atom
        dense = (block.dense_ca, trip.dense, quad.dense, e2a.dense)
        self.keep_factor("dense", torch.cat([transposed(x) for x in dense], dim=1))
        parts = (trip, quad, e2a)
        self.keep_factors("gate", [_gate(part) for part in parts])
        self.keep_factors("down", [transposed(part.down) for part in parts])
        both = transposed(a2e.dense), transposed(pair.down)
        self.keep_factor("atom_dense", torch.cat(both, dim=1))
        self.keep_factor("a2e_gate", _gate(a2e))
        self.keep_factor("a2e_down", transposed(a2e.down))

    def _keep_sums(self, block: InteractionBlock) -> None:
        trip, quad = block.triplet, block.quadruplet
        a2e, e2a, pair = block.atom_to_edge, block.edge_to_atom, block.atom_to_atom
        for name, layer in (("trip", trip), ("a2e", a2e), ("e2a", e2a), ("pair", pair)):
            scale = SILU_GAIN * factor_of(layer.scale_sum)
            self.keep_factor(f"{name}_bilinear", transposed(layer.bilinear, scale))
        scale = SILU_GAIN * factor_of(quad.scale_circular)
        self.keep("quad_circular", transposed(quad.circular, scale))
        scale = factor_of(quad.scale_sum)
        self.keep_factor("quad_bilinear", transposed(quad.bilinear, scale))
        both = (
            torch.cat([transposed(x.up_ca), transposed(x.up_ac)], dim=1)
            for x in (trip, quad, a2e)
        )
        self.keep_factors("up", list(both))
        self.keep_factor("e2a_up", transposed(e2a.up_ca))
        self.keep_factor("pair_up", transposed(pair.up))

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
            self.factors("gate"),
            self.factors("down"),
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
            self.factors("up"),
            0.5 * SILU_GAIN,
            0.5 * SILU_GAIN * INV_SQRT_2,
            *sums,
        )
        updates = silu(linear(self._edge_to_atom(m_e2a, shared), self.e2a_up))
        updates = updates + silu(linear(self._pairs(pairs, shared), self.pair_up))
        atom = torch.add(atom, updates, alpha=SILU_GAIN) * (1 / math.sqrt(3))
        edge = Updated.apply(edge, x, self.factors("before"), self.factors("after"))  # type: ignore[no-untyped-call]
        atom = self.atom_residuals(atom, INV_SQRT_2)
        update = self.atom_update(edge, shared.radial_atom_update, shared)
        atom = torch.add(atom, update, alpha=INV_SQRT_2)
        ends = linear(atom, self.concat_atoms)
        width = edge.shape[1]
        edge = Concatenated.apply(  # type: ignore[no-untyped-call]  # torch
            edge,
            ends[:, :width],
            ends[:, width:],
            graph.main.source,
            graph.main.target,
            self.concat_edge,
            self.factors("concat"),
        )
        return atom, edge

    def _triplets(self, message: Tensor, shared: Shared) -> Tensor:
        slots = shared.triplets.main
        z = sum_triplets(slots.pad(message), shared.triplets.edge_to_edge, slots)
        return linear((shared.factors_triplet @ z).flatten(1), self.trip_bilinear)

    def _atom_to_edge(self, message: Tensor, shared: Shared) -> Tensor:
        triplets = shared.triplets
        x = triplets.atom_edge.pad(message)
        z = sum_triplets(x, triplets.atom_to_edge, triplets.main)
        return linear((shared.factors_atom_to_edge @ z).flatten(1), self.a2e_bilinear)

    def _edge_to_atom(self, message: Tensor, shared: Shared) -> Tensor:
        z = shared.triplets.edge_to_atom @ shared.triplets.main.pad(message)
        return linear((shared.factors_edge_to_atom @ z).flatten(1), self.e2a_bilinear)

    def _quadruplets(self, message: Tensor, shared: Shared) -> Tensor:
        quads = shared.quadruplets
        x = quads.layout.main.pad(message).index_select(0, quads.source)
        x = x * torch.matmul(shared.circular_quadruplet, self.quad_circular)
        summed = sum_quadruplets(x, quads)
        return linear(
            (shared.factors_quadruplet @ summed).flatten(1), self.quad_bilinear
        )

    def _pairs(self, x: Tensor, shared: Shared) -> Tensor:
        v = shared.pair_table @ shared.pair_slots.pad(x)
        return linear(v.flatten(1), self.pair_bilinear)
