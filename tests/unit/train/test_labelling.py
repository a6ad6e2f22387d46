from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data import calculators, label_workers
from jmp_train.data.labelling import CalculatorChoice, label_structures

EMT_CHOICE = CalculatorChoice(name="emt", options={})


def crystals(n):
    found = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        found.append(atoms)
    return found


def test_labels_are_those_of_the_calculator(tmp_path):
    atoms = crystals(1)[0]
    label_structures([atoms], EMT_CHOICE, tmp_path / "out.xyz")
    found = ase.io.read(tmp_path / "out.xyz")
    atoms.calc = EMT()
    # extended XYZ keeps 8 decimals
    assert found.info["REF_energy"] == pytest.approx(atoms.get_potential_energy())
    assert np.allclose(found.arrays["REF_forces"], atoms.get_forces(), atol=1e-8)
    assert np.allclose(found.info["REF_stress"], atoms.get_stress(voigt=False))
    assert found.info["level_of_theory"] == "emt"
    assert found.info["label_units"] == "energy eV, forces eV/A, stress eV/A^3"


def test_two_processes_give_the_file_of_one(tmp_path):
    structures = crystals(5)
    label_structures(structures, EMT_CHOICE, tmp_path / "one.xyz")
    label_structures(structures, EMT_CHOICE, tmp_path / "two.xyz", processes=2)
    assert (tmp_path / "one.xyz").read_text() == (tmp_path / "two.xyz").read_text()


def test_what_failed_is_listed_with_its_reason(tmp_path):
    structures = [crystals(1)[0], molecule("SiH4"), bulk("Al", cubic=True)]
    report = label_structures(structures, EMT_CHOICE, tmp_path / "out.xyz")
    listed = json.loads((tmp_path / "out.xyz.failed.json").read_text())
    assert (report.n_labelled, [number for number, _ in report.failed]) == (2, [1])
    assert listed[0]["formula"] == "H4Si"
    assert "NotImplementedError" in listed[0]["reason"]


class Counting(EMT):
    """EMT that counts how often it is asked."""

    calls = 0

    def calculate(self, *args, **kwargs):
        Counting.calls += 1
        super().calculate(*args, **kwargs)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(Counting, "calls", 0)
    monkeypatch.setattr(calculators, "_factory", lambda _name: Counting)
    return CalculatorChoice(name="counting", options={})


def test_a_second_start_labels_only_what_is_missing(tmp_path, counting):
    structures = crystals(4)
    label_structures(structures[:3], counting, tmp_path / "out.xyz")
    before = Counting.calls
    report = label_structures(structures, counting, tmp_path / "out.xyz")
    assert Counting.calls - before == before // 3
    assert (report.n_labelled, report.n_known) == (4, 3)


def test_a_line_that_a_killed_process_left_unfinished_is_done_again(tmp_path):
    structures = crystals(3)
    out = tmp_path / "out.xyz"
    label_structures(structures, EMT_CHOICE, out)
    whole = out.read_text()
    journal = tmp_path / "out.xyz.journal.jsonl"
    journal.write_text(journal.read_text()[:-40])
    report = label_structures(structures, EMT_CHOICE, out)
    assert report.n_known == 2
    assert out.read_text() == whole


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    out = tmp_path / "out.xyz"
    label_structures(crystals(2), EMT_CHOICE, out)
    journal = tmp_path / "out.xyz.journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(["{broken", lines[1]]) + "\n")
    with pytest.raises(DataError, match=r"line 1 of .* is damaged"):
        label_structures(crystals(2), EMT_CHOICE, out)


def test_failures_are_tried_again_only_on_request(tmp_path, monkeypatch):
    structures = [molecule("SiH4")]
    out = tmp_path / "out.xyz"
    label_structures(structures, EMT_CHOICE, out)
    monkeypatch.setattr(label_workers, "labels_of", lambda *_: {"energy": 1.0})
    assert label_structures(structures, EMT_CHOICE, out).n_labelled == 0
    again = label_structures(structures, EMT_CHOICE, out, retry_failed=True)
    assert again.n_labelled == 1


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (CalculatorChoice(name="nowhere:thing", options={}), "cannot be imported"),
        (
            CalculatorChoice(name="ase.calculators.emt:parameters", options={}),
            "does not take the options",
        ),
        (CalculatorChoice(name="builtins:dict", options={}), "not an ASE calculator"),
    ],
)
def test_a_wrong_calculator_stops_before_any_work(tmp_path, choice, text):
    with pytest.raises(ArgumentError, match=text):
        label_structures(crystals(1), choice, tmp_path / "out.xyz")
    assert not (tmp_path / "out.xyz").exists()


def test_no_structures_are_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="no structures"):
        label_structures([], EMT_CHOICE, tmp_path / "out.xyz")


@pytest.mark.filterwarnings("default")
def test_tblite_labels_water_and_charged_species(tmp_path):
    pytest.importorskip("tblite", reason="needs the extra xtb")
    hydroxide = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    report = label_structures(
        [molecule("H2O"), hydroxide],
        CalculatorChoice(name="tblite", options={}),
        tmp_path / "out.xyz",
    )
    water, ion = ase.io.read(tmp_path / "out.xyz", ":")
    assert report.failed == ()
    # GFN2-xTB energy of water: -5.0703 hartree (Bannwarth 2019, geometry near minimum)
    assert water.info["REF_energy"] == pytest.approx(-137.97, abs=0.05)
    assert ion.info["REF_energy"] != pytest.approx(water.info["REF_energy"], abs=1.0)


def troubled(trouble: str = "") -> EMT:
    """EMT to which gold does something bad; the factory of the tests below."""

    class Troubled(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if "Au" in atoms.get_chemical_symbols():
                if trouble == "crash":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(600)
            super().calculate(atoms, properties, system_changes)

    return Troubled()


def with_gold() -> list[Atoms]:
    return [*crystals(1), bulk("Au", cubic=True), bulk("Al", cubic=True)]


@pytest.fixture
def importable(monkeypatch):
    """Make this file importable in other processes."""
    folder = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(folder)
    return "test_labelling:troubled"


def test_a_crash_of_the_calculator_costs_one_structure(importable, tmp_path):
    choice = CalculatorChoice(name=importable, options={"trouble": "crash"})
    report = label_structures(with_gold(), choice, tmp_path / "out.xyz", processes=2)
    ((number, reason),) = report.failed
    assert (number, report.n_labelled) == (1, 2)
    assert reason == "the calculator ended its process (exit code -9)"


def test_a_structure_that_takes_too_long_is_given_up(importable, tmp_path):
    choice = CalculatorChoice(name=importable, options={"trouble": "sleep"})
    # gold would take ten minutes, the others take a hundredth of a second
    report = label_structures(with_gold(), choice, tmp_path / "out.xyz", timeout_s=2.0)
    assert report.failed == ((1, "no result within 2 s"),)


def test_a_charge_that_the_calculator_does_not_know_is_a_failure(tmp_path):
    atoms = crystals(1)[0]
    atoms.info["charge"] = 1
    report = label_structures([atoms], EMT_CHOICE, tmp_path / "out.xyz")
    assert "charge 1 and multiplicity 1, which calculator 'emt'" in report.failed[0][1]


@pytest.mark.filterwarnings("default")
def test_electrons_and_spin_must_go_together(tmp_path):
    pytest.importorskip("tblite", reason="needs the extra xtb")
    radical = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    doublet = radical.copy()
    doublet.info["spin"] = 2
    report = label_structures(
        [radical, doublet],
        CalculatorChoice(name="tblite", options={"method": "GFN1-xTB"}),
        tmp_path / "out.xyz",
    )
    ((number, reason),) = report.failed
    assert number == 0
    assert "9 electrons (charge 0) cannot have multiplicity 1" in reason
    assert ase.io.read(tmp_path / "out.xyz").info["level_of_theory"] == "GFN1-xTB"


def test_a_charge_must_be_a_whole_number(tmp_path):
    atoms = crystals(1)[0]
    atoms.info["charge"] = 0.5
    report = label_structures([atoms], EMT_CHOICE, tmp_path / "out.xyz")
    assert "charge of the structure is 0.5, not a whole number" in report.failed[0][1]
