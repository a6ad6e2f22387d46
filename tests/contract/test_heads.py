"""What every kind of head must do; new entries of ``HEADS`` join alone."""

from __future__ import annotations

import typing

import pytest
import torch
from ase import Atoms
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadKind
from jmp_calc.models.heads import HEADS
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import load_weights, save_weights
from toys.models import SMOOTH, TARGETS, TINY, build, property_spec, spec


@pytest.fixture(params=HEADS)
def model(request) -> JMPModel:
    """A network with one head of the kind."""
    kind = request.param
    head = property_spec(kind) if kind in TARGETS else spec(kind)
    return build(TINY, head).double().eval()


def output(model: JMPModel, graph: AtomGraph) -> Tensor:
    """What the only head says about each system, network units."""
    name, head = next(iter(model.heads.items()))
    if head.target is None:
        return model(graph, name).energy[:, None]
    return model.predict_targets(graph, name)


def graph_of(atoms: Atoms) -> AtomGraph:
    return build_graph(atoms, SMOOTH)


def test_the_table_has_every_kind_that_a_weights_file_can_name() -> None:
    assert list(HEADS) == list(typing.get_args(HeadKind))


def test_every_kind_but_energies_has_a_toy_target() -> None:
    assert set(TARGETS) == set(HEADS) - {"energy_forces"}


def test_a_head_survives_its_weights_file(model, tmp_path, water) -> None:
    save_weights(model, tmp_path / "m.safetensors")
    loaded = load_weights(tmp_path / "m.safetensors")
    assert loaded.heads == model.heads
    graph = graph_of(water)
    assert torch.equal(output(loaded, graph), output(model, graph))


def test_there_is_one_row_per_system_and_the_stated_number_of_columns(
    model, water, ethanol
) -> None:
    n_outputs = next(iter(model.heads.values())).n_outputs
    found = output(model, collate([graph_of(water), graph_of(ethanol)]))
    assert found.shape == (2, n_outputs)
    assert found.dtype == torch.float64


def test_a_batch_gives_what_its_systems_give(model, water, ethanol) -> None:
    graphs = [graph_of(water), graph_of(ethanol)]
    alone = torch.cat([output(model, graph) for graph in graphs])
    # the order of sums in padded matrix products differs: a few roundings of float64
    torch.testing.assert_close(
        output(model, collate(graphs)), alone, rtol=1e-10, atol=1e-12
    )


def test_rotation_translation_and_order_of_atoms_change_nothing(model, ethanol) -> None:
    moved = ethanol[::-1]
    moved.rotate(40, (1.0, 2.0, 3.0))
    moved.translate((5.0, -3.0, 1.0))
    # angles and distances are recomputed from rotated positions: rounding of float64
    torch.testing.assert_close(
        output(model, graph_of(moved)),
        output(model, graph_of(ethanol)),
        rtol=1e-9,
        atol=1e-11,
    )


def test_a_lone_atom_has_a_finite_output(model, isolated_he) -> None:
    assert output(model, graph_of(isolated_he)).isfinite().all()


def test_every_parameter_of_the_head_is_used(model, ethanol, water) -> None:
    graph = collate([graph_of(ethanol), graph_of(water)])
    parameters = list(model.head_layers.parameters())
    loss = output(model, graph).square().sum()
    gradients = torch.autograd.grad(loss, parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
