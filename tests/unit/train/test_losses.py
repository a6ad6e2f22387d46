from __future__ import annotations

import math

import pytest
import torch

from jmp_train.losses import (
    LossTerms,
    atom_wise,
    energy_force_loss,
    energy_loss,
    force_error,
    structure_wise,
)

# Three systems of two tasks with 1, 2 and 1 atoms; the last has no force labels.
SYSTEM = torch.tensor([0, 1, 1, 2])
ALPHA = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
BETA = torch.tensor([10.0, 3.0, 10.0], dtype=torch.float64)
ENERGY = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
ENERGY_LABEL = torch.tensor([1.5, -2.25, 0.0], dtype=torch.float64)
FORCES = torch.tensor(
    [[3.0, 4.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 2.0], [9.0, 9.0, 9.0]],
    dtype=torch.float64,
)
FORCES_LABEL = torch.tensor(
    [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 6.0, 10.0], [math.nan] * 3],
    dtype=torch.float64,
)
# Euclidean errors by hand: 5; 1 and 10; none.
EPSILON = 2e-5  # 1e-6 is added to each component of an error


def mixed_loss(reduction: str, forces: torch.Tensor = FORCES) -> LossTerms:
    return energy_force_loss(
        (ENERGY, ENERGY_LABEL),
        (forces, FORCES_LABEL),
        energy_weight=ALPHA,
        force_weight=BETA,
        system_index=SYSTEM,
        has_forces=torch.tensor([True, True, False]),
        reduction=reduction,
    )


def test_the_energy_term_is_the_weighted_mean_over_systems() -> None:
    by_hand = (1 * 0.5 + 2 * 0.25 + 1 * 0.5) / 3
    assert energy_loss(ENERGY, ENERGY_LABEL, ALPHA).item() == pytest.approx(by_hand)
    for reduction in ("structure", "atom"):
        assert mixed_loss(reduction).energy.item() == pytest.approx(by_hand)


def test_the_structure_wise_force_term_averages_inside_each_system_first() -> None:
    terms = mixed_loss("structure")
    by_hand = (10 * 5 + 3 * (1 + 10) / 2 + 0) / 3
    assert terms.forces.item() == pytest.approx(by_hand, rel=EPSILON)
    assert terms.n_force_divisor == 3


def test_the_atom_wise_force_term_averages_over_labelled_atoms() -> None:
    terms = mixed_loss("atom")
    by_hand = (10 * 5 + 3 * 1 + 3 * 10) / 3
    assert terms.forces.item() == pytest.approx(by_hand, rel=EPSILON)
    assert terms.n_force_divisor == 3


def test_terms_of_each_system_are_kept_for_the_log() -> None:
    terms = mixed_loss("atom")
    assert terms.system_energy.tolist() == [0.5, 0.5, 0.5]
    assert terms.system_forces.tolist() == pytest.approx([50, 16.5, 0], rel=EPSILON)


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_missing_force_labels_give_zero_gradient_not_nan(reduction: str) -> None:
    forces = FORCES.clone().requires_grad_()
    mixed_loss(reduction, forces).forces.backward()
    assert torch.isfinite(forces.grad).all()
    assert (forces.grad[3] == 0).all()
    assert (forces.grad[:3] != 0).any(dim=1).all()


def test_the_force_error_has_a_derivative_where_it_is_zero() -> None:
    forces = torch.zeros((1, 3), dtype=torch.float64, requires_grad=True)
    error = force_error(forces, torch.zeros((1, 3), dtype=torch.float64))
    error.sum().backward()
    assert error.item() == pytest.approx(1e-6 * math.sqrt(3))
    assert torch.isfinite(forces.grad).all()


@pytest.mark.parametrize("reduction", [structure_wise, atom_wise])
def test_without_any_counted_atom_the_force_term_is_zero(reduction) -> None:
    none = torch.zeros(4, dtype=torch.bool)
    error = torch.ones(4, dtype=torch.float64)
    term, divisor = reduction(error, BETA, system_index=SYSTEM, is_counted=none)
    assert term.item() == 0
    assert divisor >= 1


def test_repeating_the_atoms_of_a_system_changes_the_atom_wise_mean_only() -> None:
    def means(n_copies: int) -> tuple[float, float]:
        error = torch.tensor([1.0] + [5.0] * n_copies, dtype=torch.float64)
        arguments = {
            "system_index": torch.tensor([0] + [1] * n_copies),
            "is_counted": torch.ones(1 + n_copies, dtype=torch.bool),
        }
        weight = torch.ones(2, dtype=torch.float64)
        by_system = structure_wise(error, weight, **arguments)[0].item()
        return by_system, atom_wise(error, weight, **arguments)[0].item()

    assert means(1) == (3.0, 3.0)
    assert means(3) == (3.0, 4.0)
