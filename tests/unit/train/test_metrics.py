from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel, Prediction
from jmp_train.data.batches import GraphDataset, TrainingBatch, join_batches
from jmp_train.data.store import open_stores
from jmp_train.metrics import (
    ErrorMeter,
    choose_samples,
    error_table,
    evaluate_model,
)
from jmp_train.recipes.smoke import TINY
from toys.training import RULES, TOY_TASKS, toy_molecules


def model_with_references() -> JMPModel:
    specs = [
        HeadSpec(
            name=name,
            graph=RULES,
            forces="gradient",
            energy_scale=2.0,
            references={1: -10.0, 8: -100.0, 14: -50.0},
        )
        for name in TOY_TASKS
    ]
    return JMPModel(TINY, specs)


def batch_of(tags: list[int]) -> TrainingBatch:
    """A water molecule labelled -130 eV, with forces of 1, 2 and 3 eV/Å along x."""
    atoms = toy_molecules(1)[0].to_atoms()
    forces = torch.zeros((3, 3), dtype=torch.float64)
    forces[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    return TrainingBatch(
        graph=build_graph(atoms, RULES, tags=tags),
        head=["qm7x"],
        energy=torch.tensor([-130.0], dtype=torch.float64),
        forces=forces,
        has_forces=torch.tensor([True]),
        n_atoms=torch.tensor([3]),
        index=torch.tensor([0]),
    )


def prediction(energy: float, force_x: float) -> Prediction:
    forces = torch.zeros((3, 3), dtype=torch.float64)
    forces[:, 0] = force_x
    energies = torch.tensor([energy], dtype=torch.float64)
    return Prediction(
        energy=energies, atom_energy=energies.repeat(3) / 3, forces=forces
    )


def test_errors_are_those_computed_by_hand() -> None:
    meter = ErrorMeter()
    meter.add(batch_of([2, 2, 2]), prediction(-127.0, 1.0), model_with_references())
    meter.add(batch_of([2, 2, 2]), prediction(-130.0, 2.0), model_with_references())
    errors = meter.errors()["qm7x"]
    assert (errors.n_systems, errors.n_force_components) == (2, 18)
    assert errors.energy_mae_eV == pytest.approx(3.0 / 2)
    assert errors.energy_mae_meV_per_atom == pytest.approx(500.0)
    # |1-1|+|2-1|+|3-1| = 3, then |1-2|+|2-2|+|3-2| = 2
    assert errors.force_mae_eV_per_A == pytest.approx((3 + 2) / 18)
    # The references alone give -120 eV.
    assert errors.baseline_energy_mae_meV_per_atom == pytest.approx(1e4 / 3)
    assert errors.baseline_force_mae_eV_per_A == pytest.approx(12 / 18)


def test_forces_on_fixed_atoms_are_not_scored() -> None:
    meter = ErrorMeter()
    meter.add(batch_of([0, 1, 2]), prediction(-130.0, 2.0), model_with_references())
    errors = meter.errors()["qm7x"]
    assert errors.n_force_components == 6
    assert errors.force_mae_eV_per_A == pytest.approx(1 / 6)


def test_without_force_labels_there_is_no_force_error() -> None:
    batch = batch_of([2, 2, 2])
    batch = replace(
        batch,
        forces=torch.full_like(batch.forces, math.nan),
        has_forces=torch.tensor([False]),
    )
    meter = ErrorMeter()
    meter.add(batch, prediction(-130.0, 0.0), model_with_references())
    errors = meter.errors()["qm7x"]
    assert errors.n_force_components == 0
    assert math.isnan(errors.force_mae_eV_per_A)
    assert errors.energy_mae_eV == 0


@pytest.fixture
def dataset(toy_stores) -> GraphDataset:
    stores = open_stores(toy_stores, list(TOY_TASKS), "train")
    return GraphDataset(stores, dict.fromkeys(TOY_TASKS, RULES))


def test_the_size_of_batches_does_not_change_the_errors(dataset) -> None:
    model = model_with_references().double()
    several, single = (
        evaluate_model(model, dataset, range(15), forces="gradient", max_atoms=n)
        for n in (20, 1)
    )
    assert list(several) == list(TOY_TASKS)
    for task in TOY_TASKS:
        one, other = several[task].to_json(), single[task].to_json()
        assert one == pytest.approx(other, rel=1e-9)


def test_the_error_of_a_system_is_its_distance_from_the_label(dataset) -> None:
    model = model_with_references().double()
    batch = join_batches([dataset[0]])
    raw = model(batch.graph, "qm7x", forces="gradient")
    energy = 2.0 * raw.energy - 120.0  # water: scale and references of the head
    errors = evaluate_model(model, dataset, [0], forces="gradient")["qm7x"]
    assert errors.energy_mae_eV == pytest.approx(abs(energy - batch.energy).item())
    force_error = (2.0 * raw.forces - batch.forces).abs().mean().item()
    assert errors.force_mae_eV_per_A == pytest.approx(force_error)


def test_scoring_leaves_the_mode_and_gradients_of_the_model_alone(dataset) -> None:
    model = model_with_references().train()
    evaluate_model(model, dataset, [0], forces="gradient")
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_same_samples_of_each_task_are_chosen_every_time(dataset) -> None:
    chosen = choose_samples(dataset, 3)
    assert (chosen == choose_samples(dataset, 3)).all()
    assert (chosen < 10).sum() == 3
    assert (chosen >= 10).sum() == 3
    assert len(set(chosen.tolist())) == 6
    np.testing.assert_array_equal(choose_samples(dataset, None), np.arange(15))
    np.testing.assert_array_equal(choose_samples(dataset, 7)[-5:], np.arange(10, 15))


def test_the_table_has_a_row_for_each_task(dataset) -> None:
    model = model_with_references()
    errors = evaluate_model(model, dataset, range(15), forces="gradient")
    lines = error_table(errors).splitlines()
    assert [line.split()[0] for line in lines] == ["task", "qm7x", "pbe"]
    assert f"{errors['pbe'].force_mae_eV_per_A:.4f}" in lines[2]
    assert len({len(line) for line in lines}) == 1
