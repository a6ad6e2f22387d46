"""``jmp-md predict`` through ``main()``, on tiny weights with property heads."""

from __future__ import annotations

import csv
import io
import os
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from jmp_calc import Predictor
from jmp_calc.cli import main
from jmp_calc.cli.model_sheet import print_sheet
from jmp_calc.models.weights import save_weights
from toys.models import property_model, smooth_model

FRAMES = [molecule(name) for name in ("H2O", "CH4", "CH3OH")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with a file of properties and one of energies."""
    folder = tmp_path_factory.mktemp("weights")
    save_weights(property_model(), folder / "m.safetensors")
    save_weights(smooth_model(), folder / "e.safetensors")
    return folder


@pytest.fixture
def files(tmp_path, monkeypatch, weights) -> Path:
    """A folder with structures and weights that the command runs in."""
    monkeypatch.chdir(tmp_path)
    ase.io.write(tmp_path / "in.extxyz", FRAMES)
    for file in weights.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def predict(*words: str, model: str = "m.safetensors") -> int:
    return main(["predict", "in.extxyz", "--model", model, *words])


def wanted() -> list[float]:
    return [values["gap"] for values in Predictor(property_model()).predict(FRAMES)]


def test_the_table_is_printed_with_units_in_its_columns(files, capsys) -> None:
    assert predict("--head", "scalar") == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(table[0]) == ["structure", "formula", "gap_eV"]
    assert [row["formula"] for row in table] == ["H2O", "CH4", "CH4O"]
    # float32 in batches of another composition
    assert [float(row["gap_eV"]) for row in table] == pytest.approx(wanted(), rel=1e-5)


def test_a_table_is_written_to_a_file(files, capsys) -> None:
    assert predict("--out", "new/out.csv") == 0
    table = list(csv.DictReader((files / "new" / "out.csv").read_text().splitlines()))
    assert list(table[0]) == [
        *("structure", "formula", "gap_eV", "R_2_Abs_a02", "is_metal_probability"),
        *("phase", "phase_fcc_probability", "phase_bcc_probability"),
        "phase_hcp_probability",
    ]
    assert [row["structure"] for row in table] == ["0", "1", "2"]
    shown = capsys.readouterr().out
    assert "predicted   gap eV\n" in shown
    assert "written     new/out.csv" in shown


def test_extended_xyz_holds_the_values_and_their_units(files) -> None:
    assert predict("--head", "scalar", "--out", "out.extxyz") == 0
    frames = ase.io.read(files / "out.extxyz", ":")
    assert [atoms.info["jmp_gap"] for atoms in frames] == pytest.approx(
        wanted(), rel=1e-5
    )
    assert frames[0].info["jmp_units"] == "jmp_gap: eV"
    np.testing.assert_allclose(frames[2].positions, FRAMES[2].positions, atol=1e-7)


def test_energies_and_forces_go_into_extended_xyz(files) -> None:
    assert predict("--out", "out.xyz", model="e.safetensors") == 0
    atoms = ase.io.read(files / "out.xyz", "0")
    found = Predictor(smooth_model()).predict(FRAMES[:1])[0]
    assert atoms.info["jmp_energy"] == pytest.approx(found["energy"], rel=1e-5)
    # eight digits in the file, of forces of some eV/Å in float32
    np.testing.assert_allclose(atoms.arrays["jmp_forces"], found["forces"], atol=1e-4)


def test_a_table_leaves_the_forces_out(files, capsys) -> None:
    assert predict(model="e.safetensors") == 0
    assert capsys.readouterr().out.splitlines()[0] == "structure,formula,energy_eV"


def test_notes_go_to_stderr_once_with_the_structure(files, capsys) -> None:
    charged = FRAMES[1].copy()
    charged.info["charge"] = 1
    ase.io.write("in.extxyz", [FRAMES[0], charged, charged])
    assert predict("--head", "scalar") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "charge" in line] == [
        "note        structure 1: atoms.info has charge 1, which JMP models do not know"
    ]


def test_a_bad_structure_is_named_before_anything_is_written(files, capsys) -> None:
    ase.io.write("in.extxyz", [*FRAMES, molecule("NH3")])
    assert predict("--out", "out.csv") == 2
    assert "which head 'scalar'" in (error := capsys.readouterr().err)
    assert "this is structure 3 of in.extxyz" in error
    assert not (files / "out.csv").exists()


def test_a_file_is_only_replaced_on_request(files, capsys) -> None:
    (files / "out.csv").write_text("mine")
    assert predict("--out", "out.csv") == 2
    assert "out.csv exists; give another --out, or --overwrite" in (
        capsys.readouterr().err
    )
    assert (files / "out.csv").read_text() == "mine"
    assert predict("--out", "out.csv", "--overwrite") == 0
    assert (files / "out.csv").read_text().startswith("structure,")


def test_an_ending_that_is_neither_format_is_refused(files, capsys) -> None:
    assert predict("--out", "out.txt") == 2
    assert "ends in .csv (a table) or .extxyz or .xyz" in capsys.readouterr().err


def test_a_missing_file_is_an_error(files, capsys) -> None:
    assert main(["predict", "no.xyz", "--model", "m.safetensors"]) == 2
    assert "no.xyz does not exist; give a file of structures" in capsys.readouterr().err


def test_a_run_with_property_weights_points_here(files, capsys) -> None:
    assert main(["run", "in.extxyz", "--model", "m.safetensors", "--steps", "1"]) == 2
    assert "'jmp-md predict FILE --model MODEL'" in capsys.readouterr().err


def test_the_sheet_of_a_model_shows_its_properties(files, capsys) -> None:
    print_sheet(files / "m.safetensors")
    sheet = capsys.readouterr().out
    assert "predicts    gap in eV: sum over the atoms\n" in sheet
    assert "classes     fcc, bcc, hcp\n" in sheet
    assert "use         jmp-md predict FILE --model THIS\n" in sheet
    assert "fit-references" not in sheet
    assert "conservative" not in sheet


def test_sigterm_ends_it_like_ctrl_c_and_leaves_no_file(files, capsys, monkeypatch):
    def terminated(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Predictor, "predict", terminated)
    # without the change SIGTERM would end the tests
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert predict("--out", "out.csv") == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.strip().endswith("jmp-md: interrupted")
    assert not list(files.glob("*out.csv*"))
