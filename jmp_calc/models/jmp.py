"""JMPModel: embedding, backbone and one head per task; forces by autograd or direct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.backbone import GemNetOC
from jmp_calc.models.config import ForceKind, HeadSpec, ModelConfig
from jmp_calc.models.embedding import Shared
from jmp_calc.models.heads import HEADS, EnergyForceHead


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model says about a batch; in network units unless made physical.

    Physical units are eV, eV/angstrom and, for the virial, eV.
    """

    energy: Float[Tensor, " systems"]
    """Energy of each system, float64."""
    atom_energy: Float[Tensor, " atoms"]
    """Contribution of each atom, float64; sums to ``energy``."""
    forces: Float[Tensor, "atoms 3"] | None = None
    """Forces, or None if not asked for."""
    virial: Float[Tensor, "systems 3 3"] | None = None
    """Derivative of the energy with respect to symmetric strain, or None."""


class JMPModel(torch.nn.Module):
    """GemNet-OC with named task heads.

    Args:
        config: Shape of the network.
        heads: One specification per task, with distinct names.

    Raises:
        ArgumentError: If two heads share a name or a head needs a force branch that
            the backbone lacks.
    """

    def __init__(self, config: ModelConfig, heads: Sequence[HeadSpec]) -> None:
        super().__init__()
        self.config = config
        self.heads = {spec.name: spec for spec in heads}
        self.info: dict[str, Any] = {}
        if len(self.heads) != len(heads):
            names = [spec.name for spec in heads]
            raise ArgumentError(f"head names must be distinct, got {names}")
        for spec in heads:
            if spec.has_direct_forces and not config.has_direct_forces:
                raise ArgumentError(
                    f"head {spec.name!r} has direct forces, but the backbone was "
                    "configured without them; set has_direct_forces=True"
                )
        self.embedding = torch.nn.Embedding(config.num_elements, config.emb_size_atom)
        self.backbone = GemNetOC(config)
        self.head_layers = torch.nn.ModuleDict(
            {spec.name: HEADS[spec.kind](config, spec) for spec in heads}
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; coordinates and sums are always float64."""
        return self.embedding.weight.dtype

    def forward(
        self,
        graph: AtomGraph,
        head: str | Sequence[str],
        *,
        forces: ForceKind | None = None,
        stress: bool = False,
        create_graph: bool = False,
    ) -> Prediction:
        """Predict energies and, on request, forces and virial, in network units.

        Args:
            graph: One system or a collated batch.
            head: Name of the task, or one name per system.
            forces: "gradient" (minus the derivative of the energy), "direct", or None.
            stress: Whether to differentiate with respect to strain.
            create_graph: Whether forces can be differentiated again (training).

        Raises:
            ArgumentError: If a head is unknown or has no direct forces.
        """
        names = [head] * graph.n_systems if isinstance(head, str) else list(head)
        self._check_heads(names, graph.n_systems, forces)
        needs_gradient = forces == "gradient" or stress
        with torch.set_grad_enabled(torch.is_grad_enabled() or needs_gradient):
            graph, leaf, strain = _differentiable(
                graph, needs_positions=forces == "gradient", needs_strain=stress
            )
            atom, edge, shared = self.backbone(
                self.embedding(graph.numbers - 1), graph, forces == "direct"
            )
            atom_energy, direct = self._apply_heads(
                atom, edge, shared, names=names, with_forces=forces == "direct"
            )
            atom_energy = atom_energy.double() / _divisor(self.heads, names, graph)
            energy = atom_energy.new_zeros(graph.n_systems).index_add(
                0, graph.system_index, atom_energy
            )
            gradient, virial = _derivatives(
                energy, leaf, strain, create_graph=create_graph
            )
        if needs_gradient and not create_graph:
            energy, atom_energy = energy.detach(), atom_energy.detach()
        return Prediction(
            energy=energy,
            atom_energy=atom_energy,
            forces=gradient if forces == "gradient" else direct,
            virial=virial,
        )

    def descriptors(self, graph: AtomGraph) -> Float[Tensor, "atoms dim"]:
        """Return the per-atom features that every energy head reads."""
        out: Tensor = self.backbone(self.embedding(graph.numbers - 1), graph)[0]
        return out

    def _check_heads(
        self, names: Sequence[str], n_systems: int, forces: ForceKind | None
    ) -> None:
        if len(names) != n_systems:
            raise ArgumentError(
                f"{len(names)} head names for {n_systems} systems; give one name, or "
                "one per system"
            )
        for name in set(names):
            if name not in self.heads:
                raise ArgumentError(
                    f"unknown head {name!r}; this model has {', '.join(self.heads)}"
                    + did_you_mean(name, self.heads)
                )
            if forces == "direct" and not self.heads[name].has_direct_forces:
                raise ArgumentError(
                    f"head {name!r} has no direct force head; use forces='gradient'"
                )

    def _apply_heads(
        self,
        atom: Tensor,
        edge: Tensor,
        shared: Shared,
        *,
        names: Sequence[str],
        with_forces: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Evaluate each needed head once, on the atoms of its own systems."""
        used = sorted(set(names))
        if len(used) == 1:
            layer = self._head(used[0])
            forces = layer.direct_forces(edge, shared) if with_forces else None
            return layer.atom_energies(atom), forces
        index = torch.tensor([used.index(n) for n in names], device=atom.device)
        of_atom = index[shared.graph.system_index]
        energy = atom.new_zeros(atom.shape[0])
        total = atom.new_zeros((atom.shape[0], 3)) if with_forces else None
        for k, name in enumerate(used):
            layer = self._head(name)
            mine = (of_atom == k).nonzero()[:, 0]
            energy = energy.index_copy(0, mine, layer.atom_energies(atom[mine]))
            if total is not None:
                is_mine = (of_atom == k)[:, None]
                total = total + layer.direct_forces(edge, shared) * is_mine
        return energy, total

    def _head(self, name: str) -> EnergyForceHead:
        layer = self.head_layers[name]
        assert isinstance(layer, EnergyForceHead)
        return layer


def _differentiable(
    graph: AtomGraph, needs_positions: bool, needs_strain: bool
) -> tuple[AtomGraph, Tensor | None, Tensor | None]:
    """Return a graph whose coordinates carry gradients, and the leaves.

    The leaves are the positions and the strain, or None where not needed.
    """
    positions = graph.positions.detach()
    if needs_positions:
        positions = positions.clone().requires_grad_()
    leaf = positions if needs_positions else None
    if not needs_strain:
        return graph.with_positions(positions, graph.cell), leaf, None
    strain = torch.zeros_like(graph.cell, requires_grad=True)
    # Only the symmetric part: a rotation does not change the energy.
    deform = (strain + strain.transpose(1, 2)) / 2
    moved = positions + (positions[:, None] @ deform[graph.system_index])[:, 0]
    return graph.with_positions(moved, graph.cell + graph.cell @ deform), leaf, strain


def _derivatives(
    energy: Tensor, leaf: Tensor | None, strain: Tensor | None, *, create_graph: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return minus the gradient (forces) and the derivative by strain (virial)."""
    leaves = [x for x in (leaf, strain) if x is not None]
    if not leaves:
        return None, None
    if energy.requires_grad:
        gradients = torch.autograd.grad(
            energy.sum(),
            leaves,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
    else:  # no edge at all: nothing depends on where the atoms are
        gradients = tuple(torch.zeros_like(x) for x in leaves)
    by_leaf = iter(gradients)
    forces = None if leaf is None else -next(by_leaf)
    return forces, None if strain is None else next(by_leaf)


def _divisor(
    heads: dict[str, HeadSpec], names: Sequence[str], graph: AtomGraph
) -> Tensor | float:
    """Number that turns the sum over atoms into the reduction of each head."""
    if all(heads[name].reduction == "sum" for name in names):
        return 1.0
    count = torch.bincount(graph.system_index, minlength=graph.n_systems)
    is_mean = torch.tensor([heads[n].reduction == "mean" for n in names])
    per_system = torch.where(is_mean.to(count.device), count, 1)
    return per_system[graph.system_index].double()
