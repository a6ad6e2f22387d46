"""What a run minimises: the loss of a batch, and the gradients of several batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import system_references
from jmp_train.config import TrainConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.losses import LossTerms, energy_force_loss
from jmp_train.normalize import TaskStatistics


@dataclass(frozen=True, kw_only=True, slots=True)
class StepGradients:
    """The loss of the batches of a step and its derivatives."""

    terms: list[LossTerms]
    """Loss terms of each batch."""
    loss: float
    """Mean over the systems (or atoms) of all batches, network units."""
    energy_loss: float
    """Its energy term."""
    gradients: list[Tensor | None]
    """Derivative by each parameter of the network, in order; None if unused."""


class Objective:
    """The loss of a run as a function of batches."""

    def __init__(
        self,
        model: JMPModel,
        config: TrainConfig,
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        """Look at a network, on its device.

        Args:
            model: The network; its heads hold scales and references.
            config: Loss weights, reduction and kind of forces.
            statistics: Of the training part, by task.
        """
        self.model = model
        self.config = config
        self._device = next(model.parameters()).device
        self._parameters = list(model.parameters())
        self._force_weights = {
            task.name: statistics[task.name].mean_atoms
            if task.force_weight is None
            else task.force_weight
            for task in config.data.tasks
        }

    def loss(self, batch: TrainingBatch) -> LossTerms:
        """Return the loss terms of a batch under the current weights.

        Args:
            batch: Labels in eV and eV/Å, on the device of the network.
        """
        graph, of = batch.graph, batch.graph.system_index
        kind = self.config.forces
        prediction = self.model(
            graph, batch.head, forces=kind, create_graph=kind == "gradient"
        )
        assert prediction.forces is not None
        energy, forces = self._labels(batch)

        def per_system(values: Sequence[float]) -> Tensor:
            return batch.energy.new_tensor(values)

        tasks = [self.config.task(name) for name in batch.head]
        return energy_force_loss(
            (prediction.energy, energy),
            (prediction.forces.double(), forces),
            energy_weight=per_system([task.energy_weight for task in tasks]),
            force_weight=per_system([self._force_weights[n] for n in batch.head]),
            system_index=of,
            has_forces=batch.has_forces,
            reduction=self.config.reduction,
        )

    def _labels(
        self, batch: TrainingBatch
    ) -> tuple[Float[Tensor, " systems"], Float[Tensor, "atoms 3"]]:
        """Return the labels in network units."""
        graph, of = batch.graph, batch.graph.system_index
        specs = [self.model.heads[name] for name in batch.head]
        energy_scale = batch.energy.new_tensor([spec.energy_scale for spec in specs])
        force_scale = energy_scale
        if self.config.forces == "direct":
            force_scale = batch.energy.new_tensor([spec.force_scale for spec in specs])
        energy = (batch.energy - system_references(graph, specs)) / energy_scale
        return energy, batch.forces / force_scale[of][:, None]

    def step_gradients(
        self, batches: Sequence[TrainingBatch], *, threads: int = 1
    ) -> StepGradients:
        """Return the loss of several batches as if they were one, and its gradients.

        Args:
            batches: At least one, on any device.
            threads: Batches that are computed at the same time; the result does not
                depend on it.
        """
        n_systems = sum(batch.n_systems for batch in batches)
        n_atoms = sum(int(batch.n_atoms[batch.has_forces].sum()) for batch in batches)
        force_total = n_systems if self.config.reduction == "structure" else n_atoms

        def work(batch: TrainingBatch) -> tuple[LossTerms, Tensor, list[Tensor | None]]:
            terms = self.loss(batch.to(self._device))
            part = terms.energy * (terms.n_systems / n_systems) + terms.forces * (
                terms.n_force_divisor / max(force_total, 1)
            )
            found = torch.autograd.grad(part, self._parameters, allow_unused=True)
            return terms, part.detach(), list(found)

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(work, batches))
        else:
            parts = [work(batch) for batch in batches]
        return StepGradients(
            terms=[terms for terms, _, _ in parts],
            loss=float(sum(loss for _, loss, _ in parts)),
            energy_loss=sum(
                terms.n_systems / n_systems * float(terms.energy.detach())
                for terms, _, _ in parts
            ),
            gradients=[
                _sum(found) for found in zip(*(g for _, _, g in parts), strict=True)
            ],
        )


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    present = [gradient for gradient in gradients if gradient is not None]
    return torch.stack(present).sum(0) if present else None


def task_losses(
    batches: Sequence[TrainingBatch], terms: Sequence[LossTerms]
) -> dict[str, tuple[int, float, float]]:
    """Return the systems and sums of their energy and force terms, by task.

    Args:
        batches: The batches of a step.
        terms: Loss terms of each.
    """
    sums: dict[str, tuple[int, float, float]] = {}
    for batch, term in zip(batches, terms, strict=True):
        energies, forces = term.system_energy.tolist(), term.system_forces.tolist()
        for task, energy, force in zip(batch.head, energies, forces, strict=True):
            n, e, f = sums.get(task, (0, 0.0, 0.0))
            sums[task] = (n + 1, e + energy, f + force)
    return sums
