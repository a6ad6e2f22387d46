"""ErrorMeter: errors added up batch by batch, over groups and processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset, TrainingBatch
from jmp_train.metrics.classes import ClassErrors, class_errors, roc_auc
from jmp_train.metrics.errors import NAN, TaskErrors
from jmp_train.metrics.terms import (
    CLASS_KINDS,
    TERMS,
    BatchPrediction,
    system_terms,
)

Key = tuple[str, ...]
"""What errors are counted under: a task, and possibly more, such as a size."""


class ErrorMeter:
    """Adds up errors batch by batch in constant memory.

    Only class heads keep more: a score per system, for the area under the receiver
    operating characteristic, which no sum can give.
    """

    def __init__(
        self, model: JMPModel, tasks: Mapping[str, TaskConfig] | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            model: Gives the scales and references of its heads.
            tasks: Loss weights by task; None: there is no loss.
        """
        self._heads = model.heads
        self._tasks = dict(tasks or {})
        self._sums: dict[Key, Float[Tensor, " terms"]] = {}
        self._n_atoms: dict[Key, float] = {}
        self._confusion: dict[Key, Int[np.ndarray, "classes classes"]] = {}
        self._scores: dict[Key, dict[int, tuple[float, bool]]] = {}

    def add(
        self,
        batch: TrainingBatch,
        prediction: BatchPrediction,
        keys: Sequence[Key] | None = None,
    ) -> None:
        """Count a batch.

        Args:
            batch: Labels; class heads do not share a batch with others.
            prediction: Of the model for this batch.
            keys: What each system is counted under, the task first; None: the task.
        """
        keys = [(name,) for name in batch.head] if keys is None else keys
        specs = [self._heads[name] for name in batch.head]
        terms = system_terms(batch, prediction, specs).cpu()
        for system, key in enumerate(keys):
            sums = self._sums.setdefault(key, torch.zeros(len(TERMS)).double())
            sums += terms[:, system]
            size = float(batch.n_atoms[system])
            self._n_atoms[key] = self._n_atoms.get(key, 0.0) + size
        if specs[0].kind in CLASS_KINDS:
            self._add_classes(batch, prediction, keys)

    def _add_classes(
        self, batch: TrainingBatch, prediction: BatchPrediction, keys: Sequence[Key]
    ) -> None:
        spec = self._heads[batch.head[0]]
        assert prediction.target is not None
        found = prediction.classes(spec).tolist()
        scores = prediction.target[:, 0].tolist()
        for system in batch.has_target.nonzero()[:, 0].tolist():
            key, label = keys[system], int(batch.target[system])
            n = n_classes(spec)
            cells = self._confusion.setdefault(key, np.zeros((n, n), dtype=np.int64))
            cells[label, found[system]] += 1
            if spec.kind == "binary":
                index = int(batch.index[system])
                of_key = self._scores.setdefault(key, {})
                of_key[index] = (scores[system], label == 1)

    def errors(self) -> dict[Key, TaskErrors]:
        """Return the errors so far, by key."""
        return {
            key: self._errors_of(key, dict(zip(TERMS, sums.tolist(), strict=True)))
            for key, sums in self._sums.items()
        }

    def sum_over_processes(
        self,
        total: Callable[[Tensor], Tensor],
        dataset: GraphDataset,
        device: torch.device | str,
    ) -> None:
        """Replace the sums of this process by those of all; counted by task only.

        Every process makes the same calls of ``total`` with tensors of the same shape,
        whatever it has counted. Scores of binary heads are put in one place per sample
        of the data set, so that their sum is the list of all scores, and the area under
        the curve is that of one process.

        Args:
            total: Sums a float64 tensor over the processes.
            dataset: The samples, the same for all processes; no two of them have
                scored the same one.
            device: Where ``total`` wants its tensor.
        """
        blocks: list[Tensor] = []
        keys: list[Key] = [(name,) for name in dataset.stores if name in self._heads]
        for key in keys:
            sums = self._sums.get(key, torch.zeros(len(TERMS)).double())
            size = torch.tensor([self._n_atoms.get(key, 0.0)]).double()
            blocks += [sums, size, *self._class_blocks(key, len(dataset))]
        everything = total(torch.cat(blocks).to(device)).cpu()
        sizes = [len(block) for block in blocks]
        parts = iter(torch.split(everything, sizes))
        for key in keys:
            sums, size = next(parts), next(parts)
            spec = self._heads[key[0]]
            if spec.kind in CLASS_KINDS:
                n = n_classes(spec)
                cells = next(parts).numpy().round().astype(np.int64)
                self._confusion[key] = cells.reshape(n, n)
            if spec.kind == "binary":
                scored, score, label = (next(parts).numpy() for _ in range(3))
                self._scores[key] = {
                    int(i): (float(score[i]), bool(label[i] > 0.5))
                    for i in scored.nonzero()[0]
                }
            if sums[0]:
                self._sums[key], self._n_atoms[key] = sums, float(size)

    def _class_blocks(self, key: Key, n_samples: int) -> list[Tensor]:
        spec = self._heads[key[0]]
        if spec.kind not in CLASS_KINDS:
            return []
        n = n_classes(spec)
        cells = self._confusion.get(key, np.zeros((n, n), dtype=np.int64))
        blocks = [torch.from_numpy(cells).double().flatten()]
        if spec.kind == "binary":
            places = np.zeros((3, n_samples))
            for index, (score, label) in self._scores.get(key, {}).items():
                places[:, index] = 1, score, label
            blocks += list(torch.from_numpy(places))
        return blocks

    def _errors_of(self, key: Key, sums: Mapping[str, float]) -> TaskErrors:
        spec = self._heads[key[0]]

        def mean(name: str, count: str, factor: float = 1.0) -> float:
            return factor * sums[name] / sums[count] if sums[count] else NAN

        def root(name: str, count: str, factor: float = 1.0) -> float:
            return factor * math.sqrt(mean(name, count))

        target: dict[str, Any] = {}
        if spec.target is not None:
            target = {
                "target": spec.target.name,
                "target_unit": spec.target.unit,
                "classes": self._class_errors(key, mean("log_loss", "targets")),
            }
        if spec.target is not None and spec.kind not in CLASS_KINDS:
            target |= {
                "target_mae": mean("target_abs", "targets"),
                "target_rmse": root("target_square", "targets"),
                "baseline_target_mae": mean("target_baseline", "targets"),
            }
        return TaskErrors(
            n_systems=round(sums["systems"]),
            n_energies=round(sums["energies"]),
            n_force_components=round(sums["force_components"]),
            n_stress_components=round(sums["stress_components"]),
            n_targets=round(sums["targets"]),
            energy_mae_eV=mean("energy_abs", "energies"),
            energy_rmse_eV=root("energy_square", "energies"),
            energy_mae_meV_per_atom=mean("atom_energy_abs", "energies", 1000.0),
            energy_rmse_meV_per_atom=root("atom_energy_square", "energies", 1000.0),
            energy_bias_meV_per_atom=mean("atom_energy_signed", "energies", 1000.0),
            force_mae_eV_per_A=mean("force_abs", "force_components"),
            force_rmse_eV_per_A=root("force_square", "force_components"),
            stress_mae_eV_per_A3=mean("stress_abs", "stress_components"),
            stress_rmse_eV_per_A3=root("stress_square", "stress_components"),
            baseline_energy_mae_meV_per_atom=mean(
                "energy_baseline", "energies", 1000.0
            ),
            baseline_force_mae_eV_per_A=mean("force_baseline", "force_components"),
            baseline_stress_mae_eV_per_A3=mean("stress_baseline", "stress_components"),
            loss=self._loss(key, mean),
            **target,
        )

    def _class_errors(self, key: Key, log_loss: float) -> ClassErrors | None:
        if key not in self._confusion or not self._confusion[key].any():
            return None
        auc = NAN
        if self._scores.get(key):
            scores, labels = zip(*self._scores[key].values(), strict=True)
            auc = roc_auc(np.array(scores), np.array(labels))
        return class_errors(self._confusion[key], log_loss=log_loss, auc=auc)

    def _loss(self, key: Key, mean: Callable[[str, str], float]) -> float:
        task, spec = self._tasks.get(key[0]), self._heads[key[0]]
        if task is None:
            return NAN
        force_scale = (
            spec.energy_scale if spec.forces == "gradient" else spec.force_scale
        )
        force_weight = task.force_weight
        if force_weight is None:
            force_weight = self._n_atoms[key] / float(self._sums[key][0])
        # the size of the stresses that are scored stands for that of the training part
        stress_size = math.sqrt(mean("stress_label_square", "stress_components"))
        terms = [
            task.energy_weight / spec.energy_scale * mean("energy_abs", "energies"),
            force_weight / force_scale * mean("force_length", "force_systems"),
            task.stress_weight
            / (stress_size or 1.0)
            * mean("stress_abs", "stress_components"),
        ]
        if spec.target is not None:
            terms = [
                task.target_weight / spec.target.scale * mean("target_abs", "targets"),
            ]
        if spec.kind in CLASS_KINDS:
            terms = [task.target_weight * mean("log_loss", "targets")]
        known = [term for term in terms if not math.isnan(term)]
        return sum(known) if known else NAN


def n_classes(spec: HeadSpec) -> int:
    """Return the number of classes of a class head.

    Args:
        spec: The head.
    """
    return 2 if spec.kind == "binary" else spec.n_outputs
