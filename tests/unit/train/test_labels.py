from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jmp_calc.errors import DataError
from jmp_calc.units import HARTREE, KCAL_PER_MOL
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.labels import (
    FREE_ATOMS_HARTREE,
    check_labels,
    label_table,
    unit_warnings,
    wanted_labels,
)
from jmp_train.text_table import text_table
from toys.training import RULES, toy_config


def header(**changes: Any) -> dict[str, Any]:
    """Of a store of a hundred systems with plausible energies and forces."""
    statistics = {
        "references": {"1": -13.6, "6": -1029.9},
        "energy_std": 0.5,
        "force_rms": 1.2,
        "stress_rms": 0.0,
        "mean_atoms": 9.0,
        "n_systems": 100,
        "n_atoms": 900,
        "n_energies": 100,
        "n_forces": 100,
        "elements": [1, 6],
        "targets": {},
    }
    return {
        "n_systems": 100,
        "labels": {
            "energy": 100,
            "forces": 100,
            "stress": 0,
            **changes.pop("also", {}),
        },
        "statistics": statistics | changes,
    }


def config_of(**changes: Any) -> TrainConfig:
    """A run of one task."""
    config = toy_config(Path("stores"), Path("run"))
    task = TaskConfig(**({"name": "mine", "graph": RULES} | changes))
    return replace(config, data=replace(config.data, tasks=(task,)))


def test_the_table_shows_how_many_systems_have_each_label() -> None:
    first = header()
    second = header(also={"forces": 40, "gap": 100, "U_0": 99})
    assert label_table({"mine": first, "other": second}).splitlines() == [
        "labels  systems  mean atoms  energy  forces  stress  targets",
        "mine        100         9.0  all     all     –       –",
        "other       100         9.0  all     40.0 %  –       gap, U_0 (99.0 %)",
    ]


def test_many_targets_are_counted() -> None:
    names = {f"t{number}": 100 for number in range(7)}
    assert label_table({"a": header(also=names)}).endswith("t0, t1, t2, t3 and 3 more")


def test_a_label_of_few_systems_is_not_shown_as_none_or_all() -> None:
    few = header(also={"forces": 1}) | {"n_systems": 100_000}
    assert "0.1 %" in label_table({"a": few})
    most = header(also={"energy": 99_999}) | {"n_systems": 100_000}
    assert "99.9 %" in label_table({"a": most})


def test_columns_are_aligned_to_the_left_and_numbers_to_the_right() -> None:
    rows = [("name", "n"), ("a", "10"), ("bcdef", "9")]
    assert text_table(rows, is_number=(False, True)) == "\n".join(
        ["name    n", "a      10", "bcdef   9"]
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ["energy", "forces"]),
        ({"energy_weight": 0.0}, ["forces"]),
        ({"force_weight": 0.0}, ["energy"]),
        ({"forces": None}, ["energy"]),
        ({"stress_weight": 0.1}, ["energy", "forces", "stress"]),
        ({"kind": "scalar", "forces": None, "target": "gap"}, ["gap"]),
    ],
    ids=str,
)
def test_a_task_wants_what_it_is_trained_on(changes, wanted) -> None:
    (task,) = config_of(**changes).data.tasks
    assert wanted_labels(task) == wanted


def test_a_run_that_has_its_labels_has_no_warnings() -> None:
    assert check_labels(config_of(), {"mine": header()}) == []


@pytest.mark.parametrize(
    ("changes", "also", "text"),
    [
        ({}, {"forces": 0}, r"learn forces labels, but .* any; labels found: energy"),
        ({"stress_weight": 1.0}, {}, "learn stress labels, .*found: energy, forces"),
        (
            {"kind": "scalar", "forces": None, "target": "gep"},
            {"gap": 3},
            r"is to learn 'gep', .*found: energy, forces, gap; did you mean 'gap'",
        ),
        ({}, {"energy": 0, "forces": 0}, "learn energy labels, .*found: none"),
    ],
)
def test_an_absent_label_is_an_error_that_lists_those_found(
    changes, also, text
) -> None:
    with pytest.raises(DataError, match=text):
        check_labels(config_of(**changes), {"mine": header(also=also)})


def test_a_label_of_some_systems_is_a_warning_with_the_share_without() -> None:
    (text,) = check_labels(config_of(), {"mine": header(also={"forces": 75})})
    assert "25 of 100 systems (25 %) have no label 'forces'" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        # hot molecules in kcal/mol
        ({"force_rms": 23.7}, "is 23.7 eV/Å, which is implausibly large"),
        ({"force_rms": 1e-5}, "is 1e-05 eV/Å, which is implausibly small"),
        (
            {"force_rms": 10.0, "energy_std": 0.1},
            "beside a spread of the energies of 0.1 eV",
        ),
    ],
)
def test_implausible_scales_are_a_warning(changes, text) -> None:
    (warning,) = unit_warnings("mine", header(**changes))
    assert text in warning
    assert warning.endswith("labels were in eV and eV/Å, or convert them")


@pytest.mark.parametrize(
    ("name", "factor"), [("hartree", 1.0), ("kcal/mol", HARTREE / KCAL_PER_MOL)]
)
def test_energies_that_were_not_converted_are_recognised(name, factor) -> None:
    references = {"1": -0.5 * factor}
    references |= {str(z): FREE_ATOMS_HARTREE[z] * factor * 1.002 for z in (6, 8)}
    (warning,) = unit_warnings("mine", header(references=references))
    assert f"those of free atoms in {name}" in warning


def test_energies_in_ev_are_not_taken_for_hartree() -> None:
    converted = {str(z): e * HARTREE for z, e in FREE_ATOMS_HARTREE.items()}
    assert unit_warnings("mine", header(references=converted)) == []
    plane_waves = {"1": -3.5, "6": -9.3, "8": -5.1}
    assert unit_warnings("mine", header(references=plane_waves)) == []


def test_two_systems_that_references_fit_exactly_are_no_reason_to_warn() -> None:
    few = header(energy_std=1e-12, n_energies=2, n_forces=2, n_systems=2)
    assert unit_warnings("mine", few) == []
