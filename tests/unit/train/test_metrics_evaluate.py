from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.store import open_stores
from jmp_train.metrics import (
    ErrorMeter,
    choose_samples,
    error_table,
    evaluate_model,
    predict_batch,
    predictions,
)
from toys.batches import GAP, METAL, silicon, targets, toy_model, water
from toys.joined import join_systems
from toys.training import RULES, TOY_TASKS


def dataset_of(folder, names: dict[str, str]) -> GraphDataset:
    """The stores on the right under the names of tasks on the left."""
    stores = open_stores(folder, list(TOY_TASKS), "train")
    kinds = {"gap": GAP, "metal": METAL}
    tasks = {}
    for name in names:
        head = kinds.get(name)
        tasks[name] = TaskConfig(
            name=name,
            graph=RULES,
            kind="energy_forces" if head is None else head.kind,
            forces="gradient" if head is None else None,
            target=None if head is None or head.target is None else head.target.name,
        )
    return GraphDataset({name: stores[of] for name, of in names.items()}, tasks)


@pytest.fixture
def dataset(toy_stores) -> GraphDataset:
    return dataset_of(toy_stores, {"qm7x": "qm7x", "pbe": "pbe"})


def test_the_size_of_batches_does_not_change_the_errors(dataset) -> None:
    model = toy_model().double()
    several, single = (
        evaluate_model(model, dataset, range(15), forces="gradient", max_atoms=n)
        for n in (20, 1)
    )
    assert list(several) == list(TOY_TASKS)
    for task in TOY_TASKS:
        one, other = several[task].to_json(), single[task].to_json()
        assert one == pytest.approx(other, rel=1e-9)


def test_the_error_of_a_system_is_its_distance_from_the_label(dataset) -> None:
    model = toy_model().double()
    batch = join_systems([dataset[0]])
    raw = model(batch.graph, "qm7x", forces="gradient")
    energy = 2.0 * raw.energy - 120.0  # water: scale and references of the head
    errors = evaluate_model(model, dataset, [0], forces="gradient")["qm7x"]
    assert errors.energy_mae_eV == pytest.approx(abs(energy - batch.energy).item())
    force_error = (2.0 * raw.forces - batch.forces).abs().mean().item()
    assert errors.force_mae_eV_per_A == pytest.approx(force_error)


def test_the_predicted_stress_is_the_derivative_of_the_energy_by_strain() -> None:
    model, batch = toy_model().double(), silicon()
    found = predict_batch(model, batch, forces="gradient")
    step, cell, at = 1e-5, batch.graph.cell, batch.graph.positions
    change = []
    for sign in (1, -1):
        strain = torch.zeros((3, 3), dtype=torch.float64)
        strain[0, 1] = strain[1, 0] = sign * step / 2
        moved = batch.graph.with_positions(at + at @ strain, cell + cell @ strain)
        change.append(2.0 * model(moved, "pbe").energy.item())
    slope = (change[0] - change[1]) / (2 * step) / torch.linalg.det(cell).abs().item()
    assert found.stress is not None
    # central differences of a float64 network: 1e-5 of its size
    assert found.stress[0, 0, 1].item() == pytest.approx(slope, rel=1e-4)


def test_a_target_is_predicted_in_its_unit() -> None:
    model, batch = toy_model().double(), water("gap", target=1.0)
    raw = model.predict_targets(batch.graph, "gap").item()
    found = predict_batch(model, batch, forces=None)
    assert found.energy is None
    assert found.target is not None
    assert found.target.item() == pytest.approx(2.0 * raw + 1.0 + 3.0)


def test_without_forces_there_are_no_force_errors(dataset) -> None:
    errors = evaluate_model(toy_model(), dataset, [0], forces=None)["qm7x"]
    assert errors.n_energies == 1
    assert errors.n_force_components == 0


def test_scoring_leaves_the_mode_and_gradients_of_the_model_alone(dataset) -> None:
    model = toy_model().train()
    evaluate_model(model, dataset, [0], forces="gradient")
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_heads_of_energies_and_of_targets_do_not_share_a_batch(toy_stores) -> None:
    dataset = dataset_of(toy_stores, {"qm7x": "qm7x", "gap": "qm7x"})
    heads = [
        set(batch.head)
        for batch, _ in predictions(
            toy_model(), dataset, [8, 9, 10, 11], forces="gradient", max_atoms=1000
        )
    ]
    assert heads == [{"qm7x"}, {"gap"}]


def test_the_same_samples_of_each_task_are_chosen_every_time(dataset) -> None:
    chosen = choose_samples(dataset, 3)
    assert (chosen == choose_samples(dataset, 3)).all()
    assert (chosen < 10).sum() == 3
    assert (chosen >= 10).sum() == 3
    assert len(set(chosen.tolist())) == 6
    np.testing.assert_array_equal(choose_samples(dataset, None), np.arange(15))
    np.testing.assert_array_equal(choose_samples(dataset, 7)[-5:], np.arange(10, 15))


def test_the_table_has_a_row_for_each_task(dataset) -> None:
    errors = evaluate_model(toy_model(), dataset, range(15), forces="gradient")
    lines = error_table(errors).splitlines()
    assert [line.split()[0] for line in lines] == ["task", "qm7x", "pbe"]
    assert f"{1000 * errors['pbe'].force_mae_eV_per_A:.2f}" in lines[2]
    assert len({len(line) for line in lines}) == 1


def test_a_kept_data_set_with_a_cache_builds_each_graph_once(
    toy_stores, monkeypatch
) -> None:
    stores = open_stores(toy_stores, ["qm7x"], "val")
    tasks = {"qm7x": TaskConfig(name="qm7x", graph=RULES)}
    dataset = GraphDataset(stores, tasks, cache=2)
    seen = []
    build = GraphDataset._build
    monkeypatch.setattr(
        GraphDataset, "_build", lambda *words: seen.append(words[1]) or build(*words)
    )
    for _ in range(2):
        evaluate_model(toy_model(), dataset, range(3), forces="gradient")
    assert seen == [0, 1, 2, 2]  # the third does not fit in


def summed(meters: list[ErrorMeter], dataset: GraphDataset) -> list[ErrorMeter]:
    """The meters of several processes after they have summed what they counted."""
    sent: list[Tensor] = []

    def listen(value: Tensor) -> Tensor:
        sent.append(value.clone())
        return value

    for meter in meters:
        deepcopy(meter).sum_over_processes(listen, dataset, "cpu")
    total = torch.stack(sent).sum(0)
    for meter in meters:
        meter.sum_over_processes(lambda _: total, dataset, "cpu")
    return meters


def test_processes_that_share_the_samples_find_the_errors_of_one(dataset) -> None:
    model = toy_model().double()
    meters = []
    # the second has no sample of the second task
    for share in ([0, 3, 10, 11, 12, 13, 14], [1, 2, 4, 5, 6, 7, 8, 9], range(15)):
        meter = ErrorMeter(model, dataset.tasks)
        for batch, prediction in predictions(model, dataset, share, forces="gradient"):
            meter.add(batch, prediction)
        meters.append(meter)
    alone = meters.pop().errors()
    for meter in summed(meters, dataset):
        for key, errors in meter.errors().items():
            assert errors.to_json() == pytest.approx(alone[key].to_json(), rel=1e-12)


def test_processes_find_the_area_under_the_curve_of_one(toy_stores) -> None:
    dataset = dataset_of(toy_stores, {"metal": "qm7x"})
    labels, scores = [0, 1, 0, 1, 1, 0, 1], [0.1, 0.4, 0.4, 0.8, 0.2, 0.3, 0.9]

    def meter_of(samples: list[int]) -> ErrorMeter:
        meter = ErrorMeter(toy_model())
        for i in samples:
            batch = water("metal", target=float(labels[i]))
            batch.index[0] = i
            meter.add(batch, targets(scores[i]))
        return meter

    alone = meter_of([0, 1, 2, 3, 4, 5, 6]).errors()["metal",]
    for meter in summed([meter_of([5, 1, 6]), meter_of([0, 2, 3, 4])], dataset):
        found = meter.errors()["metal",]
        assert found.classes is not None
        assert alone.classes is not None
        assert found.classes.roc_auc == alone.classes.roc_auc
        assert found.classes.confusion == alone.classes.confusion
