"""What a batch adds to the sums that errors are made of, system by system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.physical import system_references, target_references
from jmp_train.data.batches import TrainingBatch

TERMS = (
    "systems",
    "energies",
    "energy_abs",
    "energy_square",
    "atom_energy_abs",
    "atom_energy_square",
    "atom_energy_signed",
    "energy_baseline",
    "force_systems",
    "force_components",
    "force_abs",
    "force_square",
    "force_length",
    "force_baseline",
    "stress_components",
    "stress_abs",
    "stress_square",
    "stress_baseline",
    "stress_label_square",
    "targets",
    "target_abs",
    "target_square",
    "target_baseline",
    "log_loss",
)
"""Names of the sums, in the order of the rows of :func:`system_terms`."""

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Rows and columns of a symmetric matrix in the order xx yy zz yz xz xy."""

CLASS_KINDS = ("binary", "multiclass")
"""Kinds of head whose label is the number of a class."""

_LEAST_PROBABILITY = 1e-15


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPrediction:
    """What a model says about the systems of a batch, in the units of the labels."""

    energy: Float[Tensor, " systems"] | None = None
    """eV; None: the heads predict no energy."""
    forces: Float[Tensor, "atoms 3"] | None = None
    """eV/Å; None: not asked for."""
    stress: Float[Tensor, "systems 3 3"] | None = None
    """eV/Å³, tension positive; None: not asked for."""
    target: Float[Tensor, "systems outputs"] | None = None
    """In the unit of the target; of class heads the probability of the second class,
    or of each; None: the heads predict energy and forces."""

    def classes(self, spec: HeadSpec) -> Int[Tensor, " systems"]:
        """Return the most probable class of each system.

        Args:
            spec: The class head of all systems.
        """
        assert self.target is not None
        if spec.kind == "binary":
            return (self.target[:, 0] > 0.5).long()
        return self.target.argmax(dim=1)


def scored_atoms(batch: TrainingBatch) -> Bool[Tensor, " atoms"]:
    """Return the atoms whose forces are scored: labelled and not held fixed.

    Args:
        batch: Labels.

    Source:
        Training specification, section 1.9.
    """
    return batch.has_forces[batch.graph.system_index] & ~batch.is_fixed


def system_terms(
    batch: TrainingBatch, prediction: BatchPrediction, specs: Sequence[HeadSpec]
) -> Float[Tensor, "terms systems"]:
    """Return what each system adds to the sums in ``TERMS``, float64.

    Args:
        batch: Labels.
        prediction: For this batch.
        specs: The head of each system.
    """
    one = torch.ones(batch.n_systems, dtype=torch.float64, device=batch.energy.device)
    found = {"systems": one}
    if prediction.energy is not None:
        found |= _energy_terms(batch, prediction.energy, specs)
    if prediction.forces is not None:
        found |= _force_terms(batch, prediction.forces)
    if prediction.stress is not None:
        found |= _stress_terms(batch, prediction.stress)
    if prediction.target is not None:
        is_class = specs[0].kind in CLASS_KINDS
        score = _class_terms if is_class else _target_terms
        found |= score(batch, prediction.target, specs)
    return torch.stack([found.get(name, torch.zeros_like(one)) for name in TERMS])


def _energy_terms(
    batch: TrainingBatch, energy: Tensor, specs: Sequence[HeadSpec]
) -> dict[str, Tensor]:
    known = batch.has_energy
    shift = energy.new_tensor([spec.energy_shift for spec in specs])
    base = system_references(batch.graph, specs) + shift
    error = torch.where(known, energy - batch.energy, 0.0)
    baseline = torch.where(known, batch.energy - base, 0.0)
    per_atom = error / batch.n_atoms
    return {
        "energies": known.double(),
        "energy_abs": error.abs(),
        "energy_square": error**2,
        "atom_energy_abs": per_atom.abs(),
        "atom_energy_square": per_atom**2,
        "atom_energy_signed": per_atom,
        "energy_baseline": baseline.abs() / batch.n_atoms,
    }


def _force_terms(batch: TrainingBatch, forces: Tensor) -> dict[str, Tensor]:
    of = batch.graph.system_index
    is_scored = scored_atoms(batch)
    label = torch.where(is_scored[:, None], batch.forces, 0.0)
    error = torch.where(is_scored[:, None], forces - label, 0.0)
    per_atom = torch.stack(
        [
            is_scored.double(),
            error.abs().sum(dim=1),
            (error**2).sum(dim=1),
            torch.linalg.vector_norm(error, dim=1),
            label.abs().sum(dim=1),
        ]
    )
    n_atoms, absolute, square, length, baseline = per_atom.new_zeros(
        (len(per_atom), batch.n_systems)
    ).index_add(1, of, per_atom)
    return {
        "force_systems": (n_atoms > 0).double(),
        "force_components": 3 * n_atoms,
        "force_abs": absolute,
        "force_square": square,
        "force_length": length / n_atoms.clamp(min=1),
        "force_baseline": baseline,
    }


def _stress_terms(batch: TrainingBatch, stress: Tensor) -> dict[str, Tensor]:
    known = batch.has_stress
    rows, columns = VOIGT
    label = torch.where(known[:, None], batch.stress[:, rows, columns], 0.0)
    error = torch.where(known[:, None], stress[:, rows, columns] - label, 0.0)
    return {
        "stress_components": 6 * known.double(),
        "stress_abs": error.abs().sum(dim=1),
        "stress_square": (error**2).sum(dim=1),
        "stress_baseline": label.abs().sum(dim=1),
        "stress_label_square": (label**2).sum(dim=1),
    }


def _target_terms(
    batch: TrainingBatch, target: Tensor, specs: Sequence[HeadSpec]
) -> dict[str, Tensor]:
    known = batch.has_target
    shift = target.new_tensor(
        [spec.target.shift if spec.target else 0 for spec in specs]
    )
    base = target_references(batch.graph, specs) + shift
    error = torch.where(known, target[:, 0] - batch.target, 0.0)
    baseline = torch.where(known, batch.target - base, 0.0)
    return {
        "targets": known.double(),
        "target_abs": error.abs(),
        "target_square": error**2,
        "target_baseline": baseline.abs(),
    }


def _class_terms(
    batch: TrainingBatch, target: Tensor, specs: Sequence[HeadSpec]
) -> dict[str, Tensor]:
    known = batch.has_target
    label = torch.where(known, batch.target, 0.0).long()
    probability = target
    if specs[0].kind == "binary":
        probability = torch.stack([1 - target[:, 0], target[:, 0]], dim=1)
    right = probability.gather(1, label[:, None])[:, 0].clamp(min=_LEAST_PROBABILITY)
    return {
        "targets": known.double(),
        "log_loss": torch.where(known, -right.log(), 0.0),
    }
