"""Task heads: from backbone features to energies, forces, and properties of systems."""

from __future__ import annotations

import torch
from ase.data import atomic_masses
from jaxtyping import Float
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.basis import envelope
from jmp_calc.models.config import HeadKind, HeadSpec, ModelConfig, TargetSpec
from jmp_calc.models.embedding import Shared
from jmp_calc.models.layers import head_mlp, sum_by_target


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
            size = size * envelope(shared.edge_scaled)[:, None]
        graph = shared.graph
        return sum_by_target(size * shared.edge_unit, graph.main.target, graph.n_atoms)


class ScalarHead(torch.nn.Module):
    """One number of the system: sum, mean or largest of one number per atom.

    Source:
        Training specification, section 2.2; GemNet-OC specification, section 8.
    """

    def __init__(self, config: ModelConfig, spec: HeadSpec) -> None:
        super().__init__()
        self.target = _target_of(spec)
        self.mlp = head_mlp(
            config.emb_size_atom,
            spec.n_outputs,
            n_layers=config.num_head_layers,
            has_bias=True,
        )
        self.dropout = torch.nn.Dropout(self.target.dropout)

    def forward(
        self, atom: Float[Tensor, "atoms atom_dim"], graph: AtomGraph
    ) -> Float[Tensor, "systems outputs"]:
        """Return the outputs of each system, network units (logits), float64.

        Args:
            atom: Features of the atoms.
            graph: The batch; every system has an atom.
        """
        of_atom: Tensor = self.mlp(self.dropout(atom)).double()
        of = graph.system_index
        shape = (graph.n_systems, of_atom.shape[1])
        if self.target.reduction == "max":
            return of_atom.new_zeros(shape).scatter_reduce(
                0, of[:, None].expand_as(of_atom), of_atom, "amax", include_self=False
            )
        total = of_atom.new_zeros(shape).index_add(0, of, of_atom)
        if self.target.reduction == "sum":
            return total
        return total / torch.bincount(of, minlength=shape[0])[:, None]


class BinaryHead(ScalarHead):
    """The logit of the second of two classes.

    Source:
        As for :class:`ScalarHead`.
    """


class MulticlassHead(ScalarHead):
    """One logit per class; the last layer has a bias, because it is wider than one.

    Source:
        As for :class:`ScalarHead`.
    """


class SpatialExtentHead(torch.nn.Module):
    """Sum over atoms of a number times the squared distance from the centre of mass.

    Made for the electronic spatial extent of QM9. It has no biases, and one hidden
    layer more than the other heads.

    Source:
        Training specification, section 2.2.
    """

    def __init__(self, config: ModelConfig, spec: HeadSpec) -> None:
        super().__init__()
        _target_of(spec)
        self.mlp = head_mlp(
            config.emb_size_atom,
            1,
            n_layers=config.num_head_layers + 1,
            has_bias=False,
        )

    def forward(
        self, atom: Float[Tensor, "atoms atom_dim"], graph: AtomGraph
    ) -> Float[Tensor, "systems outputs"]:
        """Return the extent of each system, network units, float64.

        Args:
            atom: Features of the atoms.
            graph: The batch; molecules, whole and not repeated, positions in angstrom.
        """
        of = graph.system_index
        mass = torch.tensor(atomic_masses, device=of.device)[graph.numbers][:, None]
        moment = mass.new_zeros((graph.n_systems, 4)).index_add(
            0, of, mass * torch.nn.functional.pad(graph.positions, (0, 1), value=1.0)
        )
        centre = moment[:, :3] / moment[:, 3:]
        square = ((graph.positions - centre[of]) ** 2).sum(dim=1, keepdim=True)
        weighted = self.mlp(atom).double() * square
        return square.new_zeros((graph.n_systems, 1)).index_add(0, of, weighted)


PropertyHead = ScalarHead | SpatialExtentHead
"""Heads that predict a :class:`TargetSpec` and not energies."""

HEADS: dict[HeadKind, type[EnergyForceHead | ScalarHead | SpatialExtentHead]] = {
    "energy_forces": EnergyForceHead,
    "scalar": ScalarHead,
    "spatial_extent": SpatialExtentHead,
    "binary": BinaryHead,
    "multiclass": MulticlassHead,
}
"""Kinds of head by the name that ``HeadSpec.kind`` takes."""


def _target_of(spec: HeadSpec) -> TargetSpec:
    assert spec.target is not None  # the specification has checked it
    return spec.target
