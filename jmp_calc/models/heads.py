"""Task heads: from backbone features to per-atom energies and direct forces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.models.config import HeadKind, HeadSpec, ModelConfig
from jmp_calc.models.embedding import Shared
from jmp_calc.models.layers import head_mlp


class EnergyForceHead(torch.nn.Module):
    """Energy of each atom and, if the task has it, a direct force head.

    Source:
        JMP, arXiv 2310.16802; GemNet-OC specification, section 8.
    """

    def __init__(self, config: ModelConfig, spec: HeadSpec) -> None:
        super().__init__()
        self.is_smooth = config.rules == "smooth"
        n_layers = config.num_head_layers
        self.energy = head_mlp(
            config.emb_size_atom, 1, n_layers=n_layers, has_bias=spec.has_energy_bias
        )
        if spec.has_direct_forces:
            self.forces = head_mlp(
                config.emb_size_edge, 1, n_layers=n_layers, has_bias=True
            )

    def atom_energies(
        self, atom: Float[Tensor, "atoms atom_dim"]
    ) -> Float[Tensor, " atoms"]:
        """Return the network energy of each atom."""
        out: Tensor = self.energy(atom)
        return out[:, 0]

    def direct_forces(
        self, edge: Float[Tensor, "edges edge_dim"], shared: Shared
    ) -> Float[Tensor, "atoms 3"]:
        """Return the sum over incoming edges of a number times the unit vector.

        Under the smooth rules each number fades with the envelope, because the hidden
        biases would otherwise leave a force at the cutoff.
        """
        size: Tensor = self.forces(edge)
        if self.is_smooth:
            size = size * shared.edge_envelope[:, None]
        graph = shared.graph
        return size.new_zeros((graph.n_atoms, 3)).index_add(
            0, graph.main.target, size * shared.edge_unit
        )


HEADS: dict[HeadKind, type[EnergyForceHead]] = {"energy_forces": EnergyForceHead}
"""Kinds of head by the name that ``HeadSpec.kind`` takes."""
