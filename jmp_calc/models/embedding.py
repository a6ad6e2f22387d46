"""What one forward pass shares between blocks: bases, angles, edge features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.angles import (
    QuadrupletWeights,
    TripletWeights,
    quadruplet_weights,
    triplet_weights,
)
from jmp_calc.models.basis import (
    FactorisedProjection,
    RadialBasis,
    ToCosines,
)
from jmp_calc.models.config import ModelConfig
from jmp_calc.models.harmonics import outer_table
from jmp_calc.models.layers import Dense, in_full_precision, scaled_silu
from jmp_calc.models.layout import JoinedEdges, Layout, Slots
from jmp_calc.models.tables import SharedTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """Geometry and projected bases that every interaction block reads."""

    graph: AtomGraph
    edge_unit: Float[Tensor, "edges 3"]
    """Unit vectors of the main edges, source to target."""
    edge_scaled: Float[Tensor, " edges"]
    """Distances of the main edges / cutoff."""
    triplets: TripletWeights
    quadruplets: QuadrupletWeights
    radial_main: Float[Tensor, "edges radial"]
    """Radial basis of the main edges."""
    radial_quadruplet: Float[Tensor, "edges rbf"]
    radial_triplet: Float[Tensor, "edges rbf"]
    radial_atom_to_edge: Float[Tensor, "ae_edges rbf"]
    radial_edge_to_atom: Float[Tensor, "edges rbf"]
    radial_atom_update: Float[Tensor, "edges rbf"]
    radial_output: Float[Tensor, "edges rbf"]
    pair_table: Float[Tensor, "atoms rbf aa_width"] | SharedTable
    """Radial factors of the atom_atom edges, in slots."""
    pair_slots: Slots
    """Layout of the atom_atom edges."""
    factors_triplet: Float[Tensor, "edges cbf angular"] | SharedTable
    factors_atom_to_edge: Float[Tensor, "edges cbf angular"] | SharedTable
    factors_edge_to_atom: Float[Tensor, "atoms cbf ae_angular"] | SharedTable
    """Already laid out per atom: columns (atom_edge slot, l)."""
    circular_quadruplet: Float[Tensor, "quad_edges width cbf"]
    factors_quadruplet: Float[Tensor, "edges sbf harmonics_angular"] | SharedTable
    """Columns (j, l): cosine index of the dihedral, Legendre index of the angle."""


class Bases(torch.nn.Module):
    """Radial basis and its projections, shared by all blocks (section 4.5)."""

    # Set by name in a loop below; declared for the type checker.
    mlp_rbf_qint: Dense
    mlp_rbf_tint: Dense
    mlp_rbf_aeint: Dense
    mlp_rbf_eaint: Dense
    mlp_rbf_h: Dense
    mlp_rbf_out: Dense
    mlp_rbf_aint: Dense
    mlp_sbf_qint: FactorisedProjection
    mlp_cbf_qint: FactorisedProjection
    mlp_cbf_tint: FactorisedProjection
    mlp_cbf_aeint: FactorisedProjection
    mlp_cbf_eaint: FactorisedProjection

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        n_radial, n_angular = config.num_radial, config.num_spherical
        self.radial = RadialBasis(n_radial)
        for name in ("qint", "tint", "aeint", "eaint", "h", "out", "aint"):
            layer = Dense(n_radial, config.emb_size_rbf, activation=False)
            self.add_module(f"mlp_rbf_{name}", layer)
        for name in ("qint", "tint", "aeint", "eaint"):
            projection = FactorisedProjection(n_radial, n_angular, config.emb_size_cbf)
            self.add_module(f"mlp_cbf_{name}", projection)
        self.mlp_sbf_qint = FactorisedProjection(
            n_radial, n_angular**2, config.emb_size_sbf
        )
        self.to_cosines = ToCosines(n_angular)

    def forward(self, graph: AtomGraph) -> Shared:
        """Evaluate everything that depends on geometry alone, never in 16 bits.

        Source:
            GemNet-OC specification, section 16, item 8.
        """
        with in_full_precision(self.radial.offset):
            return self._evaluate(graph)

    def _evaluate(self, graph: AtomGraph) -> Shared:
        config, dtype = self.config, self.radial.offset.dtype
        n_angular = config.num_spherical
        layout, edges = Layout.of(graph, dtype), JoinedEdges.of(graph)
        units, scaled = unit_and_scaled(edges.vectors(graph), edges.cutoff, dtype)
        # the same edges with the same cutoff are there once
        unit, radial = edges.split(units), edges.split(self.radial(scaled))
        main = radial["main"]
        triplets = triplet_weights(
            layout,
            main=unit["main"],
            atom_edge=unit.get("atom_edge", unit["main"]),
            n_spherical=n_angular,
            rules=config.rules,
        )
        quads = quadruplet_weights(
            graph,
            layout,
            main=unit["main"],
            quadruplet=unit["quadruplet"],
            n_spherical=n_angular,
            rules=config.rules,
            outer=self.outer,
        )
        of_edges, edge_to_atom = self.project(main, radial.get("atom_edge", main))
        edge_to_atom = triplets.atom_edge.pad(edge_to_atom)
        return Shared(
            graph=graph,
            edge_unit=unit["main"],
            edge_scaled=scaled[: main.shape[0]],
            triplets=triplets,
            quadruplets=quads,
            radial_main=main,
            pair_table=layout.atom_atom.pad(
                self.mlp_rbf_aint(radial["atom_atom"])
            ).transpose(1, 2),
            pair_slots=layout.atom_atom,
            factors_edge_to_atom=edge_to_atom.transpose(1, 2).flatten(2),
            circular_quadruplet=quads.incoming_cosine
            @ self.mlp_cbf_qint(radial["quadruplet"]).transpose(1, 2),
            **of_edges,
        )

    def outer(self, y: Tensor, f: Tensor) -> Tensor | SharedTable:
        """Make the table of outgoing angles; see ``outer_table``."""
        return outer_table(y, f)

    def project(
        self,
        main: Float[Tensor, "edges radial"],
        atom_edge: Float[Tensor, "ae_edges radial"],
    ) -> tuple[dict[str, Tensor], Float[Tensor, "ae_edges cbf angular"]]:
        """Project the radial basis of edges for each interaction.

        Args:
            main: Radial basis of the main edges.
            atom_edge: Radial basis of the atom_edge edges.

        Returns:
            By field of :class:`Shared` what belongs to edges, and the factors of the
            edge-to-atom interaction.
        """
        return {
            "radial_quadruplet": self.mlp_rbf_qint(main),
            "radial_triplet": self.mlp_rbf_tint(main),
            "radial_edge_to_atom": self.mlp_rbf_eaint(main),
            "radial_atom_update": self.mlp_rbf_h(main),
            "radial_output": self.mlp_rbf_out(main),
            "factors_triplet": self.mlp_cbf_tint(main),
            "factors_atom_to_edge": self.mlp_cbf_aeint(main),
            "factors_quadruplet": self.to_cosines(self.mlp_sbf_qint(main)),
            "radial_atom_to_edge": self.mlp_rbf_aeint(atom_edge),
        }, self.mlp_cbf_eaint(atom_edge)


class EdgeEmbedding(Dense):
    """Edge features from both atoms and the radial basis (section 4.6)."""

    def __init__(self, n_atom: int, n_edge_in: int, n_out: int) -> None:
        super().__init__(2 * n_atom + n_edge_in, n_out)

    def forward(  # type: ignore[override]
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        edge: Float[Tensor, "edges edge_dim"],
        source: Int[Tensor, " edges"],
        target: Int[Tensor, " edges"],
    ) -> Float[Tensor, "edges out"]:
        """Return ``act(W [atom[source]; atom[target]; edge])``.

        The product is taken per atom before the gather: same numbers, less work.
        """
        n = atom.shape[1]
        weight, linear = self.weight, torch.nn.functional.linear
        y = linear(edge, weight[:, 2 * n :]) + linear(atom, weight[:, :n])[source]
        return scaled_silu(y + linear(atom, weight[:, n : 2 * n])[target])


def unit_and_scaled(
    vector: Float[Tensor, "edges 3"],
    cutoff: Float[Tensor, " edges"],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "edges 3"], Float[Tensor, " edges"]]:
    """Return unit vectors and distances / cutoff, cast only at the end.

    Args:
        vector: Of edges, angstrom, float64.
        cutoff: Of edges, angstrom.
        dtype: Of the result.
    """
    unit, scaled = _UnitAndScaled.apply(vector, cutoff, dtype)  # type: ignore[no-untyped-call]  # torch
    return unit, scaled


class _UnitAndScaled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vector: Tensor, cutoff: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(vector, cutoff)
        distance = torch.linalg.vector_norm(vector, dim=-1)
        return (vector / distance[:, None]).to(dtype), (distance / cutoff).to(dtype)

    @staticmethod
    def backward(ctx: Any, unit: Tensor, scaled: Tensor) -> tuple[Tensor, None, None]:
        vector, cutoff = ctx.saved_tensors
        distance = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        axis, unit = vector / distance, unit.to(vector.dtype)
        along = (axis * unit).sum(dim=-1, keepdim=True)
        slope = (scaled.to(vector.dtype) / cutoff)[:, None]
        return (unit - axis * along) / distance + axis * slope, None, None
