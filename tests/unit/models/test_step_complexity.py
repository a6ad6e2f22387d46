"""How the largest array of a training step on forces grows: never as quadruplets do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import GraphRules, Rules
from jmp_calc.models.jmp import JMPModel
from oracle.network import EnumeratedNetwork
from physics.networks import tiny_model
from toys.memory import Arrays

N_SPHERICAL = 3
HARMONICS = 2 * N_SPHERICAL**2
"""Numbers per pair of edges of an atom, in the largest table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step takes, in numbers of floats, and how many of what there is."""

    largest: int
    edges: int
    edge_pairs: int
    """Pairs of edges that end at the same atom, in padded tables."""
    quadruplets: int


def network(rules: Rules) -> JMPModel:
    """A network that is small beside its graphs."""
    model = tiny_model(rules)
    config = replace(model.config, num_spherical=N_SPHERICAL, has_direct_forces=False)
    torch.manual_seed(0)
    return JMPModel(config, [replace(model.heads["task"], has_direct_forces=False)])


def graph_of(atoms: Atoms, rules: Rules, cutoff: float) -> AtomGraph:
    """Every edge within a cutoff."""
    limits = GraphRules(
        rules=rules,
        cutoff=cutoff,
        max_neighbors=1000 if rules == "published" else None,
        is_periodic=False,
    )
    return build_graph(atoms, limits)


def line(n: int) -> Atoms:
    """Atoms on a crooked line: as many neighbours for each, whatever its length."""
    k = np.arange(n)
    positions = np.stack([1.2 * k, np.sin(k), np.cos(1.7 * k)], axis=1)
    return Atoms("C" * n, positions)


def cluster(n: int) -> Atoms:
    """Atoms that all see each other."""
    generator = np.random.default_rng(0)
    return Atoms("C" * n, generator.normal(0, 2, (n, 3)))


def train(model: JMPModel, graph: AtomGraph) -> None:
    """Forces, a loss of them, and its derivatives by all weights."""
    found = model(graph, "task", forces="gradient", create_graph=True)
    assert found.forces is not None
    (found.energy.sum() + found.forces.square().sum()).backward()


def step(model: JMPModel, atoms: Atoms, cutoff: float) -> Step:
    graph = graph_of(atoms, model.config.rules, cutoff)
    with Arrays() as seen:
        train(model.double(), graph)
    width, q_width = (
        int(torch.bincount(edges.target).max())
        for edges in (graph.main, graph.quadruplet)
    )
    oracle = EnumeratedNetwork(model, graph)
    return Step(
        largest=seen.largest,
        edges=graph.main.n_edges,
        edge_pairs=graph.n_atoms * width * q_width,
        quadruplets=oracle.topology.quadruplets.shape[1],
    )


@pytest.mark.parametrize("rules", ["smooth", "published"])
def test_twice_the_atoms_make_the_largest_array_twice_as_large(rules: Any) -> None:
    model = network(rules)
    short, long = (step(model, line(n), cutoff=4.0) for n in (24, 48))
    assert long.edges > 2 * short.edges  # both ends have fewer
    assert long.largest <= 2.1 * short.largest


@pytest.mark.parametrize("rules", ["smooth", "published"])
def test_no_array_grows_as_the_quadruplets_with_the_neighbours(rules: Any) -> None:
    """Not forward, nor backward, nor where that is differentiated again."""
    model = network(rules)
    few, many = (step(model, cluster(n), cutoff=30.0) for n in (12, 30))
    assert many.quadruplets > 2 * few.quadruplets * (many.edge_pairs / few.edge_pairs)
    for found in (few, many):
        assert found.largest <= HARMONICS * found.edge_pairs
    assert many.largest < many.quadruplets


def test_the_enumerated_network_makes_such_arrays() -> None:
    """The measure of the tests above sees them."""
    model = network("published").double()
    graph = graph_of(cluster(12), "published", cutoff=30.0)
    oracle = EnumeratedNetwork(model, graph)
    with Arrays() as seen:
        train(oracle, graph)
    assert seen.largest >= N_SPHERICAL**2 * oracle.topology.quadruplets.shape[1]
