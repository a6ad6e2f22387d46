"""What every kind of head must do; new entries of ``HEADS`` join alone."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest
import torch

from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadKind
from jmp_calc.models.heads import HEADS
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import load_weights, save_weights
from toys.models import MODELS


@pytest.fixture(params=HEADS)
def model(request) -> JMPModel:
    toy = MODELS["smooth"]()
    specs = [replace(spec, kind=request.param) for spec in toy.heads.values()]
    return JMPModel(toy.config, specs).double()


def test_the_table_has_every_kind_that_a_weights_file_can_name() -> None:
    assert list(HEADS) == list(typing.get_args(HeadKind))


def test_a_head_survives_its_weights_file(model, tmp_path, water) -> None:
    save_weights(model, tmp_path / "m.safetensors")
    loaded = load_weights(tmp_path / "m.safetensors")
    assert loaded.heads == model.heads
    name, spec = next(iter(model.heads.items()))
    graph = build_graph(water, spec.graph)
    torch.testing.assert_close(
        loaded(graph, name).energy, model(graph, name).energy, rtol=0, atol=0
    )


def test_energies_of_atoms_add_up(model, water) -> None:
    name, spec = next(iter(model.heads.items()))
    found = model(build_graph(water, spec.graph), name)
    torch.testing.assert_close(found.energy, found.atom_energy.sum()[None])
