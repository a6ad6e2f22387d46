"""JMPModel: embedding, backbone and one head per task; forces by autograd or direct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.backbone import GemNetOC
from jmp_calc.models.config import ForceKind, HeadSpec, ModelConfig
from jmp_calc.models.embedding import Shared
from jmp_calc.models.heads import HEADS, EnergyForceHead
from jmp_calc.models.layers import in_full_precision


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

    Derivatives of its parts are written out for ``torch.autograd``; transforms of
    ``torch.func`` (vmap, grad, jacrev, hessian, ...) cannot follow them.

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
        energy_multiplier: float = 1.0,
        recompute: bool = False,
    ) -> Prediction:
        """Predict energies and, on request, forces and virial, in network units.

        Args:
            graph: One system or a collated batch.
            head: Name of the task, or one name per system.
            forces: "gradient" (minus the derivative of the energy), "direct", or None.
            stress: Whether to differentiate with respect to strain.
            create_graph: Whether forces can be differentiated again (training).
            energy_multiplier: Factor of the energy while it is differentiated, taken
                out of the result again. It changes nothing but what is too small for
                float16; where the result is not finite, take a smaller one.
            recompute: Whether derivatives compute each block of the network again
                rather than to keep what it made: the same numbers in more time and
                less memory, the less the more blocks there are.

        Raises:
            ArgumentError: If a head is unknown, predicts no energy, or has no direct
                forces, or this is called inside a transform of ``torch.func``.
        """
        _check_no_transform()
        names = [head] * graph.n_systems if isinstance(head, str) else list(head)
        self._check_heads(names, graph.n_systems, predicts="energy")
        self._check_forces(names, forces)
        needs_gradient = forces == "gradient" or stress
        with torch.set_grad_enabled(torch.is_grad_enabled() or needs_gradient):
            graph, leaf, strain = _differentiable(
                graph, needs_positions=forces == "gradient", needs_strain=stress
            )
            atom, edge, shared = self.backbone(
                self.embedding(graph.numbers - 1),
                graph,
                with_forces=forces == "direct",
                recompute=recompute,
            )
            atom_energy, direct = self._apply_heads(
                atom, edge, shared, names=names, with_forces=forces == "direct"
            )
            atom_energy = atom_energy.double() / _divisor(self.heads, names, graph)
            energy = atom_energy.new_zeros(graph.n_systems).index_add(
                0, graph.system_index, atom_energy
            )
            gradient, virial = _derivatives(
                energy,
                leaf,
                strain,
                create_graph=create_graph,
                multiplier=energy_multiplier,
            )
        if needs_gradient and not create_graph:
            energy, atom_energy = energy.detach(), atom_energy.detach()
        return Prediction(
            energy=energy,
            atom_energy=atom_energy,
            forces=gradient if forces == "gradient" else direct,
            virial=virial,
        )

    def predict_targets(
        self, graph: AtomGraph, head: str | Sequence[str]
    ) -> Float[Tensor, "systems outputs"]:
        """Predict what heads of other kinds than energy and forces are for.

        Args:
            graph: One system or a collated batch.
            head: Name of the task, or one name per system.

        Returns:
            Network units, of class heads logits, float64. Heads with fewer outputs than
            others of the batch leave NaN in the last columns.

        Raises:
            ArgumentError: If a head is unknown, or predicts energies.
        """
        names = [head] * graph.n_systems if isinstance(head, str) else list(head)
        self._check_heads(names, graph.n_systems, predicts="property")
        found = self.predict_all_targets(graph, sorted(set(names)))
        width = max(value.shape[1] for value in found.values())
        result = graph.positions.new_full((graph.n_systems, width), torch.nan)
        for name, value in found.items():
            mine = torch.tensor([n == name for n in names], device=value.device)
            padding = (0, width - value.shape[1])
            padded = torch.nn.functional.pad(value, padding, value=torch.nan)
            result = torch.where(mine[:, None], padded, result)
        return result

    def predict_all_targets(
        self, graph: AtomGraph, heads: Sequence[str]
    ) -> dict[str, Tensor]:
        """Predict several targets of every system from one pass of the backbone.

        Args:
            graph: One system or a collated batch; the graph rules of all these heads
                must be those that it was built by.
            heads: Names of the heads.

        Returns:
            By head, what :meth:`predict_targets` returns.

        Raises:
            ArgumentError: If a head is unknown, or predicts energies.
        """
        self._check_heads(heads, len(heads), predicts="property")
        atom = self.descriptors(graph)
        return {name: self.head_layers[name](atom, graph) for name in heads}

    def descriptors(self, graph: AtomGraph) -> Float[Tensor, "atoms dim"]:
        """Return the per-atom features that heads of energies and properties read.

        Args:
            graph: One system or a collated batch.

        Raises:
            ArgumentError: If this is called inside a transform of ``torch.func``.
        """
        _check_no_transform()
        out: Tensor = self.backbone(self.embedding(graph.numbers - 1), graph)[0]
        return out

    def _check_heads(
        self,
        names: Sequence[str],
        n_systems: int,
        *,
        predicts: Literal["energy", "property"],
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
            target = self.heads[name].target
            if predicts == "energy" and target is not None:
                raise ArgumentError(
                    f"head {name!r} predicts {target.name!r} and no energy; use "
                    "predict_targets"
                )
            if predicts == "property" and target is None:
                raise ArgumentError(
                    f"head {name!r} predicts energy and forces; call the model itself"
                )

    def _check_forces(self, names: Sequence[str], forces: ForceKind | None) -> None:
        for name in names:
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
        # under autocast features can have 16 bits, results of heads never have
        energy = shared.edge_unit.new_zeros(atom.shape[0])
        total = shared.edge_unit.new_zeros((atom.shape[0], 3)) if with_forces else None
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


def _check_no_transform() -> None:
    if torch._C._are_functorch_transforms_active():
        raise ArgumentError(
            "a network was called inside a transform of torch.func (vmap, grad, "
            "jacrev, hessian, ...), which cannot follow its derivatives: they are "
            "written out for torch.autograd; ask it for forces and stress, or use "
            "torch.autograd.grad, and put several systems into one batch with collate"
        )


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
    energy: Tensor,
    leaf: Tensor | None,
    strain: Tensor | None,
    *,
    create_graph: bool,
    multiplier: float,
) -> tuple[Tensor | None, Tensor | None]:
    """Return minus the gradient (forces) and the derivative by strain (virial)."""
    leaves = [x for x in (leaf, strain) if x is not None]
    if not leaves:
        return None, None
    if energy.requires_grad:
        total = energy.sum()
        # Without autocast every operation is differentiated in its own precision; with
        # it, the derivatives of the geometry would be rounded to 16 bits, too.
        with in_full_precision(total):
            gradients = torch.autograd.grad(
                total if multiplier == 1 else total * multiplier,
                leaves,
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
        if multiplier != 1:
            gradients = tuple(gradient / multiplier for gradient in gradients)
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
