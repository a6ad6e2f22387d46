"""Settings, forces, descriptions and messages of the calculator."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.models.weights import save_weights
from toys.models import MODELS, TINY, build, published_model, smooth_model, spec
from toys.slabs import slab_with_co


def test_the_given_model_is_not_changed() -> None:
    model = smooth_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calc = JMPCalculator(model, dtype="float64")
    calc.evaluate([molecule("H2O")])
    assert model.dtype == torch.float32
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_precision_is_a_matter_of_each_calculator() -> None:
    model = smooth_model()
    single, double = JMPCalculator(model), JMPCalculator(model, dtype="float64")
    assert (single.model.dtype, double.model.dtype) == (torch.float32, torch.float64)
    assert torch.get_default_dtype() == torch.float32


def test_references_and_sums_are_double_whatever_the_precision() -> None:
    references = {1: -13.587222780835477, 6: -1029.4889999855063}
    model = build(TINY, spec("a", references=references, energy_scale=1e-9))
    atoms = molecule("CH4")
    atoms.calc = JMPCalculator(model, dtype="float32")
    expected = 4 * references[1] + references[6]
    assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-11)


def test_a_weights_file_is_a_model(tmp_path) -> None:
    path = tmp_path / "toy.safetensors"
    save_weights(smooth_model(), path)
    from_file = JMPCalculator(path).evaluate([molecule("H2O")])[0]
    from_memory = JMPCalculator(smooth_model()).evaluate([molecule("H2O")])[0]
    assert from_file["energy"] == from_memory["energy"]
    described = JMPCalculator(str(path)).describe(molecule("H2O"))
    assert described["model"] == str(path)
    assert len(described["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"forces": "autograd"}, r"forces is 'autograd'; .*'gradient', 'direct'"),
        ({"dtype": "float16"}, r"dtype is 'float16'; .*'float32', 'float64'"),
        ({"tags": "ase"}, r"tags is 'ase'; choose 'auto', 'atoms'"),
        ({"device": "gpu"}, r"unknown device 'gpu'; choose 'cpu'"),
        ({"device": "meta"}, r"'meta' cannot be used.*float64"),
        ({"device": "cuda:99"}, r"'cuda:99' is not there; torch sees"),
        ({"head": "organics"}, r"unknown head 'organics'.*did you mean 'organic'"),
        ({"head": "organic", "forces": "direct"}, "has no direct force head"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_is_allowed(
    setting, message
) -> None:
    with pytest.raises(ArgumentError, match=message):
        JMPCalculator(smooth_model(), **setting)


def test_settings_are_fixed(smooth) -> None:
    with pytest.raises(
        ArgumentError, match=r"cannot set head.*make a new JMPCalculator"
    ):
        smooth.set(head="radicals")


def test_a_calculator_without_structure_says_so(smooth) -> None:
    with pytest.raises(ArgumentError, match="there is no structure yet"):
        smooth.get_potential_energy()


def test_a_calculation_started_by_hand_leaves_nothing_of_the_last(smooth) -> None:
    smooth.calculate(molecule("CH4"), ["forces"])
    smooth.calculate(molecule("H2O"), ["energy"])
    assert sorted(smooth.results) == ["energies", "energy", "free_energy"]


def test_stress_and_gradient_forces_come_from_one_pass(smooth) -> None:
    crystal = bulk("Cu")
    crystal.calc = smooth
    crystal.get_stress()
    assert "forces" in smooth.results


def test_no_calculator_shares_its_list_of_properties() -> None:
    from ase.calculators.calculator import BaseCalculator

    assert (
        JMPCalculator.implemented_properties
        is not BaseCalculator.implemented_properties
    )
    assert BaseCalculator.implemented_properties == []


def test_the_choice_is_logged_once(smooth, caplog) -> None:
    caplog.set_level(logging.INFO, logger="jmp_calc")
    for name in ("H2O", "CH4", "H2O"):
        atoms = molecule(name)
        atoms.calc = smooth
        atoms.get_forces()
    lines = [r.getMessage() for r in caplog.records if "chosen" in r.getMessage()]
    assert lines == [
        "toy: head 'organic' (organic-DFT) chosen by default, gradient forces "
        "(conservative)"
    ]


def test_a_head_that_nobody_asked_for_is_printed(tmp_path) -> None:
    path = tmp_path / "toy.safetensors"
    save_weights(smooth_model(), path)
    code = (
        "from ase.build import molecule; from jmp_calc import JMPCalculator\n"
        "for head in (None, 'radicals'):\n"
        f"    atoms = molecule('CH4'); calc = JMPCalculator({str(path)!r}, head=head)\n"
        "    atoms.calc = calc; atoms.get_forces(); atoms.rattle(); atoms.get_forces()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stderr == (
        f"{path}: head 'organic' (organic-DFT) chosen by default, gradient forces "
        "(conservative)\n"
    )
    assert done.stdout == ""


def test_what_has_been_described_is_not_printed_again(smooth, caplog) -> None:
    caplog.set_level(logging.INFO, logger="jmp_calc")
    atoms = molecule("CH4")
    atoms.calc = smooth
    smooth.describe(atoms)
    atoms.get_forces()
    assert caplog.records == []


def test_the_inference_mode_of_the_caller_does_not_silence_the_forces() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    with torch.inference_mode():
        calc = JMPCalculator(smooth_model(), dtype="float64")
        inside = calc.evaluate([atoms], ["forces", "stress"])[0]
        atoms.calc = calc
        calc.get_descriptors(atoms)
        np.testing.assert_array_equal(atoms.get_forces(), inside["forces"])
    outside = calc.evaluate([atoms], ["forces", "stress"])[0]
    assert abs(outside["forces"]).max() > 1e-3
    for name in ("forces", "stress"):
        np.testing.assert_array_equal(inside[name], outside[name])


def test_direct_forces_are_those_of_the_force_head(published) -> None:
    atoms = molecule("CH4")
    gradient = JMPCalculator(published_model(), forces="gradient", dtype="float64")
    first, second = (c.evaluate([atoms])[0] for c in (published, gradient))
    assert (first["force_kind"], second["force_kind"]) == ("direct", "gradient")
    assert (first["is_conservative"], second["is_conservative"]) == (False, True)
    assert first["energy"] == pytest.approx(second["energy"], rel=1e-12)
    assert abs(first["forces"] - second["forces"]).max() > 1e-6


def test_descriptions_say_which_forces_and_whether_they_conserve_energy() -> None:
    atoms = molecule("CH4")
    model = published_model()
    direct = JMPCalculator(model).describe(atoms)
    assert (direct["forces"], direct["is_conservative"]) == ("direct", False)
    assert any("energy is not conserved" in note for note in direct["notes"])
    gradient = JMPCalculator(model, forces="gradient").describe(atoms)
    assert (gradient["forces"], gradient["is_conservative"]) == ("gradient", True)
    assert any("trained for direct forces" in note for note in gradient["notes"])
    assert any("gradient forces are untrained" in note for note in gradient["notes"])


def test_a_direct_head_gives_stress_from_its_energy(published) -> None:
    slab = slab_with_co()
    slab.calc = published
    assert slab.get_stress().shape == (6,)
    assert "forces" not in published.results


def test_a_description_has_what_the_command_line_prints(smooth) -> None:
    about = smooth.describe(molecule("CH4"))
    notes = about.pop("notes")
    assert about == {
        "model": "toy",
        "head": "organic",
        "level_of_theory": "organic-DFT",
        "forces": "gradient",
        "is_conservative": True,
        "neighbor_cap": None,
        "weights_sha256": "ab" * 32,
        "licence": "toy licence",
    }
    assert notes == [
        "head 'organic' is the default for this structure; also possible: "
        "head='radicals'"
    ]


def test_a_head_without_references_says_that_energies_are_relative(published) -> None:
    notes = published.describe(molecule("CH4"))["notes"]
    assert any("equal composition only" in note for note in notes)


def test_active_neighbor_caps_are_named(published) -> None:
    capped = published.describe(slab_with_co())["notes"]
    assert any("caps active at the start: quadruplet (nearest 32," in n for n in capped)
    free = published.describe(molecule("CH4"))["notes"]
    assert any("caps active at the start: none" in note for note in free)


def test_a_description_tells_an_active_neighbor_cap(published, smooth) -> None:
    cap = published.describe(slab_with_co())["neighbor_cap"]
    assert re.fullmatch(r"quadruplet \(nearest 32, \d+ edges left out\)", cap)
    assert published.describe(molecule("CH4"))["neighbor_cap"] is None
    assert smooth.describe(bulk("Cu"))["neighbor_cap"] is None


def test_a_head_of_another_domain_is_noted() -> None:
    calc = JMPCalculator(smooth_model(), head="organic")
    atoms = bulk("C", cubic=True)
    assert any("a bulk and head 'organic'" in n for n in calc.describe(atoms)["notes"])


def test_periodicity_that_differs_from_the_structure_is_noted(published) -> None:
    slab = slab_with_co()
    slab.pbc = (True, True, False)
    notes = published.describe(slab)["notes"]
    assert any("all three directions, although" in note for note in notes)
    alone = molecule("CH4")
    alone.center(vacuum=4.0)
    alone.pbc = True
    assert any("ignores periodicity" in n for n in published.describe(alone)["notes"])


def test_an_unknown_element_is_seen_when_the_calculator_is_attached() -> None:
    calc = JMPCalculator(smooth_model(), head="organic")
    atoms = Atoms("CCu", positions=[[0, 0, 0], [0, 0, 2]])
    with pytest.raises(UnsupportedSystemError, match=r"atom 1 is Cu \(29\)"):
        atoms.calc = calc


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms; give one with at least one"),
        (Atoms("H", [[np.nan, 0, 0]]), "position of atom 0 is .*finite"),
        (Atoms("H2"), "atoms 0 and 1 overlap.*remove one"),
        (Atoms("H", cell=[5, 5, 0], pbc=True), "span no volume"),
    ],
    ids=["empty", "nan", "overlap", "flat cell"],
)
@pytest.mark.parametrize("head", [None, "organic"])
def test_a_broken_structure_is_a_clear_error(atoms, message, head) -> None:
    calc = JMPCalculator(smooth_model(), head=head)
    atoms.calc = calc
    for ask in (atoms.get_forces, lambda: calc.get_descriptors(atoms)):
        with pytest.raises(UnsupportedSystemError, match=message):
            ask()
    with pytest.raises(UnsupportedSystemError, match=message) as caught:
        calc.evaluate([molecule("H2O"), atoms])
    assert caught.value.__notes__ == ["this is structure 1 of the list"]


def test_a_position_that_becomes_nan_is_a_clear_error(smooth) -> None:
    atoms = molecule("CH4")
    atoms.calc = smooth
    atoms.get_forces()
    atoms.positions[2] = np.nan
    with pytest.raises(UnsupportedSystemError, match="position of atom 2"):
        atoms.get_forces()


def test_a_list_of_structures_may_be_any_iterable(smooth) -> None:
    structures = [molecule("H2O"), molecule("CH4")]
    found = smooth.evaluate(iter(structures), "energy")
    expected = smooth.evaluate(structures, ["energy"])
    assert found == expected
    assert found[1]["energy"] != found[0]["energy"]


def test_one_structure_is_not_a_list_of_structures(smooth) -> None:
    with pytest.raises(ArgumentError, match=r"put it into a list: evaluate\(\[atoms\]"):
        smooth.evaluate(molecule("H2O"))


def test_an_unknown_property_is_an_error(smooth) -> None:
    with pytest.raises(ArgumentError, match=r"'force'.*did you mean 'forces'"):
        smooth.evaluate([molecule("H2O")], ["force"])


@pytest.mark.parametrize(
    "info", [{"charge": -1}, {"spin": 2}, {"spin_multiplicity": 3}, {"charge": "1"}]
)
def test_charge_and_spin_are_warned_about_once(smooth, info) -> None:
    atoms = molecule("OH")
    atoms.info.update(info)
    atoms.calc = smooth
    key, value = next(iter(info.items()))
    with pytest.warns(UserWarning, match=f"atoms.info has {key} {value}, which"):
        atoms.get_potential_energy()
    atoms.positions[0] += 0.1
    atoms.get_potential_energy()
    assert any(f"{key} {value}" in note for note in smooth.describe(atoms)["notes"])


@pytest.mark.parametrize(
    "info", [{"charge": 0, "spin": 1}, {"spin": 0}, {"charge": None}]
)
def test_a_neutral_singlet_is_not_warned_about(smooth, info) -> None:
    atoms = molecule("H2O")
    atoms.info.update(info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth.evaluate([atoms])
    assert not any("atoms.info" in note for note in smooth.describe(atoms)["notes"])


def test_a_lone_atom_has_its_reference_energy_and_the_zero_message_value(
    smooth,
) -> None:
    silent = build(TINY, spec("a", references={6: -1029.5}))
    for parameter in silent.head_layers.parameters():
        torch.nn.init.zeros_(parameter)
    atom = Atoms("C")
    atom.calc = JMPCalculator(silent)
    assert atom.get_potential_energy() == -1029.5
    atom.calc = smooth
    value = atom.get_potential_energy()
    assert value not in (-60.0, -59.5)
    assert value == pytest.approx(-59.5, abs=20)


def test_the_toys_cover_both_force_kinds() -> None:
    kinds = {s.forces for make in MODELS.values() for s in make().heads.values()}
    assert kinds == {"gradient", "direct"}
