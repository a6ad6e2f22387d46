"""Blocks computed again for the derivative: the same numbers in less memory."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import NANO, HeadSpec, ModelConfig, S
from jmp_calc.models.footprint import Footprint
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel
from physics.networks import RULES, tiny_model
from toys.memory import LiveBytes

ESTIMATE = 0.25
"""How far the estimate may be from what is kept, relative."""
OF_S = GraphRules(
    rules="published",
    cutoff=12.0,
    max_neighbors=30,
    radial_cutoff=12.0,
    is_periodic=True,
)
OF_NANO = GraphRules(
    cutoff=5.0, atom_edge_cutoff=5.0, quadruplet_cutoff=4.0, atom_atom_cutoff=6.0
)


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=1)
    return atoms


def graph_of(rules: str) -> AtomGraph:
    systems = rattled(molecule("CH3CH2OH")), rattled(bulk("Si")), Atoms("He")
    return collate([build_graph(atoms, RULES[rules]) for atoms in systems])


def network(config: ModelConfig, rules: GraphRules) -> JMPModel:
    spec = HeadSpec(name="task", graph=rules, forces="gradient")
    return freeze_(JMPModel(config, [spec]))


def peak(model: JMPModel, graph: AtomGraph, *, recompute: bool) -> int:
    with LiveBytes() as live:
        model(graph, "task", forces="gradient", recompute=recompute)
    return live.peak


@pytest.mark.parametrize("rules", ["smooth", "published"])
@pytest.mark.parametrize("is_frozen", [True, False])
@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_results_are_the_same_to_the_last_bit(
    rules: str, is_frozen: bool, forces: Any
) -> None:
    model, graph = tiny_model(rules).float(), graph_of(rules)
    model = freeze_(model) if is_frozen else model
    expected = model(graph, "task", forces=forces, stress=True)
    found = model(graph, "task", forces=forces, stress=True, recompute=True)
    for name in ("energy", "atom_energy", "forces", "virial"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_second_derivatives_stay_the_same_to_rounding() -> None:
    model, graph = tiny_model("smooth"), graph_of("smooth")
    gradients = []
    for recompute in (False, True):
        twin = copy.deepcopy(model)
        found = twin(
            graph, "task", forces="gradient", create_graph=True, recompute=recompute
        )
        found.forces.square().sum().backward()
        gradients.append([x.grad for x in twin.parameters() if x.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("forces", "recompute", "expected"),
    [("gradient", True, 2), ("gradient", False, 1), ("direct", True, 1)],
)
def test_blocks_are_computed_again_only_for_a_derivative(
    forces: Any, recompute: bool, expected: int
) -> None:
    model, graph, calls = tiny_model("smooth"), graph_of("smooth"), [0]
    block = model.backbone.blocks[0]
    forward = block.forward

    def counted(*args: Any) -> Any:
        calls[0] += 1
        return forward(*args)

    block.forward = counted
    model(graph, "task", forces=forces, recompute=recompute)
    assert calls[0] == expected


def test_memory_no_longer_grows_by_a_block_with_every_block() -> None:
    graph = build_graph(rattled(bulk("NaCl", "rocksalt", a=5.6)), OF_NANO)
    kept, again = (
        [
            peak(network(replace(NANO, num_blocks=n), OF_NANO), graph, recompute=way)
            for n in (8, 12)
        ]
        for way in (False, True)
    )
    row = graph.main.n_edges * NANO.emb_size_edge * 4
    assert kept[1] - kept[0] > 4 * 30 * row
    assert again[1] - again[0] < 4 * 4 * row


@pytest.mark.parametrize(
    ("config", "rules", "atoms"),
    [
        (replace(S, num_blocks=2), OF_S, bulk("NaCl", "rocksalt", a=5.6)),
        (replace(S, num_blocks=2), OF_S, molecule("C6H6", vacuum=7)),
        (NANO, OF_NANO, bulk("NaCl", "rocksalt", a=5.6)),
        (NANO, OF_NANO, molecule("C6H6")),
        (replace(NANO, num_blocks=5, num_concat=2), OF_NANO, molecule("C6H6")),
    ],
)
def test_memory_is_known_in_advance(
    config: ModelConfig, rules: GraphRules, atoms: Atoms
) -> None:
    graph = build_graph(rattled(atoms), rules)
    model = network(config, rules)
    expected = Footprint.of(graph, config, torch.float32)
    found = peak(model, graph, recompute=False)
    assert found == pytest.approx(expected.keeping, rel=ESTIMATE)
    found = peak(model, graph, recompute=True)
    assert found == pytest.approx(expected.recomputing, rel=ESTIMATE)


def test_memory_grows_with_edges_and_precision() -> None:
    graph = build_graph(molecule("C6H6"), OF_NANO)
    one = Footprint.of(graph, NANO, torch.float32)
    many = Footprint.of(collate([graph] * 5), NANO, torch.float32)
    fine = Footprint.of(graph, NANO, torch.float64)
    assert many.keeping == pytest.approx(5 * one.keeping, rel=1e-6)
    assert fine.recomputing == pytest.approx(2 * one.recomputing, rel=1e-6)
    lone = Footprint.of(build_graph(Atoms("He"), OF_NANO), NANO, torch.float32)
    assert 0 < lone.keeping < lone.recomputing < 10_000
