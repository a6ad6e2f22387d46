"""Every experiment through the command line, at the smallest budget, on toys."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from jmp_calc.cli import EXIT_INTERRUPTED
from jmp_train.cli import main
from jmp_train.trainer import Trainer
from toys.experiments import (
    DOWNSTREAM,
    PRETRAINING,
    write_experiment_stores,
    write_toy_weights,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment_stores(tmp_path_factory.mktemp("experiment-stores"))


@pytest.fixture(scope="module")
def weights(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "toy.safetensors"
    return write_toy_weights(stores, path)


def run(name: str, stores: Path, weights: Path, out: Path, *more: str) -> int:
    words = ["experiment", name, "--stores", stores, "--out", out]
    words += ["--weights", weights, "--budget", "smoke", "--device", "cpu"]
    words += ["--downstream", DOWNSTREAM, *more]
    return main([str(word) for word in words])


def pretraining(*names: str) -> list[str]:
    return [word for name in names for word in ("--pretraining", name)]


def results_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def check_answer(out: Path, arms: set[str]) -> str:
    """A complete answer: a report with all arms, numbers, curves and a picture."""
    report = (out / "report.md").read_text(encoding="utf-8")
    results = results_of(out)
    assert {run["name"] for run in results["runs"]} == arms
    assert all(run["errors"] for run in results["runs"])
    assert all(f"| {arm} |" in report for arm in arms)
    assert "### Runs" in report
    assert "parameters" in report
    assert "nan" not in report
    with (out / "curves.csv").open(encoding="utf-8") as file:
        assert {row["arm"] for row in csv.DictReader(file)} == arms
    with Image.open(out / "figure.png") as image:
        assert min(image.size) > 300
    return report


def test_forces_compares_direct_with_gradient_forces_and_repeats_nothing(
    stores, weights, tmp_path, capsys
) -> None:
    assert run("E12", stores, weights, tmp_path) == 0
    report = check_answer(tmp_path, {"gradient", "direct"})
    assert "asymmetry" in report
    trained = sorted(tmp_path.glob("runs/*/seed0/*"))
    assert trained
    before = {path: path.stat().st_mtime_ns for path in trained}
    capsys.readouterr()
    assert run("E12", stores, weights, tmp_path) == 0
    assert "training" not in capsys.readouterr().out.split("# E12")[0]
    assert {path: path.stat().st_mtime_ns for path in trained} == before


def test_without_a_name_all_experiments_are_listed(capsys) -> None:
    assert main(["experiment"]) == 0
    lines = capsys.readouterr().out.splitlines()
    numbers = [line.split()[0] for line in lines]
    assert numbers == ["E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E12"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment", "E99"], "unknown experiment 'E99'; choose from"),
        (["experiment", "E3"], "needs the folder of the stores"),
        (
            ["experiment", "E3", "--stores", "s", "--out", "o"],
            "name at least one store to fine-tune on",
        ),
        (
            ["experiment", "E3", "--stores", "s", "--out", "o", "--downstream", "a"],
            "pre-trains on at least 2 stores and was given 0",
        ),
        (
            ["experiment", "E12", "--stores", "s", "--out", "o", "--downstream", "a"],
            "there is no store",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_trained(
    words, message, capsys
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_request_to_stop_during_the_last_step_of_a_run_is_heard(
    stores, weights, tmp_path, monkeypatch, capsys
) -> None:
    test = Trainer._test

    def asked_to_stop(trainer):
        signal.raise_signal(signal.SIGTERM)
        return test(trainer)

    monkeypatch.setattr(Trainer, "_test", asked_to_stop)
    assert run("E12", stores, weights, tmp_path) == EXIT_INTERRUPTED
    assert "goes on from here" in capsys.readouterr().err
    assert len(list(tmp_path.glob("runs/*/*/result.json"))) == 1


def test_a_folder_holds_the_report_of_one_experiment(
    stores, weights, tmp_path, capsys
) -> None:
    (tmp_path / "results.json").write_text('{"title": "E3 temperature"}')
    assert run("E12", stores, weights, tmp_path) == 2
    message = "holds the report of E3 temperature, which that of E12 forces would"
    assert message in capsys.readouterr().err
    (tmp_path / "results.json").write_text('{"title"')
    assert run("E12", stores, weights, tmp_path) == 2
    assert "results.json is damaged" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_set_without_a_part_is_an_error_before_anything_is_trained(
    stores, weights, tmp_path, capsys, part
) -> None:
    for path in stores.glob("tune-*"):
        if not path.name.endswith(part):
            (tmp_path / path.name).symlink_to(path)
    assert run("E12", tmp_path, weights, tmp_path / "out") == 2
    assert f"there is no store {tmp_path / f'tune-{part}'}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_scratch_vs_pretrained_draws_a_learning_curve(
    stores, weights, tmp_path
) -> None:
    assert run("E1", stores, weights, tmp_path, "--target", "gap") == 0
    report = check_answer(tmp_path, {"scratch", "pre-trained", "frozen backbone"})
    assert "MAE of gap, eV" in report
    sizes = {run["n_systems"] for run in results_of(tmp_path)["runs"]}
    assert sizes == {8, 12}
    parameters = {run["n_parameters"] for run in results_of(tmp_path)["runs"]}
    assert len(parameters) == 1


@pytest.mark.slow
def test_arms_side_by_side_get_the_rate_that_validates_best(
    stores, weights, tmp_path, capsys
) -> None:
    more = ["--arm", "pre-trained", "--train-systems", "8", "--processes", "2"]
    more += ["--rate", "1e-3", "--rate", "3e-3", "--finetune-steps", "3"]
    assert run("E1", stores, weights, tmp_path, *more) == 0
    report = check_answer(tmp_path, {"scratch", "pre-trained"})
    assert "Learning rates" in report
    assert "at the end of what was tried" in report
    assert len(list(tmp_path.glob("runs/*/seed0/result.json"))) == 4
    assert {run["n_steps"] for run in results_of(tmp_path)["runs"]} == {3}
    assert "[4/4]" in capsys.readouterr().out


@pytest.mark.slow
def test_loss_reduction_states_the_share_of_each_task_in_the_gradient(
    stores, weights, tmp_path
) -> None:
    more = pretraining("small", "large")
    assert run("E2", stores, weights, tmp_path, *more) == 0
    arms = {"structure-wise", "atom-wise", "structure-wise, one force weight"}
    check_answer(tmp_path, arms)
    shares = results_of(tmp_path)["facts"]["gradient_share_percent"]
    for by_task in shares.values():
        assert sum(seeds[0] for seeds in by_task.values()) == pytest.approx(100)


@pytest.mark.slow
def test_temperature_shows_how_often_each_system_is_seen(
    stores, weights, tmp_path
) -> None:
    more = pretraining("small", "large")
    assert run("E3", stores, weights, tmp_path, *more) == 0
    report = check_answer(tmp_path, {"T = 1", "T = 2", "T = 3", "T = ∞"})
    assert "| T = ∞ | large | 12 | 0.5000 | 16 | 1.33 | 32 |" in report


@pytest.mark.slow
def test_scaling_measures_overfitting_of_each_size(stores, weights, tmp_path) -> None:
    assert run("E4", stores, weights, tmp_path, *pretraining("small")) == 0
    arms = {
        f"{size}, {start}"
        for size in ("tiny", "wider")
        for start in ("scratch", "pre-trained")
    }
    report = check_answer(tmp_path, arms)
    assert "validation / training" in report
    assert "nothing is said beyond" in report


@pytest.mark.slow
def test_overlap_names_the_systems_that_it_leaves_out(
    stores, weights, tmp_path
) -> None:
    more = pretraining("small", "large")
    assert run("E5", stores, weights, tmp_path, *more) == 0
    check_answer(tmp_path, {"full pre-training", "without the overlap"})
    excluded = json.loads((tmp_path / "excluded.json").read_text(encoding="utf-8"))
    names = {e["name"].split()[0] for found in excluded.values() for e in found}
    assert names == {"H2O", "CH3OH"}
    sizes = {
        (run["name"], run["n_systems"])
        for run in results_of(tmp_path)["runs"]
        if run["tags"]["stage"] == "pre-training"
    }
    assert sizes == {("full pre-training", 28), ("without the overlap", 19)}


@pytest.mark.slow
def test_heads_compares_a_kept_head_with_a_new_one(stores, weights, tmp_path) -> None:
    assert run("E6", stores, weights, tmp_path) == 0
    arms = {
        "new head",
        "kept head",
        "probe: only the new head learns",
        "new head first, then all",
        "new head first, then all: first half",
    }
    report = check_answer(tmp_path, arms)
    assert "| mean of new and kept head |" in report
    steps = {run["name"]: run["n_steps"] for run in results_of(tmp_path)["runs"]}
    both = [f"new head first, then all{part}" for part in ("", ": first half")]
    assert sum(steps[name] for name in both) == steps["new head"]


@pytest.mark.slow
def test_transfer_measures_the_distance_of_the_sets(stores, weights, tmp_path) -> None:
    assert run("E7", stores, weights, tmp_path, *pretraining("small")) == 0
    arms = {
        "scratch",
        "pre-trained",
        "pre-trained, rates by layer",
        "frozen backbone",
    }
    report = check_answer(tmp_path, arms)
    assert "Fréchet" in report


@pytest.mark.slow
def test_leave_one_out_ranks_the_pretraining_sets(stores, weights, tmp_path) -> None:
    assert run("E8", stores, weights, tmp_path, *pretraining(*PRETRAINING)) == 0
    arms = {"all"} | {f"{w} {n}" for w in ("without", "only") for n in PRETRAINING}
    report = check_answer(tmp_path, arms)
    assert "Rank of the pre-training sets" in report
