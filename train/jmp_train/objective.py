"""What a run minimises: the loss of a batch, as a module whose gradients are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.tensor import DTensor

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel, Prediction
from jmp_calc.models.physical import system_references, target_references
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.losses import (
    REDUCTIONS,
    energy_errors,
    force_error,
    known,
    stress_errors,
    system_means,
    target_errors,
)
from jmp_train.metrics.terms import CLASS_KINDS
from jmp_train.normalize import TaskStatistics
from jmp_train.precision import ENERGY_MULTIPLIER, RETRIES, AdaptiveScale, autocast


@dataclass(frozen=True, kw_only=True, slots=True)
class Divisors:
    """What the sums over systems of a batch are divided by."""

    systems: float
    """For energies, stress, targets, and forces that are averaged in each system."""
    atoms: float
    """For forces that are averaged over atoms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """The weighted terms of each system of a batch, in network units, for the log."""

    energy: Float[Tensor, " systems"]
    """Energy term."""
    forces: Float[Tensor, " systems"]
    """Force term, a mean over the atoms of the system whatever the reduction."""
    stress: Float[Tensor, " systems"]
    """Stress term."""
    target: Float[Tensor, " systems"]
    """Term of the target of the task."""

    @property
    def total(self) -> Float[Tensor, " systems"]:
        """Sum of the terms."""
        return self.energy + self.forces + self.stress + self.target


TERMS = ("energy", "forces", "stress", "target")
"""Names of the terms."""


class Objective(torch.nn.Module):
    """The loss of a batch under the current weights.

    Every parameter that learns takes part in every loss, if only with a factor of
    zero: tasks that a batch lacks then have zero gradients and not none, in all
    processes, whatever each of them holds.

    Source:
        Training specification, sections 1.4, 1.8 and 2.3.
    """

    def __init__(
        self,
        model: JMPModel,
        config: TrainConfig,
        statistics: Mapping[str, TaskStatistics],
    ) -> None:
        """Look at a network, on its device.

        Args:
            model: The network; its heads hold scales and references.
            config: Loss weights, reduction, kind of forces and precision.
            statistics: Of the training part, by task.
        """
        super().__init__()
        self.model = model
        self.config = config
        self.multiplier = AdaptiveScale(ENERGY_MULTIPLIER)
        self._force_weights = {
            task.name: statistics[task.name].mean_atoms
            if task.force_weight is None
            else task.force_weight
            for task in config.data.tasks
        }
        self._stress_scales = {
            task: found.stress_rms or 1.0 for task, found in statistics.items()
        }

    def counts(self, batch: TrainingBatch) -> tuple[int, int]:
        """Return the number of systems of a batch and of its atoms with force labels.

        Args:
            batch: Any batch.
        """
        return batch.n_systems, int(self._is_counted(batch).sum())

    def forward(
        self, batch: TrainingBatch | None, divisors: Divisors
    ) -> tuple[Float[Tensor, ""], LossTerms | None]:
        """Return the loss of a batch, and its terms by system.

        Args:
            batch: Labels in eV and Å, on the device of the network; None: this process
                has no batch, and its loss is zero.
            divisors: What sums are divided by.
        """
        if batch is None:
            return self._zero(), None
        specs = [self.model.heads[name] for name in batch.head]
        tasks = [self.config.task(name) for name in batch.head]
        is_target = torch.tensor([spec.target is not None for spec in specs])
        is_target = is_target.to(batch.energy.device)
        parts = self._energy_terms(batch, tasks, specs, is_target)
        parts["target"] = self._target_terms(batch, tasks, specs, is_target)
        reduced = parts.pop("reduced_forces")
        divisor = divisors.systems
        if self.config.reduction == "atom":
            divisor = divisors.atoms
        loss = (parts["energy"] + parts["stress"] + parts["target"]).sum()
        loss = loss / divisors.systems + reduced.sum() / divisor
        terms = {name: part.detach() for name, part in parts.items()}
        return loss + self._zero(), LossTerms(**terms)

    def _zero(self) -> Tensor:
        """Return zero, with a derivative of zero by every parameter that learns.

        Of sharded weights, those of the heads are gathered now; all others are used by
        every batch.
        """
        learning = [
            parameter.sum()
            for parameter in self.model.parameters()
            if parameter.requires_grad and not isinstance(parameter, DTensor)
        ]
        return 0.0 * torch.stack(learning).sum().double()

    def _is_counted(self, batch: TrainingBatch) -> Bool[Tensor, " atoms"]:
        """Return the atoms whose forces are trained on."""
        is_counted = batch.has_forces[batch.graph.system_index]
        if self.config.forces is None:
            return torch.zeros_like(is_counted)
        if self.config.free_atoms_only:
            is_counted = is_counted & ~batch.is_fixed
        return is_counted

    def _energy_terms(
        self,
        batch: TrainingBatch,
        tasks: Sequence[TaskConfig],
        specs: Sequence[HeadSpec],
        is_target: Bool[Tensor, " systems"],
    ) -> dict[str, Tensor]:
        """Return the energy, force and stress terms of each system."""
        zero = torch.zeros_like(batch.energy)
        names = [spec.name for spec in specs if spec.target is None]
        if not names:
            return dict.fromkeys((*TERMS[:3], "reduced_forces"), zero)
        # Systems of heads without energies are predicted by another head and ignored.
        heads = [s.name if s.target is None else names[0] for s in specs]
        with_stress = any(task.stress_weight for task in tasks)
        prediction = self._predict(batch, heads, with_stress=with_stress)
        weights = batch.energy.new_tensor([task.energy_weight for task in tasks])
        scale = batch.energy.new_tensor([spec.energy_scale for spec in specs])
        shift = batch.energy.new_tensor([spec.energy_shift for spec in specs])
        label = batch.energy - system_references(batch.graph, specs) - shift
        has_energy = batch.has_energy & ~is_target
        terms = {
            "energy": weights
            * energy_errors(prediction.energy, label / scale, has_energy),
            "stress": zero,
        }
        if with_stress:
            terms["stress"] = self._stress_term(batch, tasks, prediction, scale=scale)
        return terms | self._force_terms(batch, specs, prediction)

    def _predict(
        self, batch: TrainingBatch, heads: list[str], *, with_stress: bool
    ) -> Prediction:
        kind = self.config.forces
        is_gradient = kind == "gradient"
        is_scaled = is_gradient and self.config.precision == "fp16"
        before = self.multiplier.state()
        for _ in range(RETRIES + 1):
            with autocast(self.config.precision, batch.energy.device):
                prediction: Prediction = self.model(
                    batch.graph,
                    heads,
                    forces=kind,
                    stress=with_stress and is_gradient,
                    create_graph=is_gradient,
                    energy_multiplier=self.multiplier.value if is_scaled else 1.0,
                )
            if not is_scaled:
                break
            assert prediction.forces is not None
            is_finite = bool(torch.isfinite(prediction.forces).all())
            self.multiplier.update(is_finite=is_finite)
            if is_finite:
                break
        else:
            # No factor helps this batch; one so small would make zero of the forces of
            # all others.
            self.multiplier.restore(before)
        return prediction

    def _force_terms(
        self,
        batch: TrainingBatch,
        specs: Sequence[HeadSpec],
        prediction: Prediction,
    ) -> dict[str, Tensor]:
        if prediction.forces is None:
            zero = torch.zeros_like(batch.energy)
            return {"forces": zero, "reduced_forces": zero}
        is_direct = self.config.forces == "direct"
        scale = batch.energy.new_tensor(
            [spec.force_scale if is_direct else spec.energy_scale for spec in specs]
        )
        of = batch.graph.system_index
        is_counted = self._is_counted(batch)
        predicted = prediction.forces.double()
        label = known(batch.forces / scale[of][:, None], predicted, is_counted)
        error = force_error(predicted, label)
        weight = batch.energy.new_tensor([self._force_weights[n] for n in batch.head])
        atoms: dict[str, Any] = {
            "system_index": of,
            "is_counted": is_counted,
            "n_systems": batch.n_systems,
        }
        return {
            "forces": weight * system_means(error, **atoms),
            "reduced_forces": weight
            * REDUCTIONS[self.config.reduction](error, **atoms),
        }

    def _stress_term(
        self,
        batch: TrainingBatch,
        tasks: Sequence[TaskConfig],
        prediction: Prediction,
        *,
        scale: Float[Tensor, " systems"],
    ) -> Tensor:
        """Return the stress term, in units of the spread of the stress of the task."""
        assert prediction.virial is not None
        weight = batch.energy.new_tensor([task.stress_weight for task in tasks])
        unit = batch.energy.new_tensor([self._stress_scales[n] for n in batch.head])
        volume = torch.linalg.det(batch.graph.cell).abs()
        has_stress = batch.has_stress & (volume > 0)
        factor = scale / unit / torch.where(volume > 0, volume, 1.0)
        return weight * stress_errors(
            prediction.virial.double() * factor[:, None, None],
            batch.stress / unit[:, None, None],
            has_stress,
        )

    def _target_terms(
        self,
        batch: TrainingBatch,
        tasks: Sequence[TaskConfig],
        specs: Sequence[HeadSpec],
        is_target: Bool[Tensor, " systems"],
    ) -> Float[Tensor, " systems"]:
        """Return the term of the target of each system that has one."""
        total = torch.zeros_like(batch.energy)
        heads = {
            spec.name: (task, spec)
            for task, spec in zip(tasks, specs, strict=True)
            if spec.target is not None
        }
        if not heads:
            return total
        with autocast(self.config.precision, batch.energy.device):
            outputs = self.model.predict_all_targets(batch.graph, sorted(heads))
        for name, (task, spec) in heads.items():
            mine = batch.energy.new_tensor([h == name for h in batch.head]).bool()
            error = target_errors(
                spec.kind,
                outputs[name].double(),
                _target_label(batch, spec),
                has_target=batch.has_target & is_target & mine,
                class_weights=task.class_weights,
            )
            total = total + task.target_weight * error
        return total


def _target_label(batch: TrainingBatch, spec: HeadSpec) -> Float[Tensor, " systems"]:
    """Return the labels in the units of the network; classes as they are."""
    target = spec.target
    assert target is not None
    if spec.kind in CLASS_KINDS:
        return batch.target
    references = target_references(batch.graph, [spec] * batch.n_systems)
    return (batch.target - target.shift - references) / target.scale
