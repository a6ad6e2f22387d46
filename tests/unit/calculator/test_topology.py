"""What travels to the device while a structure moves."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch.utils._python_dispatch import TorchDispatchMode

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator.engine import Engine
from jmp_calc.calculator.topology import TopologyOnDevice
from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.graph.rules import GraphRules
from toys.models import smooth_model

RULES = GraphRules(cutoff=4.0, quadruplet_cutoff=3.0, atom_atom_cutoff=4.5)
ELSEWHERE = torch.device("meta")


class Copies(TorchDispatchMode):
    """Counts tensors that are copied, as from device to device."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


def n_copies(topology: TopologyOnDevice, graph: AtomGraph) -> int:
    with Copies() as copies:
        moved = topology.move(graph)
    assert moved.positions.device == moved.swap.device == ELSEWHERE
    return copies.n


def n_tensors(graph: AtomGraph) -> int:
    n_edge_sets = sum(
        isinstance(getattr(graph, field.name), EdgeSet) for field in fields(graph)
    )
    return len(fields(graph)) + n_edge_sets * (len(fields(EdgeSet)) - 1)


def test_only_positions_and_cell_travel_while_the_topology_stays() -> None:
    atoms, topology = molecule("CH3CH2OH"), TopologyOnDevice(ELSEWHERE)
    motion = GraphInMotion(RULES)
    first = motion.build(atoms)
    assert n_copies(topology, first) == n_tensors(first)
    for _ in range(3):
        atoms.positions += 1e-4
        assert n_copies(topology, motion.build(atoms)) == 2


def test_a_new_topology_travels_as_a_whole() -> None:
    atoms, topology = molecule("CH3CH2OH"), TopologyOnDevice(ELSEWHERE)
    motion = GraphInMotion(RULES)
    n_copies(topology, motion.build(atoms))
    atoms.positions[0] += 1.0
    graph = motion.build(atoms)
    assert motion.n_topologies == 2
    assert n_copies(topology, graph) == n_tensors(graph)


@pytest.mark.parametrize(
    "build", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_keep_nothing(build) -> None:
    topology, graph = (
        TopologyOnDevice(ELSEWHERE),
        GraphInMotion(RULES).build(Atoms("H")),
    )
    n_copies(topology, graph)
    assert n_copies(build(topology), graph) == n_tensors(graph)


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_results_of_a_walk_equal_those_of_fresh_graphs(name, monkeypatch) -> None:
    atoms = molecule("CH3CH2OH") if name == "molecule" else bulk("Cu", cubic=True)
    calc = JMPCalculator(smooth_model(), dtype="float64")
    random = np.random.default_rng(0)
    moved: Counter[str] = Counter()
    to, with_positions = AtomGraph.to, AtomGraph.with_positions

    def counted_to(self, device):
        moved["all"] += 1
        return to(self, device)

    def counted_part(self, positions, cell):
        moved["part"] += 1
        return with_positions(self, positions, cell)

    monkeypatch.setattr(AtomGraph, "to", counted_to)
    monkeypatch.setattr(AtomGraph, "with_positions", counted_part)
    properties = ["energy", "forces"]
    for step in range(8):
        atoms.positions += random.normal(
            scale=0.2 if step == 4 else 1e-4, size=(len(atoms), 3)
        )
        if name == "crystal":
            atoms.set_cell(atoms.cell.array * 1.0001)
        calc.calculate(atoms, properties)
        found = dict(calc.results)
        before = moved.copy()
        (fresh,) = calc.evaluate([atoms], properties)
        moved = before
        assert found["energy"] == fresh["energy"]
        np.testing.assert_array_equal(found["forces"], fresh["forces"])
    assert calc._motion is not None
    assert moved["all"] == calc._motion.n_topologies < 8


ASKS = ("_local_scalar_dense", "nonzero", "equal", "bincount", "_unique2", "is_nonzero")
"""Operations whose result, or its size, the CPU has to wait for."""


class Questions(TorchDispatchMode):
    """Takes down what the CPU wants to know of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        chosen = (
            args[1] if name.startswith("index") and isinstance(args[1], list) else []
        )
        if name in ASKS or any(getattr(x, "dtype", None) == torch.bool for x in chosen):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_the_network_waits_for_no_number_while_the_topology_stays(
    name, monkeypatch
) -> None:
    atoms = molecule("CH3CH2OH") if name == "molecule" else bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    calc = JMPCalculator(smooth_model())
    forward, asked = calc.model.forward, []

    def watched(*args, **kwargs):
        with Questions() as questions:
            found = forward(*args, **kwargs)
        asked.append(questions.found)
        return found

    monkeypatch.setattr(calc.model, "forward", watched)
    properties = ["energy", "forces"] + ["stress"] * (name == "crystal")
    for _ in range(3):
        atoms.positions += 1e-5
        atoms.positions[0] += 1e-5
        calc.calculate(atoms, properties)
    first, *then = asked
    assert first  # the layout of a new topology
    assert then == [[], []]


def test_the_topology_follows_a_network_that_was_moved() -> None:
    engine = Engine(smooth_model())
    before = engine._topology_for(engine.model)
    assert engine._topology_for(engine.model) is before
    engine.model.to(ELSEWHERE)
    assert engine._topology_for(engine.model).device.type == ELSEWHERE.type
