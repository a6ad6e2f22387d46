from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.evaluation.report import compared
from jmp_train.evaluation.run import Evaluation, EvaluationSettings, run_evaluation
from toys.evaluation import save_toy, write_evaluation_stores, write_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights and stores."""
    folder = tmp_path_factory.mktemp("evaluation")
    save_toy(folder)
    write_evaluation_stores(folder / "stores")
    return folder


def measure(folder: Path, out: Path, **settings: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "stores": None if "data" in settings else folder / "stores",
        "has_pictures": False,
        **settings,
    }
    weights = str(folder / "toy.safetensors")
    return run_evaluation(
        EvaluationSettings(weights=weights, out=out, device="cpu", **fields)
    )


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory) -> Path:
    """The folder of an evaluation on all stores."""
    return measure(folder, tmp_path_factory.mktemp("report"), has_pictures=True).out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_set_has_errors_a_table_and_a_picture(report) -> None:
    facts = json.loads((report / "report.json").read_text())
    assert list(facts["sets"]) == ["qm7x", "pbe", "gap", "metal"]
    for name in facts["sets"]:
        assert (report / f"predictions-{name}.csv").is_file()
        assert (report / f"parity-{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_rows_repeat_the_errors_of_the_report(report) -> None:
    facts = json.loads((report / "report.json").read_text())["sets"]["qm7x"]["errors"]
    found = table(report / "predictions-qm7x.csv")
    assert len(found) == facts["n_systems"] == 7
    errors = [abs(float(row["energy_error_meV_per_atom"])) for row in found]
    # the same sums in another order
    assert np.mean(errors) == pytest.approx(facts["energy_mae_meV_per_atom"], rel=1e-9)
    weights = [3 * int(row["n_atoms"]) for row in found]
    forces = [float(row["force_mae_eV_per_A"]) for row in found]
    mae = np.average(forces, weights=weights)
    assert mae == pytest.approx(facts["force_mae_eV_per_A"], rel=1e-9)


def test_errors_by_size_source_and_element_make_the_whole(report) -> None:
    found = json.loads((report / "report.json").read_text())["sets"]["qm7x"]
    assert sum(part["n_systems"] for part in found["by_size"].values()) == 7
    elements = found["by_element"].values()
    mae = sum(e["n"] * e["mae"] for e in elements) / sum(e["n"] for e in elements)
    assert mae == pytest.approx(found["errors"]["force_mae_eV_per_A"], rel=1e-9)


def test_stress_is_scored_where_it_is_labelled(report) -> None:
    found = json.loads((report / "report.json").read_text())["sets"]["pbe"]["errors"]
    assert found["n_stress_components"] == 18
    # three of six components are 0.01
    assert found["baseline_stress_mae_eV_per_A3"] == pytest.approx(0.005)
    assert all(
        row["stress_mae_eV_per_A3"] for row in table(report / "predictions-pbe.csv")
    )


def test_columns_of_a_target_name_its_unit(report) -> None:
    (row, *_) = table(report / "predictions-gap.csv")
    assert list(row)[4:] == ["gap_label_eV", "gap_prediction_eV", "gap_error_eV"]
    error = float(row["gap_prediction_eV"]) - float(row["gap_label_eV"])
    assert float(row["gap_error_eV"]) == pytest.approx(error)


def test_columns_of_a_class_head_have_its_classes(report) -> None:
    found = table(report / "predictions-metal.csv")
    assert [row["is_metal_label"] for row in found] == ["no", "yes"] * 3 + ["no"]
    for row in found:
        is_yes = float(row["probability_yes"]) > 0.5
        assert row["is_metal_prediction"] == ("yes" if is_yes else "no")


def test_the_report_for_people_has_units_and_pictures(report) -> None:
    text = (report / "report.md").read_text()
    assert "# Errors of toy" in text
    assert "| force component, meV/Å | " in text
    assert "| gap, eV | 7 |" in text
    assert "| balanced accuracy | " in text
    assert "![predictions against labels](parity-gap.png)" in text


@pytest.fixture(scope="module")
def foreign(folder, tmp_path_factory) -> tuple[dict[str, Any], str]:
    """The report on a published set by a head for something else."""
    out = tmp_path_factory.mktemp("foreign")
    measure(folder, out, tasks=("rmd17-ethanol",), head="pbe")
    facts = json.loads((out / "report.json").read_text())
    return facts["sets"]["rmd17-ethanol"], (out / "report.md").read_text()


def test_published_errors_stand_beside_ours(foreign) -> None:
    facts, text = foreign
    assert "| JMP-L | 2 |" in text
    assert "Mind the protocol: JMP and GN-OC have one random split" in text
    ours = 1000 * facts["errors"]["force_mae_eV_per_A"]
    assert facts["published"]["forces"]["measured"] == pytest.approx(ours)


def test_nothing_published_stands_beside_another_part(folder, tmp_path) -> None:
    (score,) = measure(folder, tmp_path, tasks=("rmd17-ethanol",), head="pbe").scores
    assert [quantity for quantity, _, _ in compared(score)] == ["forces"]
    assert compared(replace(score, test_of="")) == []
    assert compared(replace(score, name="mine", test_of="rmd17-ethanol"))


def test_elements_that_the_head_does_not_know_are_named(foreign) -> None:
    assert "head 'pbe' was not trained on H, C, N, O" in foreign[0]["notes"]


def test_another_level_of_theory_is_noted(foreign) -> None:
    note = "the labels are Morse, head 'pbe' was trained on PBE"
    assert any(line.startswith(note) for line in foreign[0]["notes"])


def test_an_offset_of_all_energies_is_noted(foreign) -> None:
    assert any("different reference energies" in line for line in foreign[0]["notes"])


def test_without_pictures_none_is_drawn(foreign) -> None:
    assert "![" not in foreign[1]


def test_a_limit_takes_the_same_part_every_time(folder, tmp_path) -> None:
    names = []
    for out in (tmp_path / "a", tmp_path / "b"):
        measure(folder, out, tasks=("qm7x",), limit=3)
        names.append([row["name"] for row in table(out / "predictions-qm7x.csv")])
        text = (out / "report.md").read_text(encoding="utf-8")
        assert "- a random part: 3 of 7 systems" in text
    assert names[0] == names[1]
    assert len(names[0]) == 3


def test_batches_do_not_change_the_report(folder, tmp_path) -> None:
    numbers = []
    for n in (1, 100):
        found = measure(folder, tmp_path / str(n), tasks=("qm7x",), max_atoms=n)
        numbers.append(found.scores[0].errors.force_mae_eV_per_A)
    # sums of a float32 network in another order
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


def test_frames_with_predicted_forces_are_written_on_request(folder, tmp_path) -> None:
    source = write_frames(tmp_path / "mine.extxyz", 3)
    out = tmp_path / "report"
    measure(folder, out, data=(source,), head="qm7x", has_frames=True)
    frames = ase.io.read(out / "predictions-mine.extxyz", ":")
    rows = table(out / "predictions-mine.csv")
    for atoms, row in zip(frames, rows, strict=True):
        error = abs(atoms.arrays["predicted_forces"] - atoms.arrays["REF_forces"])
        # extended XYZ keeps eight decimals
        assert error.mean() == pytest.approx(float(row["force_mae_eV_per_A"]), abs=1e-7)


def test_data_and_stores_together_are_an_error(folder, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="choose one of them"):
        measure(folder, tmp_path, data=(tmp_path,), stores=tmp_path)
