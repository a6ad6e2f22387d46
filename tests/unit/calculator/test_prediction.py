"""Predictor: properties of many structures, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc import JMPCalculator, Predictor
from jmp_calc.calculator import batches
from jmp_calc.calculator.prediction import Quantity
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.build import build_graph
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import targets_to_physical
from jmp_calc.models.weights import save_weights
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

FRAMES = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "CO2")]


def mixed_model() -> JMPModel:
    """An energy head and two property heads, one with graph rules of its own."""
    return build(
        TINY,
        spec("organic", references={1: -1.0, 6: -2.0, 8: -3.0}),
        property_spec("scalar"),
        property_spec("multiclass", graph=replace(SMOOTH, cutoff=3.5)),
    )


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(property_model(), dtype="float64")


def test_a_property_is_that_of_the_model_in_its_unit(predictor) -> None:
    model = predictor.model
    found = predictor.predict(FRAMES)
    for atoms, values in zip(FRAMES, found, strict=True):
        graph, head = build_graph(atoms, SMOOTH), model.heads["scalar"]
        wanted = targets_to_physical(
            model.predict_targets(graph, "scalar"), graph, [head]
        )
        # sums in a padded batch: roundings of float64
        assert values["gap"] == pytest.approx(float(wanted[0, 0]), rel=1e-10)


def test_every_head_has_its_quantities_with_units(predictor) -> None:
    assert [(q.name, q.unit) for q in predictor.quantities] == [
        ("gap", "eV"),
        ("R_2_Abs", "a0^2"),
        ("is_metal", "probability"),
        ("phase", ""),
        ("phase_fcc", "probability"),
        ("phase_bcc", "probability"),
        ("phase_hcp", "probability"),
    ]
    assert list(predictor.predict(FRAMES[:1])[0]) == [
        quantity.name for quantity in predictor.quantities
    ]


@pytest.mark.parametrize(
    ("unit", "column"),
    [
        ("eV", "c_eV"),
        ("", "c"),
        ("a0^2", "c_a02"),
        ("cal/(mol K)", "c_cal_per_mol_K"),
        ("log10(GPa)", "c_log10_GPa"),
        ("eV/Å", "c_eV_per_Å"),
        ("1/cm", "c_1_per_cm"),
    ],
)
def test_a_column_has_its_unit_in_the_name(unit, column) -> None:
    assert Quantity(name="c", unit=unit, head="h").column == column


def test_classes_have_probabilities_and_the_likeliest_is_named(predictor) -> None:
    for values in predictor.predict(FRAMES):
        of_class = {c: values[f"phase_{c}"] for c in ("fcc", "bcc", "hcp")}
        assert sum(of_class.values()) == pytest.approx(1)
        assert values["phase"] == max(of_class, key=of_class.get)
        assert 0 < values["is_metal"] < 1


def test_many_structures_are_computed_in_batches_of_limited_size(
    predictor, monkeypatch
) -> None:
    alone = [predictor.predict([atoms])[0] for atoms in FRAMES]
    monkeypatch.setattr(batches, "MAX_BATCH_ATOMS", 9)
    for one, other in zip(predictor.predict(iter(FRAMES)), alone, strict=True):
        assert one["gap"] == pytest.approx(other["gap"], rel=1e-10)
        assert one["phase"] == other["phase"]


def test_heads_of_other_graph_rules_see_their_own_graphs() -> None:
    whole = Predictor(mixed_model(), dtype="float64").predict(FRAMES)
    alone = Predictor(mixed_model(), heads="multiclass", dtype="float64")
    assert [v["phase_fcc"] for v in whole] == pytest.approx(
        [v["phase_fcc"] for v in alone.predict(FRAMES)], rel=1e-10
    )


def test_by_default_properties_are_predicted_and_not_energies() -> None:
    names = {q.name for q in Predictor(mixed_model()).quantities}
    assert "gap" in names
    assert "energy" not in names


@pytest.mark.parametrize("heads", [None, "organic"])
def test_energies_and_forces_are_those_of_the_calculator(heads) -> None:
    model = smooth_model()
    predictor = Predictor(model, heads=heads, dtype="float64")
    with torch.inference_mode():
        found = predictor.predict(FRAMES[:2])
    calculator = JMPCalculator(model, head=heads, dtype="float64")
    wanted = calculator.evaluate(FRAMES[:2])
    for one, other in zip(found, wanted, strict=True):
        assert one["energy"] == pytest.approx(other["energy"], rel=1e-12)
        np.testing.assert_allclose(one["forces"], other["forces"], atol=1e-12)


def test_a_predictor_made_in_inference_mode_has_forces() -> None:
    with torch.inference_mode():
        predictor = Predictor(smooth_model(), heads="organic", dtype="float64")
    forces = predictor.predict(FRAMES[:1])[0]["forces"]
    assert abs(forces).max() > 1e-3


def test_energies_and_properties_can_be_asked_for_together() -> None:
    predictor = Predictor(mixed_model(), heads=["organic", "scalar"])
    values = predictor.predict(FRAMES[:1])[0]
    assert list(values) == ["energy", "forces", "gap"]
    assert values["forces"].shape == (3, 3)


def test_equal_names_are_told_apart_by_the_head() -> None:
    model = build(TINY, property_spec("scalar"), property_spec("scalar", name="hse"))
    names = [quantity.name for quantity in Predictor(model).quantities]
    assert names == ["scalar_gap", "hse_gap"]


def test_a_binary_head_names_its_second_class() -> None:
    target = replace(TARGETS["binary"], classes=("no", "yes"))
    model = build(TINY, property_spec("binary", target=target))
    assert [q.name for q in Predictor(model).quantities] == ["is_metal_yes"]


def test_weights_are_loaded_from_a_file(tmp_path) -> None:
    save_weights(property_model(), tmp_path / "m.safetensors")
    found = Predictor(tmp_path / "m.safetensors").predict(FRAMES)
    wanted = Predictor(property_model()).predict(FRAMES)
    assert [v["gap"] for v in found] == [v["gap"] for v in wanted]


def test_the_model_that_is_given_is_not_changed() -> None:
    model = property_model().train()
    Predictor(model, dtype="float64")
    assert model.training
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (molecule("NH3"), r"atom 0 is N \(7\), which head 'scalar' of toy-prop"),
        (Atoms(), "the structure has no atoms"),
        (bulk("C"), r"'spatial_extent' measures distances from the centre of mass"),
    ],
)
def test_a_structure_that_a_head_is_not_for_is_refused_by_number(
    predictor, atoms, message
) -> None:
    with pytest.raises(UnsupportedSystemError, match=message) as caught:
        predictor.predict([*FRAMES, atoms])
    assert caught.value.__notes__ == ["this is structure 4 of the list"]
    with pytest.raises(UnsupportedSystemError, match=message):
        predictor.check(atoms)


def test_an_element_without_reference_value_is_refused() -> None:
    model = build(TINY, property_spec("scalar", elements=(1, 7)))
    with pytest.raises(
        UnsupportedSystemError, match=r"atom 0 is N.*no reference value of 'gap'"
    ):
        Predictor(model).predict([molecule("NH3")])


def test_notes_say_what_a_head_was_trained_on_and_where_it_is_left() -> None:
    model = build(
        TINY,
        property_spec("binary", coverage="metals", domain="bulk", elements=(1, 8)),
    )
    charged = molecule("H2O")
    charged.info["charge"] = 1
    assert Predictor(model).notes(charged) == [
        "head 'binary' was trained on metals",
        "the structure is a molecule and head 'binary' was trained on the domain "
        "'bulk'",
        "atoms.info has charge 1, which JMP models do not know",
    ]


def test_one_structure_alone_is_a_mistake(predictor) -> None:
    with pytest.raises(ArgumentError, match=r"put it into a list: predict\(\[atoms"):
        predictor.predict(FRAMES[0])


def test_heads_must_exist() -> None:
    with pytest.raises(ArgumentError, match=r"unknown head 'gpa'"):
        Predictor(property_model(), heads="gpa")
    with pytest.raises(ArgumentError, match=r"heads is empty; name some of scalar"):
        Predictor(property_model(), heads=[])


def test_a_calculator_explains_weights_that_have_no_energy() -> None:
    with pytest.raises(
        ArgumentError,
        match=r"toy-properties predicts gap \(eV\), R_2_Abs \(a0\^2\), is_metal, phase "
        r"and not energies.*jmp_calc\.Predictor\(model\).*'jmp-md predict FILE",
    ):
        JMPCalculator(property_model())


def test_a_calculator_explains_a_head_that_has_no_energy() -> None:
    with pytest.raises(
        ArgumentError, match=r"head 'scalar' of toy predicts gap.*head='organic'"
    ):
        JMPCalculator(mixed_model(), head="scalar")


def test_a_calculator_uses_the_energy_heads_of_mixed_weights() -> None:
    atoms = molecule("H2O")
    atoms.calc = JMPCalculator(mixed_model())
    assert atoms.calc.describe(atoms)["head"] == "organic"
    assert np.isfinite(atoms.get_forces()).all()


def test_a_head_trained_on_energies_alone_has_forces_and_says_so() -> None:
    atoms = molecule("H2O")
    atoms.calc = JMPCalculator(build(TINY, spec("e", forces=None)))
    about = atoms.calc.describe(atoms)
    assert about["forces"] == "gradient"
    assert "head 'e' was trained on energies only" in about["notes"][0]
