"""The file that a fine-tuning leaves, and how its run ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError
from jmp_calc.models.weights import load_weights, save_weights
from jmp_train.config import StartConfig, TaskConfig, TrainConfig
from jmp_train.config_file import save_config
from jmp_train.data.store import Store, store_path
from jmp_train.finetune.finish import finish_weights, no_gain, record_errors
from jmp_train.finetune.run import check_folder, resumed_config
from jmp_train.finetune.tables import graph_line, group_table, head_lines, start_line
from jmp_train.finetune.zero_shot import HeadScore, dataset_of
from jmp_train.groups import parameter_groups
from jmp_train.metrics import choose_samples, evaluate_model
from jmp_train.recipes.nano import GRAPH
from jmp_train.runlog import RunLog
from toys.finetuning import toy_weights
from toys.training import RULES, toy_config


@pytest.fixture
def store(toy_stores: Path) -> Store:
    return Store(store_path(toy_stores, "qm7x", "train"))


def run_on(task: TaskConfig) -> TrainConfig:
    config = toy_config(Path("stores"), Path("run"))
    return replace(config, data=replace(config.data, tasks=(task,)))


def energy_error(path: Path, store: Store) -> float:
    model = load_weights(path)
    dataset = dataset_of(store, model.heads["qm7x"])
    errors = evaluate_model(
        model, dataset, choose_samples(dataset, None), forces="gradient"
    )["qm7x"]
    return errors.energy_mae_eV


def test_after_training_on_forces_alone_the_zero_of_the_energy_is_fitted(
    tmp_path, store
) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(toy_weights(references=None), path)
    before = energy_error(path, store)
    task = TaskConfig(name="qm7x", graph=RULES, energy_weight=0.0)
    (note,) = finish_weights(path, run_on(task), {"qm7x": store})
    assert "trained on forces alone" in note
    # total energies of thousands of eV, and what random weights leave of them
    assert before > 1000
    assert energy_error(path, store) < 10


def test_fitting_the_zero_leaves_forces_and_scales_alone(tmp_path, store) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(toy_weights(references=None), path)
    task = TaskConfig(name="qm7x", graph=RULES, energy_weight=0.0)
    finish_weights(path, run_on(task), {"qm7x": store})
    found, given = load_weights(path), toy_weights()
    assert found.heads["qm7x"].energy_scale == given.heads["qm7x"].energy_scale
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, given.state_dict()[name], rtol=0, atol=0)


def test_after_training_on_energies_alone_forces_are_their_derivative(
    tmp_path, store
) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(toy_weights(), path)
    model = load_weights(path)
    model.heads["qm7x"] = replace(model.heads["qm7x"], forces=None)
    save_weights(model, path)
    task = TaskConfig(name="qm7x", graph=RULES, forces=None)
    (note,) = finish_weights(path, run_on(task), {"qm7x": store})
    assert "forces are their derivative" in note
    assert load_weights(path).heads["qm7x"].forces == "gradient"


def test_after_training_on_both_the_file_stays_as_it_is(tmp_path, store) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(toy_weights(), path)
    before = path.read_bytes()
    task = TaskConfig(name="qm7x", graph=RULES)
    assert finish_weights(path, run_on(task), {"qm7x": store}) == []
    assert path.read_bytes() == before


def test_errors_are_those_of_the_finished_file(tmp_path) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(toy_weights(), path)
    record_errors(path, {"qm7x": {"force_mae_eV_per_A": 0.25}})
    training = load_weights(path).info["training"]
    assert training["test"] == {"qm7x": {"force_mae_eV_per_A": 0.25}}


@pytest.mark.parametrize(("best", "is_noted"), [(0.6, True), (0.4, False)])
def test_training_that_only_makes_weights_worse_is_noted(
    tmp_path, best, is_noted
) -> None:
    log = RunLog(tmp_path)
    log.append("evaluation", {"step": 0, "monitored": 0.5})
    log.append("evaluation", {"step": 5, "monitored": best})
    log.close()
    notes = no_gain(tmp_path, best=best, monitor="forces")
    assert bool(notes) is is_noted
    assert all("forces error of the validation was 0.5 before" in n for n in notes)


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"no run in .* to go on with: no config"):
        resumed_config(tmp_path)


def test_a_run_is_resumed_with_its_own_settings(tmp_path) -> None:
    config = toy_config(Path("stores"), tmp_path)
    save_config(config, tmp_path / "config.yml")
    assert resumed_config(tmp_path) == config


def test_a_folder_that_holds_nothing_can_take_a_run(tmp_path) -> None:
    check_folder(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_table_of_groups_shows_their_rates_and_what_is_frozen() -> None:
    start = StartConfig(
        weights="toy", layer_rates=(0.3, 0.5), frozen=("backbone.bases.*",)
    )
    config = toy_config(Path("stores"), Path("run"), start=start)
    model = toy_weights()
    text = group_table(parameter_groups(model, config), config)
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][0] == "embedding"
    assert lines[1][-2:] == ["0.3", "9.00e-04"]
    assert "interpolated by depth" in text
    assert "frozen      backbone.bases.*" in text


def test_the_start_names_weights_licence_and_hash() -> None:
    start = StartConfig(weights="toy", sha256="ab" * 32)
    config = toy_config(Path("stores"), Path("run"), start=start)
    text = start_line(config, toy_weights())
    assert text == "start       toy-weights (toy licence), SHA-256 abababababab"
    assert start_line(config, None).endswith("random weights")


def test_the_heads_are_listed_with_their_errors() -> None:
    start = StartConfig(weights="toy", heads=(("qm7x", "other"),))
    config = toy_config(Path("stores"), Path("run"), start=start)
    scores = [HeadScore(name="other", force_mae=0.25, baseline=0.8)]
    text = head_lines(config, scores)
    assert "other            250.0" in text
    assert "zero forces      800.0" in text
    assert "qm7x: kept, from head 'other'" in text
    assert "pbe: new" in text


def test_changed_graphs_say_what_they_change() -> None:
    assert graph_line(GRAPH, change=None, old=None).endswith("cutoff 4.5 Å")
    text = graph_line(replace(GRAPH, cutoff=6.0), change=0.123, old=5.0)
    assert "cutoff 6 Å; changed from 5 Å, which changes the features" in text
    assert "by 12.3 %" in text
