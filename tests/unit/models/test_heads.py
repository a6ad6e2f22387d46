"""Property heads: reductions, shapes of their networks, and physical values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import S, TargetSpec
from jmp_calc.models.heads import HEADS, ScalarHead
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import target_references, targets_to_physical
from toys.models import (
    SMOOTH,
    TARGETS,
    TINY,
    build,
    property_model,
    property_spec,
    smooth_model,
    spec,
)

TOLERANCE_16_BITS = {torch.bfloat16: 50 * 2.0**-9, torch.float16: 50 * 2.0**-12}
"""Relative error: one rounding of the type times the roundings that follow each other
in the two dozen layers and their two derivatives. That it is eight times smaller for
float16 shows that it is rounding; a wrong formula would not care."""

WATER, METHANE = molecule("H2O"), molecule("CH4")


def batch() -> AtomGraph:
    return collate([build_graph(WATER, SMOOTH), build_graph(METHANE, SMOOTH)])


def scalar(**fields: object) -> ScalarHead:
    target = replace(TARGETS["scalar"], **fields)
    head = HEADS["scalar"](TINY, property_spec("scalar", target=target))
    assert isinstance(head, ScalarHead)
    return head.double()


@pytest.mark.parametrize(
    ("reduction", "reduce"), [("sum", np.sum), ("mean", np.mean), ("max", np.max)]
)
def test_a_reduction_is_over_the_atoms_of_each_system(reduction, reduce) -> None:
    head, graph = scalar(reduction=reduction), batch()
    atom = torch.randn(
        8, TINY.emb_size_atom, generator=torch.Generator().manual_seed(0)
    ).double()
    per_atom = head.mlp(atom).detach().numpy()[:, 0]
    wanted = [reduce(per_atom[:3]), reduce(per_atom[3:])]
    # sums of eight float64 numbers
    np.testing.assert_allclose(head(atom, graph).detach()[:, 0], wanted, rtol=1e-13)


def test_a_spatial_extent_is_measured_from_the_centre_of_mass() -> None:
    head = HEADS["spatial_extent"](TINY, property_spec("spatial_extent")).double()
    hcl = Atoms("HCl", [[1.0, 2.0, 3.0], [1.0, 2.0, 4.27]])
    atom = torch.ones(2, TINY.emb_size_atom, dtype=torch.float64)
    size = float(head.mlp(atom).detach()[0])
    mass_h, mass_cl = 1.008, 35.45
    from_h = 1.27 * mass_cl / (mass_h + mass_cl)
    wanted = size * (from_h**2 + (1.27 - from_h) ** 2)
    found = head(atom, build_graph(hcl, SMOOTH))
    # masses are standard atomic weights, here to four digits
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)


def test_a_spatial_extent_has_five_hidden_layers_and_no_bias() -> None:
    head = HEADS["spatial_extent"](S, property_spec("spatial_extent"))
    shapes = {n: tuple(p.shape) for n, p in head.named_parameters()}
    assert list(shapes.values()) == [(256, 256)] * 5 + [(1, 256)]
    assert not any("bias" in name for name in shapes)


@pytest.mark.parametrize(
    ("kind", "shape", "has_bias"),
    [
        ("scalar", (1, 256), False),
        ("binary", (1, 256), False),
        ("multiclass", (3, 256), True),
    ],
)
def test_only_a_last_layer_wider_than_one_has_a_bias(kind, shape, has_bias) -> None:
    head = HEADS[kind](S, property_spec(kind))
    names = dict(head.mlp.named_parameters())
    assert tuple(names["8.weight"].shape) == shape
    assert ("8.bias" in names) == has_bias
    assert "6.bias" in names


def test_features_are_dropped_in_training_only() -> None:
    model, graph = property_model(), batch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()
        a, b = (model.predict_targets(graph, "multiclass") for _ in range(2))
    model.eval()
    c, d = (model.predict_targets(graph, "multiclass") for _ in range(2))
    assert not torch.equal(a, b)
    assert torch.equal(c, d)


def test_each_system_of_a_batch_can_have_its_own_property_head() -> None:
    model, graph = property_model().double().eval(), batch()
    both = model.predict_targets(graph, ["multiclass", "scalar"])
    assert torch.equal(both[0], model.predict_targets(graph, "multiclass")[0])
    assert torch.equal(both[1, :1], model.predict_targets(graph, "scalar")[1])
    assert both[1, 1:].isnan().all()


def test_energies_and_properties_are_asked_for_in_different_ways() -> None:
    graph = build_graph(WATER, SMOOTH)
    with pytest.raises(ArgumentError, match=r"'scalar' predicts 'gap' and no energy"):
        property_model()(graph, "scalar")
    with pytest.raises(ArgumentError, match=r"'organic' predicts energy and forces"):
        smooth_model().predict_targets(graph, "organic")
    with pytest.raises(ArgumentError, match=r"unknown head 'scalr'.*mean 'scalar'"):
        property_model().predict_targets(graph, "scalr")


def test_values_carry_scale_shift_and_references() -> None:
    graph, specs = batch(), [property_spec("scalar"), property_spec("spatial_extent")]
    found = targets_to_physical(torch.tensor([[3.0], [2.0]]).double(), graph, specs)
    # water: 0.5 * 3 + 2 + 2 * 0.1 + 0.4; the extent has a scale of 3 alone
    torch.testing.assert_close(found, torch.tensor([[4.1], [6.0]]).double())
    assert target_references(graph, specs).tolist() == pytest.approx([0.6, 0.0])


def test_classes_become_probabilities() -> None:
    graph, specs = batch(), [property_spec("binary"), property_spec("multiclass")]
    logits = torch.tensor([[0.0, torch.nan, torch.nan], [1.0, 1.0, 1.0]]).double()
    found = targets_to_physical(logits, graph, specs)
    assert float(found[0, 0]) == 0.5
    assert found[0, 1:].isnan().all()
    torch.testing.assert_close(found[1], torch.full((3,), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetSpec(name=""), "a target needs a name"),
        (lambda: TargetSpec(name="a", scale=0.0), "'a' is 0.0; it must be positive"),
        (lambda: TargetSpec(name="a", dropout=1.0), "dropout of target 'a' is 1.0"),
        (lambda: TargetSpec(name="a", classes=("x", "x")), "give each only once"),
        (
            lambda: spec("a", target=TargetSpec(name="b")),
            "'a' of kind 'energy_forces' has a target, 'b'",
        ),
        (lambda: property_spec("scalar", target=None), "needs a target"),
        (lambda: property_spec("scalar", forces="gradient"), "set forces=None"),
        (
            lambda: property_spec("multiclass", target=TARGETS["scalar"]),
            "has 0 classes; give the names of 2 to 1000",
        ),
        (
            lambda: property_spec("binary", target=TARGETS["multiclass"]),
            "has 3 classes; give two or none",
        ),
        (
            lambda: property_spec("scalar", target=TARGETS["multiclass"]),
            "has 3 classes; give none",
        ),
        (
            lambda: property_spec("spatial_extent", target=TARGETS["binary"]),
            "has the reduction 'mean'; it is a sum",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(make, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("forces", ["gradient", "direct"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_energies_and_their_second_derivatives_survive_16_bits(forces, dtype) -> None:
    is_direct = forces == "direct"
    config = replace(TINY, emb_size_atom=16, emb_size_edge=16, has_direct_forces=True)
    head = spec("a", forces=forces, has_direct_forces=is_direct)
    model, graph = build(config, head), batch()

    def step(energy_multiplier: float = 1.0) -> tuple[torch.Tensor, ...]:
        found = model(
            graph,
            "a",
            forces=forces,
            create_graph=not is_direct,
            energy_multiplier=energy_multiplier,
        )
        return found.energy, found.forces

    def gradient(found: tuple[torch.Tensor, ...]) -> torch.Tensor:
        loss = sum(part.square().sum() for part in found)
        model.zero_grad()
        loss.backward()
        return torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        )

    exact = step()
    exact_gradient = gradient(exact)
    with torch.autocast("cpu", dtype=dtype):
        rounded = step(1.0 if dtype == torch.bfloat16 else 2.0**8)
    rounded_gradient = gradient(rounded)
    tolerance = TOLERANCE_16_BITS[dtype]
    for a, b in [*zip(exact, rounded, strict=True), (exact_gradient, rounded_gradient)]:
        assert b.dtype in (torch.float32, torch.float64)
        assert float(((a - b).norm() / a.norm()).detach()) < tolerance


def test_an_energy_multiplier_changes_nothing_but_rounding() -> None:
    model, graph = smooth_model().double(), batch()
    plain = model(graph, "organic", forces="gradient", stress=True)
    scaled = model(
        graph, "organic", forces="gradient", stress=True, energy_multiplier=256.0
    )
    # a power of two: not even that
    assert torch.equal(plain.energy, scaled.energy)
    assert torch.equal(plain.forces, scaled.forces)
    assert torch.equal(plain.virial, scaled.virial)


def test_properties_survive_16_bits() -> None:
    model, graph = property_model().eval(), batch()
    for name in model.heads:
        exact = model.predict_targets(graph, name)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model.predict_targets(graph, name)
        assert rounded.dtype == torch.float64
        error = float(((exact - rounded).norm() / exact.norm()).detach())
        assert error < TOLERANCE_16_BITS[torch.bfloat16]


def test_output_blocks_make_up_for_dropped_edges_in_training_only() -> None:
    model, graph = build(TINY, spec("a")), batch()
    plain = model(graph, "a").energy
    model.backbone.edge_dropout = 0.5
    training = model(graph, "a").energy
    assert torch.equal(model.eval()(graph, "a").energy, plain)
    for block in model.backbone.outputs:
        block.scale_sum.factor.mul_(2.0)  # what 1 / (1 - 0.5) does
    assert torch.equal(model(graph, "a").energy, training)


def test_the_sum_over_edges_is_not_rounded_to_16_bits() -> None:
    model = JMPModel(TINY, [spec("a")])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(batch(), "a")
    assert found.atom_energy.dtype == torch.float64
    # more digits than bfloat16 has: the last layer of the head is float32
    assert not torch.equal(found.atom_energy, found.atom_energy.bfloat16().double())
