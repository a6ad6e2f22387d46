"""What an experiment writes."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image

from jmp_train.experiments.arms import ArmResult
from jmp_train.experiments.report import (
    Picture,
    Report,
    Table,
    curves_text,
    runs_table,
    write_report,
)
from jmp_train.experiments.results import (
    best_validation,
    by_seed,
    compared,
    error_of,
    estimate_of,
    steps_to_reach,
)
from jmp_train.experiments.statistics import Interval, estimate


def result(name: str, seed: int, force: float | None, **changes: object) -> ArmResult:
    errors = {} if force is None else {"set": {"force_mae_eV_per_A": force}}
    facts = {
        "name": name,
        "seed": seed,
        "tags": {"store": "set", "stage": "fine-tuning"},
        "errors": errors,
        "train_errors": errors,
        "val_errors": errors,
        "curve": [
            {"step": 0, "tasks": {"set": {"force_mae_eV_per_A": 0.4}}},
            {"step": 5, "tasks": errors},
        ],
        "n_steps": 10,
        "n_systems": 1234,
        "n_parameters": 56789,
        "seconds": 36.0,
        "gpu_memory_GB": None,
        "device": "a CPU",
        "config_hash": "h",
        "fingerprints": {"set-train": "f"},
        "weights": "w",
    }
    return ArmResult(**(facts | changes))


RESULTS = [
    result("b", 1, 0.25),
    result("b", 0, 0.125),
    result("a", 0, None, problem="the loss is not finite"),
]


def test_a_table_is_markdown_with_numbers_flush_right() -> None:
    table = Table(
        title="A table",
        columns=("arm", "error", "seeds"),
        rows=(("a", 0.123456, "1,000"), ("b", math.nan, "2")),
        note="A note.",
    )
    assert table.to_markdown().splitlines() == [
        "### A table",
        "",
        "| arm | error | seeds |",
        "| --- | ---: | ---: |",
        "| a | 0.1235 | 1,000 |",
        "| b | not measured | 2 |",
        "",
        "A note.",
    ]


def test_errors_are_in_the_order_of_the_seeds_and_in_the_unit_of_the_table() -> None:
    assert by_seed(RESULTS, "b", "set", "forces") == [125.0, 250.0]


def test_a_run_that_failed_has_an_error_that_is_not_measured() -> None:
    assert math.isnan(by_seed(RESULTS, "a", "set", "forces")[0])


def test_only_runs_with_all_tags_are_taken() -> None:
    assert by_seed(RESULTS, "b", "set", "forces", store="other") == []


@pytest.mark.parametrize("value", [None, "text", math.nan])
def test_what_is_no_number_is_not_measured(value) -> None:
    assert math.isnan(error_of({"force_mae_eV_per_A": value}, "forces"))


def test_nothing_measured_is_said_in_words() -> None:
    assert estimate_of([math.nan]) == "not measured"


def test_an_arm_is_compared_with_itself_in_words() -> None:
    errors = [1.0, 2.0]
    assert compared(errors, errors)[1:] == ("reference", "reference")


def test_an_arm_is_compared_pair_by_pair() -> None:
    error, difference, gain = compared([1.0, 2.0], [2.0, 4.0])
    assert error == estimate([1.0, 2.0])
    assert difference.startswith("-1.5 [")
    assert gain == estimate([50.0, 50.0])


def test_the_first_validation_that_is_good_enough_counts() -> None:
    run = RESULTS[1]
    assert best_validation(run, "set", "forces") == 125.0
    assert steps_to_reach(run, "set", "forces", 125.0) == 5
    assert steps_to_reach(run, "set", "forces", 100.0) is None


def test_the_table_of_runs_has_every_run_with_its_cost_and_its_end() -> None:
    table = runs_table(RESULTS)
    assert [row[0] for row in table.rows] == ["b", "b", "a"]
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert (first["training systems"], first["parameters"]) == ("1,234", "56,789")
    assert (first["hours"], first["end"]) == ("0.0100", "done")
    assert table.rows[2][-1] == "failed"


def test_gpu_memory_is_a_column_where_there_was_a_gpu() -> None:
    table = runs_table([result("a", 0, 0.1, gpu_memory_GB=1.5), RESULTS[0]])
    column = table.columns.index("GPU memory, GB")
    assert [row[column] for row in table.rows] == ["1.50", "not measured"]


def test_curves_are_comma_separated_with_one_line_per_validation_and_task() -> None:
    rows = list(csv.DictReader(StringIO(curves_text(RESULTS[:1]))))
    assert [row["step"] for row in rows] == ["0", "5"]
    assert rows[1]["force MAE, meV/Å"] == "250.0"
    assert rows[1]["energy MAE, meV/atom"] == "nan"


@pytest.fixture
def written(tmp_path):
    report = Report(
        question="Which is better?",
        findings=("b is.",),
        tables=(Table(title="Errors", columns=("arm",), rows=(("b",),)),),
        picture=Picture(
            draw=lambda figure: figure.subplots().plot([0, 1]),
            words="A line",
            size=(3.0, 2.0),
        ),
        facts={"gain": 0.5},
    )
    return write_report(
        tmp_path / "new",
        report,
        RESULTS,
        title="E0 test",
        settings={"seeds": 2},
        details={"budget": {"steps": 10}},
    )


def test_a_report_says_first_what_failed_then_what_was_found(written) -> None:
    lines = written.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# E0 test"
    assert lines[2] == "**Which is better?**"
    assert lines[4] == "- FAILED: a, seed 0: the loss is not finite"
    assert lines[5] == "- b is."
    assert "- seeds: 2" in lines


def test_results_hold_every_number_of_every_run(written) -> None:
    text = (written.parent / "results.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    assert facts["facts"] == {"gain": 0.5}
    assert facts["budget"] == {"steps": 10}
    assert [run["seed"] for run in facts["runs"]] == [1, 0, 0]
    assert facts["runs"][0]["fingerprints"] == {"set-train": "f"}


def test_results_have_numbers_in_the_place_of_words_and_nothing_but_json(
    tmp_path,
) -> None:
    facts = {
        "gain": Interval(mean=1.5, low=math.nan, high=math.inf),
        "seen": (True, None, Path("a")),
    }
    report = Report(question="?", findings=(), tables=(), facts=facts)
    write_report(tmp_path, report, [], title="T", settings={}, details={})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=refuse)["facts"]
    assert found["gain"] == {"mean": 1.5, "low": None, "high": None}
    assert found["seen"] == [True, None, "a"]


def test_the_picture_is_a_png_of_the_size_asked_for(written) -> None:
    with Image.open(written.parent / "figure.png") as image:
        assert image.size == (480, 320)
