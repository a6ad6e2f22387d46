from __future__ import annotations

import json
from pathlib import Path

import pytest

from jmp_calc.errors import CheckpointError
from jmp_calc.models.weights import load_weights
from jmp_train.export import export_weights, joined_licences
from toys.run_states import HEADERS, save_toy_run, toy_model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_toy_run(tmp_path / "run")
    return tmp_path / "run"


def test_the_averaged_weights_are_exported(run) -> None:
    model = load_weights(export_weights(run))
    assert all((p == 2).all() for p in model.parameters())
    assert model.info["training"]["is_averaged"] is True


def test_the_raw_weights_are_exported_on_request(run) -> None:
    model = load_weights(export_weights(run, is_averaged=False))
    assert all((p == 1).all() for p in model.parameters())
    assert model.info["training"]["is_averaged"] is False


def test_a_run_without_average_exports_its_weights(tmp_path) -> None:
    save_toy_run(tmp_path, has_average=False)
    model = load_weights(export_weights(tmp_path))
    assert all((p == 1).all() for p in model.parameters())


def test_heads_of_properties_are_exported_with_what_they_assume(run) -> None:
    assert load_weights(export_weights(run)).heads == toy_model().heads


def test_a_checkpoint_is_exported_into_the_folder_of_its_run(run) -> None:
    checkpoint = run / "checkpoints" / "step-00000003"
    assert export_weights(checkpoint) == run / "toy.safetensors"


def test_the_best_checkpoint_is_exported_on_request(tmp_path) -> None:
    save_toy_run(tmp_path, is_best=True)
    model = load_weights(export_weights(tmp_path, is_best=True))
    assert model.info["training"]["step"] == 3


def test_a_run_without_a_best_checkpoint_says_so(run) -> None:
    with pytest.raises(
        CheckpointError, match=r"no checkpoint in .* marked as the best"
    ):
        export_weights(run, is_best=True)


def test_the_file_says_what_the_weights_learned_from(run) -> None:
    training = load_weights(export_weights(run)).info["training"]
    assert training["start"] == "x"
    assert training["tasks"]["qm7x"] == {
        "datasets": HEADERS["qm7x"]["datasets"],
        "n_systems": 10,
        "systems_seen": 7,
        "fingerprint": "abc",
    }


def test_the_licence_names_those_of_data_and_of_starting_weights(run) -> None:
    model = load_weights(export_weights(run))
    assert model.info["licence"] == "CC-BY-NC-4.0; CC-BY-4.0; MIT"


@pytest.mark.parametrize(
    ("licences", "joined"),
    [
        (["MIT", "MIT"], "MIT"),
        (["", "MIT"], "MIT"),
        ([], "not stated"),
    ],
)
def test_a_licence_is_named_once(licences, joined) -> None:
    assert joined_licences(licences) == joined


def test_errors_that_the_run_measured_at_this_step_are_in_the_file(run) -> None:
    measured = {"test": {"qm7x": {}}, "versions": {"torch": "2"}, "hardware": "abacus"}
    (run / "summary.json").write_text(json.dumps({"step": 3, **measured}))
    training = load_weights(export_weights(run)).info["training"]
    assert {key: training[key] for key in measured} == measured


def test_errors_of_another_step_are_not(run) -> None:
    (run / "summary.json").write_text(json.dumps({"step": 4, "test": {}}))
    assert "test" not in load_weights(export_weights(run)).info["training"]


def test_a_damaged_summary_is_an_error(run) -> None:
    (run / "summary.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"summary\.json is damaged .* delete it"):
        export_weights(run)
