from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_train.run_state import check_same_run, read_state
from toys.run_states import save_toy_run, toy_model, toy_state


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def checkpoint(run: Path) -> Path:
    """A saved run; read only."""
    return save_toy_run(run)


def test_the_facts_of_a_run_come_back(run, checkpoint) -> None:
    assert read_state(checkpoint) == toy_state(run, toy_model())


def changed(checkpoint: Path, folder: Path, name: str, value: object) -> Path:
    """A copy of a checkpoint with another fact."""
    copy = folder / checkpoint.name
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = json.loads((copy / "facts.json").read_text(encoding="utf-8"))
    content["facts"][name] = value
    (copy / "facts.json").write_text(json.dumps(content), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("colour", "blue", r"holds the facts \['colour', .* a run needs"),
        ("config", {"colour": 1}, "another version of jmp-train .*'colour'"),
        ("position", {"step": "three"}, "another version of jmp-train .*step"),
        ("heads", [{"colour": 1}], "another version of jmp-train .*'colour'"),
        ("headers", [1], r"is damaged \(headers is \[1\]\); delete it"),
        ("parts", {"schedule": 1}, r"is damaged \(parts is"),
    ],
)
def test_facts_that_are_not_those_of_a_run_are_an_error(
    checkpoint, tmp_path, name, value, message
) -> None:
    path = changed(checkpoint, tmp_path, name, value)
    with pytest.raises(CheckpointError, match=message):
        read_state(path)


def test_the_same_run_may_move_and_use_other_hardware(run) -> None:
    state = toy_state(run, toy_model())
    config = replace(state.config, out=Path("moved"), device="auto", keep_checkpoints=7)
    check_same_run(state, config, {"qm7x": "abc", "pbe": "def"})


def test_other_settings_and_other_samples_are_listed(run) -> None:
    state = toy_state(run, toy_model())
    message = r"seed was 0 and is 5; the store of qm7x has other samples; 2 in all"
    with pytest.raises(ArgumentError, match=message):
        check_same_run(
            state, replace(state.config, seed=5), {"qm7x": "xyz", "pbe": "def"}
        )
