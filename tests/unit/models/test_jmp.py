from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase.build import bulk, molecule

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import NANO, SIZES, GraphRules, HeadSpec, L, ModelConfig, S
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel, Prediction
from jmp_calc.models.physical import to_physical

RULES = GraphRules(cutoff=3.0)
TINY = replace(NANO, num_blocks=1, emb_size_atom=8, emb_size_edge=8)


def head(name: str = "a", **fields: object) -> HeadSpec:
    settings = {"name": name, "graph": RULES, "forces": "gradient", **fields}
    return HeadSpec(**settings)


def count(config: ModelConfig, heads: list[HeadSpec]) -> int:
    with torch.device("meta"):
        model = JMPModel(config, heads)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("config", "gradient", "direct", "pretraining"),
    [
        (S, 28_870_912, 40_186_624, 44_131_328),
        (L, 160_874_752, 220_878_080, 234_267_648),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(
    config: ModelConfig, gradient: int, direct: int, pretraining: int
) -> None:
    """gemnet_oc, section 10."""
    assert count(config, [head(has_energy_bias=False)]) == gradient
    config = replace(config, has_direct_forces=True)
    both = {"has_direct_forces": True}
    assert count(config, [head(has_energy_bias=False, **both)]) == direct
    assert count(config, [head(name, **both) for name in "abcd"]) == pretraining


def test_nano_is_small_enough_to_ship() -> None:
    bytes_float32 = 4 * count(SIZES["nano"], [head(name) for name in "abcd"])
    assert bytes_float32 < 12e6


def test_each_system_of_a_batch_can_have_its_own_head() -> None:
    model = JMPModel(TINY, [head("a"), head("b")]).double()
    graphs = [build_graph(molecule(name), RULES) for name in ("H2O", "CH4")]
    both = model(collate(graphs), ["a", "b"], forces="gradient")
    alone = [
        model(graph, name, forces="gradient")
        for graph, name in zip(graphs, "ab", strict=True)
    ]
    torch.testing.assert_close(both.energy, torch.cat([p.energy for p in alone]))
    torch.testing.assert_close(both.forces, torch.cat([p.forces for p in alone]))


def test_a_mean_head_divides_by_the_number_of_atoms() -> None:
    sum_model = JMPModel(TINY, [head()]).double()
    mean_model = JMPModel(TINY, [head(reduction="mean")]).double()
    mean_model.load_state_dict(sum_model.state_dict())
    graph = build_graph(molecule("CH4"), RULES)
    total, mean = sum_model(graph, "a").energy, mean_model(graph, "a").energy
    torch.testing.assert_close(mean, total / 5)


def test_an_unknown_head_is_an_error_that_lists_the_heads() -> None:
    model = JMPModel(TINY, [head("oc20"), head("ani1x")])
    graph = build_graph(molecule("H2O"), RULES)
    with pytest.raises(
        ArgumentError, match=r"'oc2O'.*oc20, ani1x.*did you mean 'oc20'"
    ):
        model(graph, "oc2O")
    with pytest.raises(ArgumentError, match="3 head names for 1 systems"):
        model(graph, ["oc20"] * 3)
    with pytest.raises(ArgumentError, match=r"no direct force head.*gradient"):
        model(graph, "oc20", forces="direct")


def test_heads_must_have_distinct_names_and_a_fitting_backbone() -> None:
    with pytest.raises(ArgumentError, match="distinct"):
        JMPModel(TINY, [head(), head()])
    with pytest.raises(ArgumentError, match="has_direct_forces=True"):
        JMPModel(TINY, [head(has_direct_forces=True)])


def test_prediction_makes_no_autograd_graph_unless_asked() -> None:
    model = JMPModel(TINY, [head()])
    graph = build_graph(molecule("H2O"), RULES)
    with torch.no_grad():
        result = model(graph, "a", forces="gradient", stress=True)
    assert not result.energy.requires_grad
    assert not result.forces.requires_grad
    assert result.virial.shape == (1, 3, 3)
    assert model(graph, "a", forces="gradient", create_graph=True).forces.requires_grad


@pytest.mark.parametrize("form", [freeze_, lambda model: model])
@pytest.mark.parametrize(
    "transform", [torch.func.grad, torch.func.jacrev, torch.func.hessian]
)
@pytest.mark.parametrize("method", ["forward", "descriptors"])
def test_transforms_of_torch_func_are_told_what_to_use(
    form: Callable[[JMPModel], JMPModel], transform: Any, method: str
) -> None:
    model = form(JMPModel(TINY, [head()]))
    graph = build_graph(molecule("H2O"), RULES)

    def total(positions: torch.Tensor) -> torch.Tensor:
        moved = graph.with_positions(positions, graph.cell)
        if method == "forward":
            return model(moved, "a").energy.sum()
        return model.descriptors(moved).sum()

    expected = r"torch.func \(vmap.*\), which cannot .*; ask it for forces .* collate"
    with pytest.raises(ArgumentError, match=expected):
        transform(total)(graph.positions)
    with pytest.raises(ArgumentError, match=expected):
        torch.func.vmap(total)(torch.stack([graph.positions] * 2))


def test_physical_energies_carry_scale_shift_and_references() -> None:
    graph = collate(
        [build_graph(molecule("H2O"), RULES), build_graph(bulk("Cu"), RULES)]
    )
    specs = [
        head(energy_scale=2.0, energy_shift=3.0, references={1: -10.0, 8: -100.0}),
        head(energy_scale=5.0, force_scale=7.0),
    ]
    net = Prediction(
        energy=torch.tensor([1.5, 2.0]),
        atom_energy=torch.tensor([0.5, 0.5, 0.5, 2.0]),
        forces=torch.ones(4, 3),
        virial=torch.ones(2, 3, 3),
    )
    result = to_physical(net, graph, specs, forces="gradient")
    assert result.energy.tolist() == [2.0 * 1.5 + 3.0 - 120.0, 10.0]
    torch.testing.assert_close(
        torch.stack([result.atom_energy[:3].sum(), result.atom_energy[3]]),
        result.energy,
    )
    assert result.forces[:, 0].tolist() == [2.0, 2.0, 2.0, 5.0]
    assert result.virial[:, 0, 0].tolist() == [2.0, 5.0]
    direct = to_physical(net, graph, specs, forces="direct")
    assert direct.forces[:, 0].tolist() == [1.0, 1.0, 1.0, 7.0]
