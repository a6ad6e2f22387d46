"""Many systems in few evaluations: how many, in which order, and with what results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from jmp_calc.calculator import JMPCalculator, Predictor, batches, evaluation, room
from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph.batch import collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.footprint import Footprint, bytes_per_main_edge
from toys.models import smooth_model

SIZES = ("H2O", "C6H6", "CH4", "CH3CH2OH", "H2", "C3H8", "NH3", "CO2")


def calls_of(calc: JMPCalculator, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list that gets the graph of every call of the network."""
    graphs: list[Any] = []
    forward = calc.model.forward

    def counted(graph: Any, *args: Any, **kwargs: Any) -> Any:
        graphs.append(graph)
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(calc.model, "forward", counted)
    return graphs


def limit_edges(
    calc: JMPCalculator, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Let batches hold that many main edges."""
    per_edge = bytes_per_main_edge(calc.model.config, calc.model.dtype)
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", {"cpu": most * per_edge})


@pytest.fixture
def mixed() -> list[Atoms]:
    frames = [molecule(name) for name in SIZES * 4]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=seed)
    return frames


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["head"] == other["head"]
    assert one["energy"] == pytest.approx(other["energy"], rel=1e-12)
    np.testing.assert_allclose(one["forces"], other["forces"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("limit", ["atoms", "edges"])
def test_results_of_batches_are_those_of_single_systems_in_order(
    smooth, monkeypatch, mixed, limit
) -> None:
    alone = [smooth.evaluate([atoms])[0] for atoms in mixed]
    if limit == "atoms":
        monkeypatch.setattr(batches, "MAX_BATCH_ATOMS", 30)
    else:
        limit_edges(smooth, monkeypatch, 150)
    graphs = calls_of(smooth, monkeypatch)
    for one, other in zip(smooth.evaluate(iter(mixed)), alone, strict=True):
        assert_same(one, other)
    assert len(graphs) > 4
    assert sum(graph.n_systems for graph in graphs) == len(mixed)
    for graph in graphs:
        size = graph.n_atoms if limit == "atoms" else graph.main.n_edges
        assert size <= (30 if limit == "atoms" else 150)


def test_systems_of_several_heads_share_a_batch(smooth, monkeypatch) -> None:
    frames = [molecule(name) for name in ("CH4", "CH3Cl", "CF4", "H2O", "CF4")]
    frames = [atoms for atoms in frames if "Cl" not in atoms.get_chemical_symbols()]
    alone = [smooth.evaluate([atoms])[0] for atoms in frames]
    assert {result["head"] for result in alone} == {"organic", "radicals"}
    graphs = calls_of(smooth, monkeypatch)
    for one, other in zip(smooth.evaluate(frames), alone, strict=True):
        assert_same(one, other)
    assert len(graphs) == 1


@pytest.mark.parametrize(("n", "per_batch"), [(7, 3), (12, 4), (40, 8), (5, 5)])
def test_the_network_is_called_once_per_batch(
    smooth, monkeypatch, n, per_batch
) -> None:
    frames = [molecule("CH4") for _ in range(n)]
    limit_edges(smooth, monkeypatch, per_batch * 20)
    graphs = calls_of(smooth, monkeypatch)
    smooth.evaluate(frames)
    assert len(graphs) == math.ceil(n / per_batch)


def test_a_system_above_the_limit_is_computed_alone(smooth, monkeypatch) -> None:
    limit_edges(smooth, monkeypatch, 3)
    graphs = calls_of(smooth, monkeypatch)
    smooth.evaluate([molecule("CH4"), molecule("C6H6"), molecule("CH4")])
    assert [graph.n_systems for graph in graphs] == [1, 1, 1]


def test_systems_alike_go_together(smooth, monkeypatch, mixed) -> None:
    limit_edges(smooth, monkeypatch, 400)
    graphs = calls_of(smooth, monkeypatch)
    smooth.evaluate(mixed)
    per_atom = [graph.main.n_edges / graph.n_atoms for graph in graphs]
    assert per_atom == sorted(per_atom)
    # in the order given, every batch would be as wide as benzene
    assert per_atom[-1] > 2 * per_atom[0]


def test_batches_are_computed_while_structures_are_still_read(
    smooth, monkeypatch
) -> None:
    limit_edges(smooth, monkeypatch, 40)
    graphs, calls_at = calls_of(smooth, monkeypatch), []

    def frames() -> Any:
        for _ in range(40):
            calls_at.append(len(graphs))
            yield molecule("CH4")

    smooth.evaluate(frames())
    assert calls_at[-1] >= 16


def test_atoms_without_neighbors_do_not_wait_for_all_that_come(
    smooth, monkeypatch
) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING", 10)
    graphs, calls_at = calls_of(smooth, monkeypatch), []

    def frames() -> Any:
        for _ in range(35):
            calls_at.append(len(graphs))
            yield Atoms("H")

    assert len(smooth.evaluate(frames())) == 35
    assert [graph.n_systems for graph in graphs] == [10, 10, 10, 5]
    assert calls_at[-1] == 3


def test_batches_are_smaller_where_little_memory_is_free(smooth, monkeypatch) -> None:
    frames, asked = [molecule("CH4") for _ in range(12)], []
    per_edge = bytes_per_main_edge(smooth.model.config, smooth.model.dtype)

    def free(device: Any) -> int:
        asked.append(device)
        return 4 * 3 * 20 * per_edge  # a quarter is three systems

    monkeypatch.setattr(batches, "free_memory", free)
    graphs = calls_of(smooth, monkeypatch)
    smooth.evaluate(frames)
    assert [graph.n_systems for graph in graphs] == [3] * 4
    assert len(asked) == 1


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError("9 GiB")],
)
def test_a_batch_that_is_too_large_is_computed_in_halves(
    smooth, monkeypatch, mixed, error
) -> None:
    alone = [smooth.evaluate([atoms])[0] for atoms in mixed[:8]]
    sizes: list[int] = []
    forward = smooth.model.forward

    def limited(graph: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(graph.n_systems)
        if graph.n_systems > 2:
            raise error
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(smooth.model, "forward", limited)
    found = smooth.evaluate(mixed[:8])
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_a_batch_that_cannot_fit_is_computed_in_halves_before_it_fails(
    smooth, monkeypatch
) -> None:
    frames = [molecule("CH4") for _ in range(8)]
    rules = smooth.model.heads["organic"].graph
    few = collate([build_graph(atoms, rules) for atoms in frames[:3]])
    need = Footprint.of(few, smooth.model.config, smooth.model.dtype)
    monkeypatch.setattr(room, "_ALWAYS_FITS", 0)
    monkeypatch.setattr(room, "_on_cpu", room._Done())
    monkeypatch.setattr(room, "has_fitted", lambda *_, **__: None)
    monkeypatch.setattr(evaluation, "has_fitted", lambda *_, **__: None)
    least = min(need.keeping, need.recomputing)
    monkeypatch.setattr(room, "free_memory", lambda _: least)
    graphs = calls_of(smooth, monkeypatch)
    found = smooth.evaluate(frames)
    assert len(found) == 8
    assert [graph.n_systems for graph in graphs] == [2] * 4


def test_a_system_that_does_not_fit_alone_is_named(smooth, monkeypatch) -> None:
    forward = smooth.model.forward

    def limited(graph: Any, *args: Any, **kwargs: Any) -> Any:
        if (graph.numbers == 6).sum() >= 6:
            raise MemoryError("9 GiB")
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(smooth.model, "forward", limited)
    frames = [molecule(name) for name in ("CH4", "NH3", "C6H6", "H2O")]
    with pytest.raises(
        UnsupportedSystemError, match="out of memory on 12 atoms"
    ) as told:
        smooth.evaluate(frames)
    assert told.value.__notes__ == ["this is structure 2 of the list"]


def test_predictors_compute_halves_as_well(monkeypatch, mixed) -> None:
    predictor = Predictor(smooth_model(), dtype="float64")
    alone = [predictor.predict([atoms])[0] for atoms in mixed[:4]]
    forward = predictor.model.forward

    def limited(graph: Any, *args: Any, **kwargs: Any) -> Any:
        if graph.n_systems > 1:
            raise MemoryError("9 GiB")
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(predictor.model, "forward", limited)
    for one, other in zip(predictor.predict(mixed[:4]), alone, strict=True):
        np.testing.assert_array_equal(one["forces"], other["forces"])


@pytest.mark.parametrize(("free", "expected"), [(None, [12]), (0, [1] * 12)])
def test_without_memory_systems_are_computed_one_by_one(
    smooth, monkeypatch, free, expected
) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda _: free)
    graphs = calls_of(smooth, monkeypatch)
    smooth.evaluate([molecule("CH4") for _ in range(12)])
    assert [graph.n_systems for graph in graphs] == expected
