"""The container: torch-geometric joins systems as the graph code does, and draws
repeat."""

from __future__ import annotations

import multiprocessing
import subprocess
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from jmp_calc.errors import DataError
from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules
from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.data.container import SystemData, graph_of
from jmp_train.data.store import Store, open_stores
from toys.joined import join_systems
from toys.training import RULES, TOY_TASKS, toy_molecules, write_store

SMOOTH = GraphRules(cutoff=3.0, quadruplet_cutoff=1.2, atom_atom_cutoff=4.0)
PUBLISHED = GraphRules(
    rules="published",
    cutoff=4.0,
    max_neighbors=5,
    radial_cutoff=12.0,
    quadruplet_tags=(1, 2),
)
SYSTEMS: tuple[Atoms, ...] = (
    Atoms("He", [[0.0, 0.0, 0.0]]),  # no edge at all
    Atoms("H2", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]),  # no quadruplet edge
    molecule("H2O"),
    molecule("CH3CH2OH"),
    bulk("Si"),
)


def assert_same(one: AtomGraph, other: AtomGraph) -> None:
    for field in fields(AtomGraph):
        a, b = getattr(one, field.name), getattr(other, field.name)
        parts = [(a, b)]
        if isinstance(a, EdgeSet):
            names = [f.name for f in fields(EdgeSet)]
            parts = [(getattr(a, name), getattr(b, name)) for name in names]
        for x, y in parts:
            assert x.dtype == y.dtype, field.name
            assert torch.equal(x, y), field.name


@settings(max_examples=40, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(range(len(SYSTEMS))), min_size=1, max_size=6),
    rules=st.sampled_from([SMOOTH, PUBLISHED]),
)
def test_torch_geometric_joins_systems_as_collate_does(chosen, rules) -> None:
    graphs = [build_graph(SYSTEMS[k], rules) for k in chosen]
    joined = Batch.from_data_list([SystemData.of(graph) for graph in graphs])
    assert_same(graph_of(joined), collate(graphs))


def test_a_system_counts_the_edges_of_its_graphs() -> None:
    graph = build_graph(molecule("CH4"), SMOOTH)
    data = SystemData.of(graph)
    assert {n: data.n_edges(n) for n in GRAPHS} == {
        n: getattr(graph, n).n_edges for n in GRAPHS
    }
    assert data.num_nodes == 5


def dataset(stores, **options: object) -> GraphDataset:
    opened = open_stores(stores, list(TOY_TASKS), "train")
    tasks = {name: TaskConfig(name=name, graph=RULES) for name in TOY_TASKS}
    return GraphDataset(opened, tasks, **options)


def edges_of(loaded: list[TrainingBatch]) -> list[list[int]]:
    return [batch.graph.atom_atom.source.tolist() for batch in loaded]


BATCHES = [[0, 1, 12], [3, 14], [5, 6], [11, 2]]


def test_a_draw_loses_edges_only_in_training(toy_stores) -> None:
    data = dataset(toy_stores, edge_dropout=0.5)
    whole = edges_of(list(build_loader(dataset(toy_stores), BATCHES, epoch=0)))
    assert edges_of(list(build_loader(data, BATCHES))) == whole
    dropped = edges_of(list(build_loader(data, BATCHES, epoch=0)))
    assert all(len(a) < len(b) for a, b in zip(dropped, whole, strict=True))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_dropped_edges_do_not_depend_on_who_builds_the_graph(toy_stores) -> None:
    data = dataset(toy_stores, edge_dropout=0.5, seed=3)
    alone = edges_of(list(build_loader(data, BATCHES, epoch=1)))
    shared = edges_of(list(build_loader(data, BATCHES, epoch=1, workers=2)))
    assert alone == shared


def test_a_resumed_epoch_drops_the_same_edges(toy_stores) -> None:
    data = dataset(toy_stores, edge_dropout=0.5)
    whole = edges_of(list(build_loader(data, BATCHES, epoch=1)))
    rest = build_loader(data, BATCHES[2:], epoch=1, numbers=[2, 3])
    assert edges_of(list(rest)) == whole[2:]


def test_every_visit_drops_other_edges(toy_stores) -> None:
    # methanol has 15 pairs within the cutoff: no choice comes twice in 12 draws
    data, batches = dataset(toy_stores, edge_dropout=0.5), [[3, 3], [3, 3]]
    loaded = [
        *build_loader(data, batches, epoch=0),
        *build_loader(data, batches, epoch=1),
        *build_loader(dataset(toy_stores, edge_dropout=0.5, seed=1), batches, epoch=0),
    ]
    drawn = set()
    for batch in loaded:
        for system in (0, 1):
            edges = batch.graph.atom_atom
            mine = batch.graph.system_index[edges.target] == system
            pairs = torch.stack([edges.source, edges.target])[:, mine] - 6 * system
            drawn.add(tuple(pairs.flatten().tolist()))
    assert len(drawn) == 12


def test_graphs_with_dropped_edges_are_not_kept(toy_stores) -> None:
    data = dataset(toy_stores, edge_dropout=0.5, cache=10)
    list(build_loader(data, BATCHES, epoch=0))
    whole = edges_of(list(build_loader(dataset(toy_stores), BATCHES)))
    assert edges_of(list(build_loader(data, BATCHES))) == whole


def test_loading_leaves_the_random_states_of_the_process(toy_stores) -> None:
    data = dataset(toy_stores, edge_dropout=0.5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(build_loader(data, BATCHES, epoch=0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_labels_that_are_absent_are_nan_and_marked(tmp_path) -> None:
    full, bare = toy_molecules(2)
    full = replace(full, stress=np.eye(3), targets={"gap": 2.5, "other": 1.0})
    fixed = np.array([True] * bare.n_atoms)
    bare = replace(bare, energy=None, forces=None, fixed=fixed)
    store = Store(write_store(tmp_path / "a-train", [full, bare]))
    task = TaskConfig(name="a", graph=RULES, kind="scalar", target="gap", forces=None)
    data = GraphDataset({"a": store}, {"a": task})
    batch = join_systems([data[0], data[1]])
    for name in ("energy", "forces", "stress", "target"):
        assert getattr(batch, f"has_{name}").tolist() == [True, False], name
    assert batch.energy[0] == full.energy
    assert batch.target[0] == 2.5
    assert torch.equal(batch.stress[0], torch.eye(3, dtype=torch.float64))
    assert (batch.forces[: full.n_atoms].numpy() == full.forces).all()
    parts = [batch.energy[1:], batch.target[1:], batch.stress[1], batch.forces[3:]]
    assert all(part.isnan().all() for part in parts)
    assert batch.is_fixed.tolist() == [False] * full.n_atoms + fixed.tolist()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_sample_is_told_in_the_words_of_the_store(
    toy_stores, monkeypatch, workers
) -> None:
    def damaged(_dataset: GraphDataset, index: int) -> None:
        raise DataError(f"record {index} is damaged")

    monkeypatch.setattr(GraphDataset, "sample", damaged)
    loader = build_loader(dataset(toy_stores), [[3]], workers=workers)
    with pytest.raises(DataError, match=r"^record 3 is damaged$"):
        list(loader)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_go_on_when_a_whole_job_is_told_to_stop(toy_stores) -> None:
    """The training process needs them to finish its step; it alone ends them."""
    samples = dataset(toy_stores)
    batches = iter(build_loader(samples, [[0]] * 40, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    for name in ("-TERM", "-INT", "-TERM"):
        subprocess.run(["kill", name, str(worker.pid)], check=True)
    assert len(list(batches)) == 39
    assert worker.exitcode == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_end_when_the_training_process_says_so(toy_stores) -> None:
    batches = iter(build_loader(dataset(toy_stores), [[0]] * 40, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(timeout=10)
    assert worker.exitcode == 0
