from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.plots.curves import draw_runs, plot_runs
from jmp_train.plots.history import read_history

TASKS = {"water": {"n_systems": 4, "energy_loss": 0.5}}


def step(number: int, **facts: Any) -> dict[str, Any]:
    return {
        "kind": "step",
        "step": number,
        "seconds": 2.0 * number,
        "loss": 10.0 / number,
        "learning_rate": 1e-3,
        "tasks": TASKS,
        **facts,
    }


def validation(number: int, force: float) -> dict[str, Any]:
    errors = {"n_systems": 3, "force_mae_eV_per_A": force, "energy_mae_eV": None}
    return {"kind": "evaluation", "step": number, "tasks": {"water": errors}}


def write_log(folder: Path, *records: dict[str, Any], name: str = "toy") -> Path:
    folder.mkdir(exist_ok=True)
    start = {"kind": "start", "name": name, "step": 0}
    lines = [json.dumps(record) for record in (start, *records)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_numbers_of_steps_become_series(tmp_path) -> None:
    run = read_history(write_log(tmp_path, step(1), step(2)))
    steps, losses = run.series("loss")
    assert steps.tolist() == [1, 2]
    assert losses.tolist() == [10.0, 5.0]
    assert run.series("water/energy_loss")[1].tolist() == [0.5, 0.5]


def test_rates_of_several_groups_have_names(tmp_path) -> None:
    record = step(1, learning_rate=[1e-3, 2e-3])
    run = read_history(write_log(tmp_path, record))
    assert run.series("learning_rate 1")[1].tolist() == [2e-3]


def test_errors_of_a_validation_are_series_without_gaps(tmp_path) -> None:
    folder = write_log(tmp_path, validation(0, 0.4), step(5), validation(5, 0.2))
    run = read_history(folder)
    assert run.tasks == ["water"]
    assert run.errors("water", "force_mae_eV_per_A")[1].tolist() == [0.4, 0.2]
    # null in the log: a prediction was not finite
    assert len(run.errors("water", "energy_mae_eV")[0]) == 0


def test_what_was_logged_beyond_the_point_of_resuming_is_replaced(tmp_path) -> None:
    again = {"kind": "start", "name": "toy", "step": 2}
    records = [step(n, loss=1.0) for n in (1, 2, 3, 4)]
    records += [validation(4, 0.9), again, step(3, loss=7.0)]
    run = read_history(write_log(tmp_path, *records))
    assert run.series("loss")[0].tolist() == [1, 2, 3]
    assert run.series("loss")[1].tolist() == [1, 1, 7]
    assert not run.validations


def test_a_last_line_that_is_cut_off_is_left_out_and_noted(tmp_path) -> None:
    folder = write_log(tmp_path, step(1))
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(step(2))[:30])
    run = read_history(folder)
    assert run.series("loss")[0].tolist() == [1]
    assert "1 lines are damaged or cut off, and left out (3)" in run.notes[0]


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "step", "step": null}',
        '{"kind": "evaluation", "step": 3, "tasks": null}',
        '{"kind": "step", "step": 3, "tasks": {"a": null}}',
        "[1, 2]",
        "\x00",
    ],
)
def test_a_line_that_is_no_record_is_left_out_and_noted(tmp_path, line) -> None:
    folder = write_log(tmp_path, step(1))
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    run = read_history(folder)
    assert (list(run.steps), run.validations) == ([1], {})
    assert "1 lines are damaged" in run.notes[0]


def test_speed_counts_systems_of_all_steps_between_lines(tmp_path) -> None:
    run = read_history(write_log(tmp_path, step(10), step(20), step(30)))
    steps, rate = run.throughput()
    assert steps.tolist() == [20, 30]
    # 10 steps of 4 systems in 20 seconds
    np.testing.assert_allclose(rate, 2.0)


def test_a_speed_in_the_log_is_taken_as_it_is(tmp_path) -> None:
    run = read_history(write_log(tmp_path, step(1, systems_per_second=12.5)))
    assert run.throughput()[1].tolist() == [12.5]


def test_a_folder_without_a_log_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match=r"has no log.jsonl; name the folder of a run"):
        read_history(tmp_path)


def test_a_log_without_steps_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="no step and no validation yet"):
        read_history(write_log(tmp_path))


def panels(figure: Any) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes if axes.axison]


def test_each_quantity_has_a_panel_with_its_unit(tmp_path) -> None:
    records = [step(1, gradient_norm=2.0), validation(1, 0.3)]
    run = read_history(write_log(tmp_path, *records))
    figure = draw_runs([run], ["toy"])
    assert panels(figure) == [
        "training loss (network units)",
        "validation: force MAE (meV/Å)",
        "learning rate",
        "gradient norm before clipping",
        "systems per second",
    ]


def test_a_single_point_is_seen_in_every_panel(tmp_path) -> None:
    record = step(1, gradient_norm=2.0, systems_per_second=3.0)
    run = read_history(write_log(tmp_path, record, validation(1, 0.3)))
    figure = draw_runs([run], ["toy"])
    drawn = [axes.lines[0] for axes in figure.axes if axes.axison]
    assert [line.get_marker() for line in drawn] == ["o"] * 5


def test_target_errors_show_the_unit_of_the_target(tmp_path) -> None:
    errors = {"n_systems": 3, "target": "gap", "target_unit": "eV", "target_mae": 0.4}
    record = {"kind": "evaluation", "step": 1, "tasks": {"gap": errors}}
    run = read_history(write_log(tmp_path, record))
    assert "validation: target MAE (eV)" in panels(draw_runs([run], ["toy"]))


def test_several_runs_are_told_apart_by_a_legend(tmp_path) -> None:
    for name in ("one", "two"):
        write_log(tmp_path / name, step(1), step(2), validation(2, 0.3), name=name)
    plot_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    runs = [read_history(tmp_path / name) for name in ("one", "two")]
    (legend,) = draw_runs(runs, ["one", "two"]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


def test_pictures_can_be_vector_graphics(tmp_path) -> None:
    plot_runs([write_log(tmp_path, step(1))], tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_a_picture_with_another_ending_is_an_error(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in .png, .pdf, .svg"):
        plot_runs([write_log(tmp_path, step(1))], tmp_path / "curves.jpeg2")


def test_drawing_leaves_pyplot_alone(tmp_path) -> None:
    import sys

    before = "matplotlib.pyplot" in sys.modules
    plot_runs([write_log(tmp_path, step(1))], tmp_path / "curves.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
