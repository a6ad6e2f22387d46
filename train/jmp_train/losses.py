"""Errors in network units, one number per system: energy, forces, stress, targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.models.config import HeadKind
from jmp_train.metrics.terms import VOIGT

_NORM_EPSILON = 1e-6


def known(
    label: Float[Tensor, "*shape"],
    predicted: Float[Tensor, "*shape"],
    is_known: Bool[Tensor, "*mask"],
) -> Float[Tensor, "*shape"]:
    """Return the labels, and the prediction itself where there is none.

    A NaN label would give a NaN derivative even if its error were masked later.

    Args:
        label: True values.
        predicted: What is compared with them.
        is_known: Where there is a label; leading axes of the values.
    """
    mask = is_known.reshape(is_known.shape + (1,) * (label.ndim - is_known.ndim))
    return torch.where(mask, label, predicted.detach())


def energy_errors(
    predicted: Float[Tensor, " systems"],
    label: Float[Tensor, " systems"],
    has_energy: Bool[Tensor, " systems"],
) -> Float[Tensor, " systems"]:
    """Return the absolute energy error of each system; zero without label.

    Args:
        predicted: Energy, network units.
        label: Its true value.
        has_energy: Whether there is one.

    Source:
        Training specification, section 1.4.
    """
    return (predicted - known(label, predicted, has_energy)).abs()


def force_error(
    predicted: Float[Tensor, "atoms 3"], label: Float[Tensor, "atoms 3"]
) -> Float[Tensor, " atoms"]:
    """Return the Euclidean norm of the force error of each atom.

    A small number is added to each component, as in the published loss, so that the
    norm has a derivative at zero error.

    Args:
        predicted: Forces, network units.
        label: Their true values.

    Source:
        Training specification, section 1.4.
    """
    error = predicted - label + _NORM_EPSILON
    norm: Tensor = torch.linalg.vector_norm(error, dim=-1)
    return norm


def system_sums(
    error: Float[Tensor, " atoms"],
    *,
    system_index: Int[Tensor, " atoms"],
    is_counted: Bool[Tensor, " atoms"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """Return the sum of the errors of the counted atoms of each system.

    Args:
        error: Error of each atom.
        system_index: System of each atom.
        is_counted: Atoms that take part.
        n_systems: Number of systems.
    """
    counted = torch.where(is_counted, error, 0.0)
    return error.new_zeros(n_systems).index_add(0, system_index, counted)


def system_means(
    error: Float[Tensor, " atoms"],
    *,
    system_index: Int[Tensor, " atoms"],
    is_counted: Bool[Tensor, " atoms"],
    n_systems: int,
) -> Float[Tensor, " systems"]:
    """Return the mean error over the counted atoms of each system; zero without any.

    Args:
        error: Error of each atom.
        system_index: System of each atom.
        is_counted: Atoms that take part.
        n_systems: Number of systems.

    Source:
        Training specification, section 1.4 (proposed by arXiv 2310.16802).
    """
    where = {"system_index": system_index, "is_counted": is_counted}
    total = system_sums(error, **where, n_systems=n_systems)
    count = system_sums(torch.ones_like(error), **where, n_systems=n_systems)
    return total / count.clamp(min=1)


REDUCTIONS: dict[str, Callable[..., Float[Tensor, " systems"]]] = {
    "structure": system_means,
    "atom": system_sums,
}
"""What a system contributes to the force term, by the name of the reduction: the sum
over systems is then divided by their number, or by the number of counted atoms."""


def stress_errors(
    predicted: Float[Tensor, "systems 3 3"],
    label: Float[Tensor, "systems 3 3"],
    has_stress: Bool[Tensor, " systems"],
) -> Float[Tensor, " systems"]:
    """Return the mean absolute error of the six independent components of each system.

    Args:
        predicted: Stress, network units.
        label: Its true value, symmetric.
        has_stress: Whether there is one; a system without it gives zero.
    """
    error = predicted - known(label, predicted, has_stress)
    return error[:, VOIGT[0], VOIGT[1]].abs().mean(dim=1)


def target_errors(
    kind: HeadKind,
    output: Float[Tensor, "systems outputs"],
    label: Float[Tensor, " systems"],
    *,
    has_target: Bool[Tensor, " systems"],
    class_weights: Sequence[float] = (),
) -> Float[Tensor, " systems"]:
    """Return the error of the target of each system; zero without label.

    Scalars have the absolute error. Classes have the cross entropy times the weight of
    the true class; of two classes, the weight is that of the second, and the first has
    1.

    Args:
        kind: Kind of the head.
        output: Of the network; logits of classes.
        label: Normalised value, or number of the class.
        has_target: Whether there is one.
        class_weights: Weight of each class, or of the second of two; empty: all 1.

    Source:
        Training specification, sections 2.2 and 2.3.
    """
    functional = torch.nn.functional
    weights = output.new_tensor(class_weights) if class_weights else None
    if kind == "multiclass":
        number = torch.where(has_target, label, 0.0).long()
        error = functional.cross_entropy(
            output, number, weight=weights, reduction="none"
        )
    elif kind == "binary":
        truth = torch.where(has_target, label, 0.0)
        error = functional.binary_cross_entropy_with_logits(
            output[:, 0], truth, pos_weight=weights, reduction="none"
        )
    else:
        error = (output[:, 0] - known(label, output[:, 0], has_target)).abs()
    return torch.where(has_target, error, 0.0)
