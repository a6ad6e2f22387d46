"""Bases and angles with frozen weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.basis import FactorisedProjection
from jmp_calc.models.embedding import Bases, Shared
from jmp_calc.models.frozen.block import Weights, transposed
from jmp_calc.models.layers import in_full_precision
from jmp_calc.models.tables import SharedOuterTable, SharedTable


class FrozenBases(Weights, Bases):
    """Radial basis and its projections; see ``Bases``.

    All projections of the same edges are one matrix product, and the tables that blocks
    multiply with are shared in their derivatives, too.
    """

    of_both: Tensor

    def __init__(self, bases: Bases) -> None:
        torch.nn.Module.__init__(self)
        self.config, self.radial = bases.config, bases.radial
        self.mlp_rbf_aint, self.mlp_cbf_qint = bases.mlp_rbf_aint, bases.mlp_cbf_qint
        rbf = ("qint", "tint", "eaint", "h", "out")
        weights = [transposed(getattr(bases, f"mlp_rbf_{name}")) for name in rbf]
        for name in ("tint", "aeint"):
            weights.append(_matrix(getattr(bases, f"mlp_cbf_{name}")))
        n_radial = bases.mlp_sbf_qint.weight.shape[0]
        # the map after it is linear: what it makes of each radial function alone
        one = torch.eye(n_radial, dtype=weights[0].dtype, device=weights[0].device)
        with in_full_precision(one):  # autocast of the caller
            weights.append(bases.to_cosines(bases.mlp_sbf_qint(one)).flatten(1))
        of_atom_edge = [transposed(bases.mlp_rbf_aeint), _matrix(bases.mlp_cbf_eaint)]
        self._widths = [weight.shape[1] for weight in (*weights, *of_atom_edge)]
        self._main_width = sum(weight.shape[1] for weight in weights)
        self.keep("of_both", torch.cat([*weights, *of_atom_edge], dim=1))

    def _evaluate(self, graph: AtomGraph) -> Shared:
        shared = super()._evaluate(graph)
        triplets, quads = shared.triplets, shared.quadruplets
        to_edge = to_atom = from_atom = _shared(triplets.edge_to_edge)
        if triplets.atom_edge is not triplets.main:
            from_atom = _shared(triplets.atom_to_edge)
            to_atom = _shared(triplets.edge_to_atom)
        return replace(
            shared,
            triplets=replace(
                triplets,
                edge_to_edge=to_edge,
                atom_to_edge=from_atom,
                edge_to_atom=to_atom,
            ),
            quadruplets=replace(
                quads,
                incoming=_shared(quads.incoming),
                closure=_shared(quads.closure),
            ),
            pair_table=_shared(shared.pair_table),
            factors_triplet=_shared(shared.factors_triplet),
            factors_atom_to_edge=_shared(shared.factors_atom_to_edge),
            factors_edge_to_atom=_shared(shared.factors_edge_to_atom),
            factors_quadruplet=_shared(shared.factors_quadruplet),
        )

    def outer(self, y: Tensor, f: Tensor) -> SharedOuterTable:
        """Make the table of outgoing angles; see ``outer_table``."""
        return SharedOuterTable(y, f)

    def project(
        self,
        main: Float[Tensor, "edges radial"],
        atom_edge: Float[Tensor, "ae_edges radial"],
    ) -> tuple[dict[str, Tensor], Float[Tensor, "ae_edges cbf angular"]]:
        """Project the radial basis of edges for each interaction; see ``Bases``."""
        n, widths = self._main_width, self._widths
        if atom_edge is main:
            parts = torch.split(torch.mm(main, self.of_both), widths, dim=1)
        else:
            of_main = torch.mm(main, self.of_both[:, :n])
            of_atom_edge = torch.mm(atom_edge, self.of_both[:, n:])
            parts = (
                *torch.split(of_main, widths[:-2], dim=1),
                *torch.split(of_atom_edge, widths[-2:], dim=1),
            )
        n_angular, n_cbf = self.config.num_spherical, self.config.emb_size_cbf
        names = (
            "radial_quadruplet",
            "radial_triplet",
            "radial_edge_to_atom",
            "radial_atom_update",
            "radial_output",
            "factors_triplet",
            "factors_atom_to_edge",
            "factors_quadruplet",
            "radial_atom_to_edge",
        )
        found = dict(zip(names, parts, strict=False))
        for name in ("factors_triplet", "factors_atom_to_edge"):
            found[name] = found[name].view(-1, n_cbf, n_angular)
        of_quads = found["factors_quadruplet"]
        n_sbf = self.config.emb_size_sbf
        found["factors_quadruplet"] = of_quads.view(-1, n_sbf, n_angular**2)
        return found, parts[-1].view(-1, n_cbf, n_angular)


def _shared(table: Tensor | SharedTable) -> SharedTable:
    assert isinstance(table, Tensor)
    return SharedTable(table)


def _matrix(layer: FactorisedProjection) -> Float[Tensor, "radial embedding_angular"]:
    """Return the weight in the order of its result."""
    return layer.weight.detach().reshape(layer.weight.shape[0], -1)
