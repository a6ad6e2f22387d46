from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from filelock import FileLock

from jmp_calc.calculator import named as calculators
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.output import LineFile
from jmp_train.data import label_workers
from jmp_train.data.labelling import (
    CalculatorChoice,
    label_structures,
    structure_key,
)

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
            "is not a function",
        ),
        (CalculatorChoice(name="builtins:int", options={"a": 1}), "made with the opt"),
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
                if trouble == "raise":
                    raise RuntimeError("not\nconverged")
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
    out = tmp_path / "out.xyz"
    # gold would take ten minutes, the others take a hundredth of a second
    report = label_structures(with_gold(), choice, out, processes=1, timeout_s=2.0)
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


@pytest.mark.parametrize("processes", [0, 1])
def test_an_error_of_the_calculator_is_a_failure(importable, tmp_path, processes):
    choice = CalculatorChoice(name=importable, options={"trouble": "raise"})
    out = tmp_path / "out.xyz"
    report = label_structures(with_gold(), choice, out, processes=processes)
    assert report.failed == ((1, "RuntimeError: not converged"),)


def test_one_process_survives_a_crash_as_well(importable, tmp_path):
    choice = CalculatorChoice(name=importable, options={"trouble": "crash"})
    report = label_structures(with_gold(), choice, tmp_path / "o.xyz", processes=1)
    assert (report.n_labelled, len(report.failed)) == (2, 1)


def test_labels_of_another_origin_are_not_kept(importable, tmp_path):
    atoms = crystals(1)[0]
    atoms.info |= {"REF_energy": 1.0, "REF_virial": np.eye(3), "name": "mine"}
    atoms.arrays["REF_forces"] = np.ones((4, 3))
    energies = CalculatorChoice(name="test_labelling:energy_only", options={})
    label_structures([atoms], energies, tmp_path / "out.xyz")
    found = ase.io.read(tmp_path / "out.xyz")
    assert found.info["REF_energy"] == 2.0
    assert found.info["name"] == "mine"
    assert not {"REF_forces", "REF_virial"} & {*found.info, *found.arrays}


class EnergyOnly(Calculator):
    """A calculator that knows two electronvolts and no forces."""

    implemented_properties = ("energy",)

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results = {"energy": 2.0}


energy_only = EnergyOnly


@pytest.mark.parametrize("part", ["tags", "magnetic moments", "info"])
def test_all_that_a_calculator_may_read_tells_structures_apart(part):
    atoms = crystals(1)[0]
    other = atoms.copy()
    if part == "tags":
        other.set_tags([0, 1, 1, 2])
    elif part == "magnetic moments":
        other.set_initial_magnetic_moments([1, 0, 0, 0])
    else:
        other.info["total_charge"] = 1
    assert structure_key(atoms, "emt") == structure_key(atoms.copy(), "emt")
    assert structure_key(atoms, "emt") != structure_key(other, "emt")


def test_weights_that_were_replaced_are_another_calculator(tmp_path):
    weights = tmp_path / "mine.safetensors"
    choice = CalculatorChoice(name=str(weights), options={})
    weights.write_bytes(b"before")
    before = choice.identity
    weights.write_bytes(b"after")
    assert choice.identity != before


def test_a_file_that_was_not_made_here_is_not_replaced(tmp_path):
    out = tmp_path / "mine.xyz"
    out.write_text("precious")
    with pytest.raises(ArgumentError, match="exists and was not made by labelling"):
        label_structures(crystals(1), EMT_CHOICE, out)
    assert out.read_text() == "precious"


def test_a_second_run_into_one_file_is_refused(tmp_path):
    out = tmp_path / "out.xyz"
    with (
        FileLock(f"{out}.lock"),
        pytest.raises(ArgumentError, match="another process labels into"),
    ):
        label_structures(crystals(1), EMT_CHOICE, out)


def test_a_place_that_cannot_be_written_to_is_named():
    with pytest.raises(DataError, match=r"cannot write /proc/out\.xyz"):
        label_structures(crystals(1), EMT_CHOICE, Path("/proc/out.xyz"))


def test_a_full_disk_is_an_error_and_keeps_what_is_known(tmp_path, monkeypatch):
    structures, out = crystals(3), tmp_path / "out.xyz"
    written = []

    def append(journal, text):
        if len(written) == 2:
            raise DataError("cannot write: No space left on device")
        written.append(text)
        whole(journal, text)

    whole = LineFile.append
    with monkeypatch.context() as patch:
        patch.setattr(LineFile, "append", append)
        with pytest.raises(DataError, match="No space left"):
            label_structures(structures, EMT_CHOICE, out)
    assert not out.exists()
    assert label_structures(structures, EMT_CHOICE, out).n_known == 2


def test_progress_counts_the_structures_of_this_run_only(tmp_path):
    out, heard = tmp_path / "out.xyz", []
    label_structures(crystals(3), EMT_CHOICE, out)
    label_structures(
        [*crystals(4)[2:], molecule("SiH4")],
        EMT_CHOICE,
        out,
        progress=lambda *numbers: heard.append(numbers),
    )
    assert heard == [(1, 0, 3), (2, 0, 3), (2, 1, 3)]


def test_a_run_that_is_killed_goes_on_where_it_was(importable, tmp_path):
    """SIGKILL after the first label; order and number of frames are those asked for."""
    ase.io.write(tmp_path / "in.xyz", crystals(6))
    words = ["data", "label", str(tmp_path / "in.xyz"), "--calculator"]
    words += ["test_labelling:slow", "--out", str(tmp_path / "out.xyz")]
    program = f"from jmp_train.cli import main; main({words!r})"
    process = subprocess.Popen([sys.executable, "-c", program])
    journal = tmp_path / "out.xyz.journal.jsonl"
    try:
        while not (journal.is_file() and journal.read_bytes().count(b"\n")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "out.xyz").exists()
    choice = CalculatorChoice(name="test_labelling:slow", options={})
    structures = ase.io.read(tmp_path / "in.xyz", ":")
    report = label_structures(structures, choice, tmp_path / "out.xyz")
    assert report.n_labelled == 6
    assert 1 <= report.n_known < 6
    found = ase.io.read(tmp_path / "out.xyz", ":")
    for given, labelled in zip(structures, found, strict=True):
        assert np.allclose(given.positions, labelled.positions)


def slow() -> EMT:
    """EMT that takes its time."""

    class Slow(EMT):
        def calculate(self, *args, **kwargs):
            time.sleep(0.2)
            super().calculate(*args, **kwargs)

    return Slow()


def test_constraints_do_not_change_forces():
    atoms = crystals(1)[0]
    atoms.set_constraint(FixAtoms([0, 1]))
    found = label_workers.labels_of(atoms, EMT(), EMT_CHOICE)
    atoms.calc = EMT()
    free = atoms.get_forces(apply_constraint=False)
    assert np.allclose(found["forces"], free)
    assert np.abs(free[:2]).max() > 0.1
