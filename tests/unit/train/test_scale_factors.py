from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase.build import molecule

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.layers import ScaleFactor
from jmp_train.recipes.smoke import TINY
from jmp_train.scale_factors import fit_scale_factors
from toys.training import RULES, toy_molecules

# training.md, section 4: factors of an interaction block in the order of computation.
ORDER = [
    "triplet.scale_radial",
    "triplet.scale_sum",
    "quadruplet.scale_radial",
    "quadruplet.scale_circular",
    "quadruplet.scale_sum",
    "atom_to_edge.scale_radial",
    "atom_to_edge.scale_sum",
    "edge_to_atom.scale_radial",
    "edge_to_atom.scale_sum",
    "atom_to_atom.scale_sum",
    "atom_update.scale_sum",
]


def fresh_model(**changes: object) -> JMPModel:
    spec = HeadSpec(name="a", graph=RULES, forces="gradient")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return JMPModel(replace(TINY, **changes), [spec])


@pytest.fixture(scope="module")
def graphs() -> list[AtomGraph]:
    """Two batches of four molecules."""
    single = [build_graph(s.to_atoms(), RULES) for s in toy_molecules(8)]
    return [collate(single[:4]), collate(single[4:])]


def variance_of(rows: torch.Tensor) -> float:
    return float(rows.double().flatten(0, -2).var(dim=0).mean())


def observed(model: JMPModel, name: str, graph: AtomGraph) -> tuple[float, float, int]:
    """Variance of what enters a factor and of its reference, and the rows."""
    seen = []
    factor = model.get_submodule(name)
    assert isinstance(factor, ScaleFactor)
    factor.observe = lambda value, reference: seen.append((value, reference))
    with torch.no_grad():
        model.descriptors(graph)
    factor.observe = None
    ((value, reference),) = seen
    wanted = 1.0 if reference is None else variance_of(reference)
    return variance_of(value), wanted, value.numel() // value.shape[-1]


def test_every_factor_gives_its_value_the_variance_of_its_reference(graphs) -> None:
    model = fresh_model()
    factors = fit_scale_factors(model, graphs)
    for name, factor in factors.items():
        seen = [observed(model, name, graph) for graph in graphs]
        out = sum(rows * value for value, _, rows in seen)
        wanted = sum(rows * reference for _, reference, rows in seen)
        assert factor == pytest.approx((wanted / out) ** 0.5, rel=1e-5), name
        assert float(model.get_buffer(f"{name}.factor")) == pytest.approx(factor)


def test_all_factors_are_fitted_in_the_order_of_computation(graphs) -> None:
    told: list[str] = []
    model = fresh_model()
    fit_scale_factors(model, graphs, on_fit=lambda name, _factor: told.append(name))
    first = [f"backbone.blocks.0.{name}" for name in ORDER]
    assert [name for name in told if ".blocks.0." in name] == first
    outputs = [name for name in told if ".outputs." in name]
    assert outputs == [f"backbone.outputs.{i}.scale_sum" for i in (0, 1)]
    assert len(told) == len(first) + len(outputs)


def test_a_single_pass_agrees_with_one_pass_per_factor(graphs) -> None:
    """On one batch exactly, because later factors see the earlier ones either way."""
    slow, fast = fresh_model(), fresh_model()
    one = fit_scale_factors(slow, graphs[:1])
    other = fit_scale_factors(fast, graphs, is_single_pass=True)
    assert list(one) == list(other)
    assert list(other.values()) == pytest.approx(list(one.values()), rel=1e-4)


def test_factors_are_those_of_graphs_with_all_their_edges(graphs) -> None:
    """What training makes up for dropped edges must not enlarge sums over all."""
    plain, dropping = fresh_model(), fresh_model()
    dropping.backbone.edge_dropout = 0.5
    assert fit_scale_factors(dropping, graphs) == fit_scale_factors(plain, graphs)
    assert dropping.training


def test_fitting_does_not_change_weights(graphs) -> None:
    model = fresh_model()
    fit_scale_factors(model, graphs[:1])
    untouched = dict(fresh_model().named_parameters())
    assert all(torch.equal(p, untouched[n]) for n, p in model.named_parameters())


def test_a_fitted_network_is_not_fitted_again(graphs) -> None:
    model = fresh_model()
    fit_scale_factors(model, graphs[:1])
    with pytest.raises(
        ArgumentError, match=r"13 scale factors are fitted already.*fre"
    ):
        fit_scale_factors(model, graphs)


def test_there_must_be_graphs() -> None:
    with pytest.raises(ArgumentError, match="no graphs to fit scale factors to"):
        fit_scale_factors(fresh_model(), [])


def test_graphs_that_leave_a_factor_undetermined_are_an_error() -> None:
    diatomic = build_graph(molecule("CO"), RULES)
    with pytest.raises(DataError, match=r"scale factor .* cannot be fitted.*triplets"):
        fit_scale_factors(fresh_model(), [diatomic])
