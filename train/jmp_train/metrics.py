"""Errors in stated units, per task, measured on labelled systems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jmp_calc.models.config import ForceKind
from jmp_calc.models.jmp import JMPModel, Prediction
from jmp_calc.models.physical import system_references, to_physical
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader

FIXED_TAG = 0
"""Tag of atoms that were held fixed in the source; their forces are not scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskErrors:
    """Errors of one task; the ``baseline`` fields are those of predicting nothing.

    Source:
        Training specification, section 1.9: force errors over free atoms only.
    """

    n_systems: int
    """Systems scored."""
    n_force_components: int
    """Force components scored."""
    energy_mae_eV: float
    """Mean absolute error of the energy of a system."""
    energy_mae_meV_per_atom: float
    """Mean over systems of the absolute energy error divided by the atoms."""
    force_mae_eV_per_A: float
    """Mean absolute error of a force component; NaN without force labels."""
    baseline_energy_mae_meV_per_atom: float
    """The same if only the reference energies are predicted."""
    baseline_force_mae_eV_per_A: float
    """The same if zero forces are predicted."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file or log."""
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    n_systems: int = 0
    n_force_components: int = 0
    energy: float = 0.0
    energy_per_atom: float = 0.0
    forces: float = 0.0
    baseline_energy_per_atom: float = 0.0
    baseline_forces: float = 0.0


@dataclass(slots=True)
class ErrorMeter:
    """Adds up errors batch by batch."""

    sums: dict[str, _Sums] = field(default_factory=dict)

    def add(
        self, batch: TrainingBatch, prediction: Prediction, model: JMPModel
    ) -> None:
        """Count a batch.

        Args:
            batch: Labels.
            prediction: Of the model for this batch, in eV and eV/Å, with forces.
            model: Gives the reference energies of its heads.
        """
        graph = batch.graph
        specs = [model.heads[name] for name in batch.head]
        reference = system_references(graph, specs)
        energy = (prediction.energy - batch.energy).abs()
        baseline = (batch.energy - reference).abs() / batch.n_atoms
        per_system = torch.stack([energy, energy / batch.n_atoms, baseline])
        force_sums = _force_sums(batch, prediction)
        for system, name in enumerate(batch.head):
            sums = self.sums.setdefault(name, _Sums())
            sums.n_systems += 1
            sums.energy += float(per_system[0, system])
            sums.energy_per_atom += float(per_system[1, system])
            sums.baseline_energy_per_atom += float(per_system[2, system])
            sums.forces += float(force_sums[0, system])
            sums.baseline_forces += float(force_sums[1, system])
            sums.n_force_components += int(force_sums[2, system])

    def errors(self) -> dict[str, TaskErrors]:
        """Return the mean errors by task."""
        result = {}
        for name, sums in self.sums.items():
            n = sums.n_systems
            n_forces = sums.n_force_components
            per_component = 1 / n_forces if n_forces else float("nan")
            result[name] = TaskErrors(
                n_systems=n,
                n_force_components=n_forces,
                energy_mae_eV=sums.energy / n,
                energy_mae_meV_per_atom=1000 * sums.energy_per_atom / n,
                force_mae_eV_per_A=sums.forces * per_component,
                baseline_energy_mae_meV_per_atom=1000
                * sums.baseline_energy_per_atom
                / n,
                baseline_force_mae_eV_per_A=sums.baseline_forces * per_component,
            )
        return result


def _force_sums(
    batch: TrainingBatch, prediction: Prediction
) -> Float[Tensor, "3 systems"]:
    """Sum per system the error, the label's size and the number of components."""
    assert prediction.forces is not None
    graph = batch.graph
    is_counted = batch.has_forces[graph.system_index] & (graph.tags != FIXED_TAG)
    label = torch.where(is_counted[:, None], batch.forces, 0.0)
    error = torch.where(is_counted[:, None], prediction.forces - label, 0.0)
    per_atom = torch.stack(
        [error.abs().sum(1), label.abs().sum(1), 3 * is_counted.to(label.dtype)]
    )
    return per_atom.new_zeros((3, batch.n_systems)).index_add(
        1, graph.system_index, per_atom
    )


def evaluate_model(
    model: JMPModel,
    dataset: GraphDataset,
    samples: Sequence[int] | Int[np.ndarray, " samples"],
    *,
    forces: ForceKind,
    max_atoms: int = 256,
    device: torch.device | str = "cpu",
) -> dict[str, TaskErrors]:
    """Return the errors of a model on some samples, by task.

    Args:
        model: The network.
        dataset: Labelled systems.
        samples: Numbers of those to score.
        forces: Which forces to score.
        max_atoms: Atoms in a batch.
        device: Where the model is.
    """
    meter = ErrorMeter()
    batches = list(_batches_by_size(dataset, samples, max_atoms))
    was_training = model.training
    model.eval()
    for batch in build_loader(dataset, batches):
        moved = batch.to(device)
        with torch.no_grad():
            raw = model(moved.graph, moved.head, forces=forces)
            specs = [model.heads[name] for name in moved.head]
            physical = to_physical(raw, moved.graph, specs, forces=forces)
        meter.add(moved, physical, model)
    model.train(was_training)
    order = [name for name in model.heads if name in meter.sums]
    found = meter.errors()
    return {name: found[name] for name in order}


def _batches_by_size(
    dataset: GraphDataset,
    samples: Sequence[int] | Int[np.ndarray, " samples"],
    max_atoms: int,
) -> Iterator[list[int]]:
    batch: list[int] = []
    n_atoms = 0
    for sample in map(int, samples):
        size = int(dataset.n_atoms[sample])
        if batch and n_atoms + size > max_atoms:
            yield batch
            batch, n_atoms = [], 0
        batch.append(sample)
        n_atoms += size
    if batch:
        yield batch


def choose_samples(
    dataset: GraphDataset, per_task: int | None
) -> Int[np.ndarray, " samples"]:
    """Return up to so many samples of each task, always the same ones.

    Args:
        dataset: Labelled systems.
        per_task: Largest number of each task; None: all.
    """
    chosen, start = [], 0
    for size in dataset.sizes:
        order = np.arange(size)
        if per_task is not None and per_task < size:
            order = np.sort(np.random.default_rng(0).permutation(size)[:per_task])
        chosen.append(start + order)
        start += size
    return np.concatenate(chosen)


def error_table(errors: Mapping[str, TaskErrors]) -> str:
    """Return errors as a table of text.

    Args:
        errors: By task.
    """
    rows = [
        (
            "task",
            "systems",
            "energy eV",
            "energy meV/atom",
            "(baseline)",
            "forces eV/Å",
            "(baseline)",
        )
    ]
    rows += [
        (
            name,
            str(e.n_systems),
            f"{e.energy_mae_eV:.4f}",
            f"{e.energy_mae_meV_per_atom:.2f}",
            f"{e.baseline_energy_mae_meV_per_atom:.2f}",
            f"{e.force_mae_eV_per_A:.4f}",
            f"{e.baseline_force_mae_eV_per_A:.4f}",
        )
        for name, e in errors.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows
    )
