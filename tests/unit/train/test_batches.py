from __future__ import annotations

import numpy as np
import pytest
import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.data.store import open_stores
from toys.joined import join_systems
from toys.training import RULES, TOY_TASKS

TASKS = {name: TaskConfig(name=name, graph=RULES) for name in TOY_TASKS}


@pytest.fixture
def dataset(toy_stores) -> GraphDataset:
    """Ten molecules, then five crystals."""
    stores = open_stores(toy_stores, list(TOY_TASKS), "train")
    return GraphDataset(stores, TASKS)


def test_samples_count_through_the_tasks_in_order(dataset) -> None:
    assert len(dataset) == 15
    assert dataset.sizes == (10, 5)
    tasks = [dataset.task_of(i) for i in range(15)]
    assert tasks == ["qm7x"] * 10 + ["pbe"] * 5


def test_an_item_holds_the_labels_of_its_sample(dataset) -> None:
    sample = dataset.stores["pbe"][1]
    item = join_systems([dataset[11]])
    assert item.head == ["pbe"]
    assert item.energy.item() == sample.energy
    assert (item.forces.numpy() == sample.forces).all()
    assert item.graph.numbers.tolist() == sample.numbers.tolist()
    assert item.graph.tags.tolist() == sample.tags.tolist()
    assert item.graph.cell[0].tolist() == sample.cell.tolist()
    assert item.index.tolist() == [11]


@pytest.mark.parametrize("index", [-1, 15])
def test_an_index_beyond_the_end_is_an_error(dataset, index) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 15"):
        dataset[index]


def test_the_cost_is_the_scarcer_of_atoms_and_pairs(dataset) -> None:
    atoms, pairs = dataset.n_atoms, dataset.n_pairs
    every = np.arange(len(dataset))
    np.testing.assert_allclose(dataset.costs(every, max_atoms=10), atoms / 10)
    both = dataset.costs(every, max_atoms=10, max_pairs=40)
    np.testing.assert_allclose(both, np.maximum(atoms / 10, pairs / 40))
    assert (both > atoms / 10).any()
    assert (both == atoms / 10).any()


def test_joined_batches_keep_atoms_and_labels_together(dataset) -> None:
    (batch,) = build_loader(dataset, [[12, 0, 3]])
    assert batch.head == ["pbe", "qm7x", "qm7x"]
    assert batch.index.tolist() == [12, 0, 3]
    assert batch.n_systems == 3
    start = 0
    for system, index in enumerate((12, 0, 3)):
        alone = join_systems([dataset[index]])
        stop = start + int(alone.n_atoms)
        assert torch.equal(batch.forces[start:stop], alone.forces)
        assert torch.equal(batch.graph.positions[start:stop], alone.graph.positions)
        assert (batch.graph.system_index[start:stop] == system).all()
        start = stop
    assert batch.n_atoms.sum() == start == len(batch.forces)


def test_a_batch_moves_as_a_whole(dataset) -> None:
    moved = join_systems([dataset[0]]).to("meta")
    tensors = [moved.energy, moved.forces, moved.has_stress, moved.target, moved.index]
    assert {t.device.type for t in [*tensors, moved.graph.main.source]} == {"meta"}


def test_the_cache_keeps_as_many_graphs_as_it_may(toy_stores) -> None:
    stores = open_stores(toy_stores, list(TOY_TASKS), "train")
    dataset = GraphDataset(stores, TASKS, cache=2)
    assert dataset[0] is dataset[0]
    assert dataset[1] is dataset[1]
    assert dataset[2] is not dataset[2]


def indices(loaded: list[TrainingBatch]) -> list[list[int]]:
    return [batch.index.tolist() for batch in loaded]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_given_whoever_builds_them(dataset, workers) -> None:
    wanted = [[i, 14 - i] for i in range(7)]
    loaded = list(build_loader(dataset, wanted, workers=workers))
    assert indices(loaded) == wanted
    assert torch.equal(loaded[3].energy[:1], dataset[3].energy)


def test_there_is_one_number_per_batch(dataset) -> None:
    with pytest.raises(ArgumentError, match="1 numbers for 2 batches"):
        build_loader(dataset, [[0], [1]], epoch=0, numbers=[4])
