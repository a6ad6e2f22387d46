from __future__ import annotations

import math

import pytest
import torch

from jmp_train.losses import (
    REDUCTIONS,
    energy_errors,
    force_error,
    stress_errors,
    system_means,
    system_sums,
    target_errors,
)

# Three systems with 1, 2 and 1 atoms; the last has no force labels.
ATOMS = {
    "system_index": torch.tensor([0, 1, 1, 2]),
    "is_counted": torch.tensor([True, True, True, False]),
    "n_systems": 3,
}
ERROR = torch.tensor([5.0, 1.0, 10.0, math.nan], dtype=torch.float64)
EPSILON = 2e-6  # 1e-6 is added to each component of a force error


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_energy_error_of_a_system_without_label_is_zero() -> None:
    predicted = vector(1.0, -2.0, 7.0).requires_grad_()
    has_energy = torch.tensor([True, True, False])
    error = energy_errors(predicted, vector(1.5, -2.25, math.nan), has_energy)
    error.sum().backward()
    assert error.tolist() == [0.5, 0.25, 0.0]
    assert predicted.grad.tolist() == [-1.0, 1.0, 0.0]


def test_the_force_error_of_an_atom_is_the_length_of_the_difference() -> None:
    predicted = torch.stack([vector(3, 4, 0), vector(1, 1, 1)])
    label = torch.stack([vector(0, 0, 0), vector(1, 1, 0)])
    assert force_error(predicted, label).tolist() == pytest.approx([5, 1], abs=EPSILON)


def test_the_force_error_has_a_derivative_where_it_is_zero() -> None:
    forces = torch.zeros((1, 3), dtype=torch.float64, requires_grad=True)
    error = force_error(forces, torch.zeros((1, 3), dtype=torch.float64))
    error.sum().backward()
    assert error.item() == pytest.approx(1e-6 * math.sqrt(3))
    assert torch.isfinite(forces.grad).all()


def test_structure_wise_a_system_gives_the_mean_over_its_counted_atoms() -> None:
    assert REDUCTIONS["structure"] is system_means
    assert system_means(ERROR, **ATOMS).tolist() == [5.0, 5.5, 0.0]


def test_atom_wise_a_system_gives_the_sum_over_its_counted_atoms() -> None:
    assert REDUCTIONS["atom"] is system_sums
    assert system_sums(ERROR, **ATOMS).tolist() == [5.0, 11.0, 0.0]


def test_the_stress_error_is_the_mean_over_six_components() -> None:
    predicted = torch.zeros((2, 3, 3), dtype=torch.float64)
    predicted[0] = torch.tensor([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    label = torch.zeros((2, 3, 3), dtype=torch.float64)
    label[1] = math.nan
    has_stress = torch.tensor([True, False])
    assert stress_errors(predicted, label, has_stress).tolist() == [21 / 6, 0.0]


def test_scalar_targets_have_the_absolute_error() -> None:
    output = vector(1.0, 2.0)[:, None]
    has_target = torch.tensor([True, False])
    for kind in ("scalar", "spatial_extent"):
        error = target_errors(
            kind, output, vector(-1.0, math.nan), has_target=has_target
        )
        assert error.tolist() == [2.0, 0.0]


def test_a_binary_target_has_the_cross_entropy_with_the_weight_of_the_second() -> None:
    output = vector(0.3, 0.3, 0.3)[:, None]
    error = target_errors(
        "binary",
        output,
        vector(1.0, 0.0, math.nan),
        has_target=torch.tensor([True, True, False]),
        class_weights=(2.5,),
    )
    p = 1 / (1 + math.exp(-0.3))
    assert error.tolist() == pytest.approx([-2.5 * math.log(p), -math.log(1 - p), 0])


def test_a_class_target_has_the_cross_entropy_with_the_weight_of_its_class() -> None:
    logits = vector(0.1, 0.7, -0.4)
    error = target_errors(
        "multiclass",
        logits.repeat(3, 1),
        vector(1.0, 2.0, math.nan),
        has_target=torch.tensor([True, True, False]),
        class_weights=(1.0, 3.0, 0.5),
    )
    p = [math.exp(x) for x in logits.tolist()]
    by_hand = [-3.0 * math.log(p[1] / sum(p)), -0.5 * math.log(p[2] / sum(p)), 0]
    assert error.tolist() == pytest.approx(by_hand)
