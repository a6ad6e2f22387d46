"""Energy and force losses in network units, reduced per system or per atom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_NORM_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """The terms of a batch, weighted, in network units."""

    energy: Float[Tensor, ""]
    """Mean over systems."""
    forces: Float[Tensor, ""]
    """Mean over systems or atoms, as the reduction says."""
    system_energy: Float[Tensor, " systems"]
    """Energy term of each system, for the log."""
    system_forces: Float[Tensor, " systems"]
    """Force term of each system (mean over its atoms), for the log."""
    n_systems: int
    """Number that the energy term was divided by."""
    n_force_divisor: int
    """Number that the force term was divided by."""


def energy_loss(
    predicted: Float[Tensor, " systems"],
    label: Float[Tensor, " systems"],
    weight: Float[Tensor, " systems"],
) -> Float[Tensor, ""]:
    """Return the weighted mean absolute energy error over systems.

    Args:
        predicted: Energy, network units.
        label: Its true value.
        weight: Weight of each system (alpha of its task).

    Source:
        Training specification, section 1.4.
    """
    return (weight * (predicted - label).abs()).mean()


def force_error(
    predicted: Float[Tensor, "atoms 3"], label: Float[Tensor, "atoms 3"]
) -> Float[Tensor, " atoms"]:
    """Return the Euclidean norm of the force error of each atom.

    A small number is added to each component, as in the published loss, so that the
    norm has a derivative at zero error.

    Args:
        predicted: Forces, network units.
        label: Their true values.
    """
    error = predicted - label + _NORM_EPSILON
    norm: Tensor = torch.linalg.vector_norm(error, dim=-1)
    return norm


def system_means(
    error: Float[Tensor, " atoms"],
    weight: Float[Tensor, " systems"],
    *,
    system_index: Int[Tensor, " atoms"],
    is_counted: Bool[Tensor, " atoms"],
) -> Float[Tensor, " systems"]:
    """Return the weighted mean error over the counted atoms of each system.

    Args:
        error: Error of each atom.
        weight: Weight of each system (beta of its task).
        system_index: System of each atom.
        is_counted: Atoms that take part; a system without any gives zero.
    """
    counted = is_counted.to(error.dtype)
    total = error.new_zeros(weight.shape).index_add(0, system_index, error * counted)
    count = error.new_zeros(weight.shape).index_add(0, system_index, counted)
    return weight * total / count.clamp(min=1)


def structure_wise(
    error: Float[Tensor, " atoms"],
    weight: Float[Tensor, " systems"],
    *,
    system_index: Int[Tensor, " atoms"],
    is_counted: Bool[Tensor, " atoms"],
) -> tuple[Float[Tensor, ""], int]:
    """Average errors over the atoms of each system, then over systems.

    Args:
        error: Error of each atom.
        weight: Weight of each system.
        system_index: System of each atom.
        is_counted: Atoms that take part; a system without any counts as zero.

    Returns:
        The mean and the number of systems.

    Source:
        Training specification, section 1.4 (proposed by arXiv 2310.16802).
    """
    means = system_means(
        error, weight, system_index=system_index, is_counted=is_counted
    )
    return means.mean(), len(weight)


def atom_wise(
    error: Float[Tensor, " atoms"],
    weight: Float[Tensor, " systems"],
    *,
    system_index: Int[Tensor, " atoms"],
    is_counted: Bool[Tensor, " atoms"],
) -> tuple[Float[Tensor, ""], int]:
    """Average errors over all counted atoms of the batch: large systems weigh more.

    Args:
        error: Error of each atom.
        weight: Weight of each system.
        system_index: System of each atom.
        is_counted: Atoms that take part.

    Returns:
        The mean and the number of atoms, at least 1.

    Source:
        Training specification, section 1.4 (the ablation).
    """
    total = (error * weight[system_index] * is_counted).sum()
    count = max(int(is_counted.sum()), 1)
    return total / count, count


REDUCTIONS: dict[str, Callable[..., tuple[Float[Tensor, ""], int]]] = {
    "structure": structure_wise,
    "atom": atom_wise,
}
"""Reductions of the force error by name."""


def energy_force_loss(
    energy: tuple[Float[Tensor, " systems"], Float[Tensor, " systems"]],
    forces: tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]],
    *,
    energy_weight: Float[Tensor, " systems"],
    force_weight: Float[Tensor, " systems"],
    system_index: Int[Tensor, " atoms"],
    has_forces: Bool[Tensor, " systems"],
    reduction: str,
) -> LossTerms:
    """Return both terms of the loss of a batch.

    Args:
        energy: Predicted and true energy, network units.
        forces: Predicted and true forces, network units; labels may be NaN in systems
            without force labels.
        energy_weight: Alpha of each system.
        force_weight: Beta of each system.
        system_index: System of each atom.
        has_forces: Whether a system has force labels.
        reduction: Key of ``REDUCTIONS``.
    """
    is_counted = has_forces[system_index]
    predicted, label = forces
    # A NaN label would give a NaN derivative even if its error were masked later.
    label = torch.where(is_counted[:, None], label, predicted.detach())
    error = force_error(predicted, label)
    atoms = {"system_index": system_index, "is_counted": is_counted}
    force_term, divisor = REDUCTIONS[reduction](error, force_weight, **atoms)
    return LossTerms(
        energy=energy_loss(energy[0], energy[1], energy_weight),
        forces=force_term,
        system_energy=(energy_weight * (energy[0] - energy[1]).abs()).detach(),
        system_forces=system_means(error, force_weight, **atoms).detach(),
        n_systems=len(energy_weight),
        n_force_divisor=divisor,
    )
