"""The network for inference is the network, with less to remember."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import NANO, HeadSpec
from jmp_calc.models.frozen import functions
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel
from physics.networks import FACTOR, RULES, SIZES, tiny_model

EXACT = 1e-12
"""Relative to the largest magnitude, float64."""


def graph_of(rules: str, *systems: Atoms) -> AtomGraph:
    return collate([build_graph(atoms, RULES[rules]) for atoms in systems])


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.05, seed=1)
    return atoms


SYSTEMS = {
    "batch": lambda: (rattled(molecule("CH3CH2OH")), rattled(bulk("Si")), Atoms("He")),
    "linear molecule": lambda: (molecule("CO2"),),
    "lone atom": lambda: (Atoms("He"),),
}


def assert_same(model: JMPModel, graph: AtomGraph) -> None:
    frozen = freeze_(copy.deepcopy(model))
    for forces in ("gradient", "direct"):
        expected = model(graph, "task", forces=forces, stress=True)
        found = frozen(graph, "task", forces=forces, stress=True)
        for name in ("energy", "atom_energy", "forces", "virial"):
            one = getattr(expected, name).detach()
            other = getattr(found, name).detach()
            scale = float(one.abs().max())
            assert float((one - other).abs().max()) <= EXACT * max(scale, 1e-3), name


@pytest.mark.parametrize("kept", [functions.KEPT, 0], ids=["small", "large"])
@pytest.mark.parametrize("rules", ["smooth", "published"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_frozen_network_gives_what_the_network_gives(
    name: str, rules: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "KEPT", kept)
    model = tiny_model(rules)
    assert_same(model, graph_of(rules, *SYSTEMS[name]()))


@pytest.mark.parametrize(
    "shape",
    [
        # layers beside the main path may be left out
        {
            "num_before_skip": 0,
            "num_after_skip": 0,
            "num_concat": 0,
            "num_atom": 0,
            "num_output_afteratom": 0,
            "num_atom_emb_layers": 0,
            "num_global_out_layers": 0,
        },
        {"num_before_skip": 3, "num_after_skip": 2, "num_concat": 4, "num_atom": 3},
        # the sum over edges needs no layer to become atom features
        {"emb_size_atom": 12, "emb_size_edge": 12},
    ],
)
def test_any_shape_can_be_frozen(shape: dict[str, int]) -> None:
    config = replace(NANO, **{**SIZES, **shape}, has_direct_forces=True)
    spec = HeadSpec(
        name="task", graph=RULES["smooth"], forces="gradient", has_direct_forces=True
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = JMPModel(config, [spec]).double()
    for name, buffer in model.named_buffers():
        if name.endswith("factor"):
            buffer.fill_(FACTOR)
    assert_same(model, graph_of("smooth", rattled(molecule("CH3CH2OH"))))


def test_freezing_twice_changes_nothing() -> None:
    frozen = freeze_(tiny_model("smooth"))
    graph = graph_of("smooth", molecule("H2O"))
    before = frozen(graph, "task").energy
    assert torch.equal(freeze_(frozen)(graph, "task").energy, before)


def test_a_frozen_network_refuses_second_derivatives() -> None:
    frozen = freeze_(tiny_model("smooth"))
    graph = graph_of("smooth", molecule("H2O"))
    forces = frozen(graph, "task", forces="gradient", create_graph=True).forces
    with pytest.raises(RuntimeError, match="differentiate"):
        forces.sum().backward()


def bytes_kept(model: JMPModel, graph: AtomGraph) -> int:
    """Memory of what is kept between the energy and its derivative."""
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(graph, "task", forces="gradient")
    weights = [*model.parameters(), *model.buffers()]
    for weight in weights:
        kept.pop(weight.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def test_a_frozen_network_keeps_fewer_edge_features_for_the_forces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(functions, "KEPT", 0)  # as of large graphs
    graph = graph_of("smooth", rattled(molecule("CH3CH2OH")))
    spec = HeadSpec(name="task", graph=RULES["smooth"], forces="gradient")

    def kept_by_width(freeze: bool) -> int:
        """Bytes by which an edge width of 64 instead of 32 shows."""
        found = []
        for width in (32, 64):
            config = replace(NANO, **{**SIZES, "emb_size_edge": width})
            model = JMPModel(config, [spec]).requires_grad_(False).eval()
            found.append(bytes_kept(freeze_(model) if freeze else model, graph))
        return found[1] - found[0]

    assert kept_by_width(freeze=True) < 2 / 3 * kept_by_width(freeze=False)
