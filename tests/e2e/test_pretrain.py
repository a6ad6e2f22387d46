"""Whole pre-training runs on toy stores, on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError
from jmp_calc.models.weights import load_weights
from jmp_train.checkpoint import load_state
from jmp_train.checkpoint_folders import find_checkpoint
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.store import Store, store_path
from jmp_train.export import export_weights
from jmp_train.metrics import TaskErrors, evaluate_model
from jmp_train.progress import Watcher
from jmp_train.run_state import RunState, read_state
from jmp_train.trainer import Trainer
from jmp_train.validation import open_dataset
from toys.training import RULES, toy_config, toy_molecules, write_store


@pytest.fixture
def config(toy_stores: Path, tmp_path: Path) -> TrainConfig:
    config = toy_config(toy_stores, tmp_path / "run", max_steps=6)
    return replace(config, data=replace(config.data, batches_per_step=2))


def state_of(config: TrainConfig) -> RunState:
    return read_state(find_checkpoint(config.out))


def tensors_of(config: TrainConfig) -> dict[str, Tensor]:
    return load_state(find_checkpoint(config.out))


def assert_same_weights(one: TrainConfig, other: TrainConfig) -> None:
    torch.testing.assert_close(tensors_of(one), tensors_of(other), rtol=0, atol=0)


def stop_after(step: int) -> Watcher:
    """A watcher that asks to stop after a step, as Ctrl-C does."""
    reached: list[int] = []
    return Watcher(
        on_step=lambda now, _total, _result: reached.append(now),
        should_stop=lambda: reached[-1] >= step,
    )


def test_one_step_on_both_tasks_leaves_a_complete_run_folder(config) -> None:
    result = Trainer.build(replace(config, max_steps=1)).run()
    assert result.reason == "finished"
    assert list(result.errors) == ["qm7x", "pbe"]
    names = {path.name for path in config.out.iterdir()}
    expected = ["checkpoints", "config.yml", "errors-test.json", "log.jsonl"]
    assert names == {*expected, "summary.json", ".lock"}
    assert state_of(config).position.step == 1


def test_a_run_stopped_at_the_end_of_an_epoch_resumes_exactly(config, tmp_path) -> None:
    whole = replace(config, out=tmp_path / "whole")
    trainer = Trainer.build(whole)
    trainer.run()
    interrupted = Trainer.build(config).run(stop_after(trainer.plan.epoch_length(0)))
    assert (interrupted.reason, interrupted.errors) == ("interrupted", {})
    assert Trainer.build(config, is_resumed=True).run().reason == "finished"
    assert_same_weights(whole, config)


def test_exported_weights_have_the_errors_that_the_run_measured(config) -> None:
    trainer = Trainer.build(config)
    measured = trainer.run().errors
    model = load_weights(export_weights(config.out))
    dataset = open_dataset(config, "test")
    again = evaluate_model(model, dataset, range(len(dataset)), forces="gradient")
    for task, errors in measured.items():
        assert again[task].to_json() == pytest.approx(errors.to_json(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_neither_workers_nor_the_cache_change_the_weights(config, tmp_path) -> None:
    data = replace(config.data, edge_dropout=0.1)
    one = replace(config, data=data)
    data = replace(data, workers=1, graph_cache=0)
    other = replace(config, out=tmp_path / "workers", data=data)
    Trainer.build(one).run()
    Trainer.build(other).run()
    assert_same_weights(one, other)


def test_the_time_limit_saves_a_checkpoint_and_scores_the_test_part(config) -> None:
    result = Trainer.build(replace(config, max_minutes=1e-9)).run()
    assert (result.reason, result.step) == ("time", 1)
    assert state_of(config).position.step == 1
    assert set(result.errors) == {"qm7x", "pbe"}
    summary = json.loads((config.out / "summary.json").read_text(encoding="utf-8"))
    assert summary["reason"] == "time"


def test_a_finished_run_can_be_resumed_and_does_nothing(config) -> None:
    Trainer.build(config).run()
    before = tensors_of(config)
    again = Trainer.build(config, is_resumed=True).run()
    assert (again.reason, again.step) == ("finished", 6)
    torch.testing.assert_close(before, tensors_of(config), rtol=0, atol=0)


def test_a_store_that_changed_is_not_resumed_on(config, tmp_path) -> None:
    data = replace(config.data, stores=tmp_path, tasks=config.data.tasks[:1])
    config = replace(config, data=data)
    for split in ("train", "val", "test"):
        write_store(store_path(tmp_path, "qm7x", split), toy_molecules(4, seed=7))
    Trainer.build(config).run(stop_after(1))
    write_store(store_path(tmp_path, "qm7x", "train"), toy_molecules(4, seed=8))
    with pytest.raises(ArgumentError, match="the store of qm7x has other samples"):
        Trainer.build(config, is_resumed=True)


def test_a_run_is_not_resumed_with_other_settings(config) -> None:
    Trainer.build(config).run(stop_after(1))
    other = replace(config, optim=replace(config.optim, weight_decay=0.5))
    with pytest.raises(ArgumentError, match=r"optim.weight_decay was 0.1 and is 0.5"):
        Trainer.build(other, is_resumed=True)


# ---- learning by heart


def errors_after(
    folder: Path, *tasks: TaskConfig, max_steps: int
) -> dict[str, TaskErrors]:
    """Errors on eight molecules that a tiny network has seen in every step.

    Their targets are numbers without any meaning.
    """
    samples = [
        replace(
            sample,
            targets={
                "gap": float(np.sin(i) + 2),
                "extent": float(50 + 20 * np.cos(3 * i)),
                "metal": float(i % 2),
                "phase": float(i % 3),
            },
        )
        for i, sample in enumerate(toy_molecules(8))
    ]
    for split in ("train", "val", "test"):
        write_store(store_path(folder, "eight", split), samples)
    assert len(Store(store_path(folder, "eight", "train"))) == 8
    tiny = toy_config(folder, folder).model
    config = TrainConfig(
        name="overfit",
        data=DataConfig(stores=folder, tasks=tasks, max_atoms=1000, graph_cache=64),
        model=replace(tiny, has_direct_forces=tasks[0].forces == "direct"),
        optim=OptimConfig(
            learning_rate=1e-2,
            weight_decay=0.0,
            warmup_steps=10,
            final=0.01,
            clip_norm=10.0,
            ema_decay=0.9,
        ),
        out=folder / "run",
        max_steps=max_steps,
        scale_batches=1,
        device="cpu",
        evaluate_every=1000,
    )
    return Trainer.build(config).run().errors


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_a_tiny_network_learns_energies_and_forces_by_heart(tmp_path, forces) -> None:
    task = TaskConfig(name="e", store="eight", graph=RULES, forces=forces)
    errors = errors_after(tmp_path, task, max_steps=120)["e"]
    assert errors.n_systems == 8
    assert errors.baseline_force_mae_eV_per_A > 0.3
    assert errors.force_mae_eV_per_A < 0.05 * errors.baseline_force_mae_eV_per_A
    assert errors.energy_mae_meV_per_atom < (
        0.1 * errors.baseline_energy_mae_meV_per_atom
    )


def test_a_tiny_network_learns_every_kind_of_target_by_heart(tmp_path) -> None:
    def task(kind: str, target: str, *classes: str) -> TaskConfig:
        return TaskConfig(
            name=target,
            store="eight",
            graph=RULES,
            kind=kind,
            forces=None,
            target=target,
            classes=classes,
        )

    errors = errors_after(
        tmp_path,
        task("scalar", "gap"),
        task("spatial_extent", "extent"),
        task("binary", "metal", "no", "yes"),
        task("multiclass", "phase", "a", "b", "c"),
        max_steps=120,
    )
    for name in ("gap", "extent"):
        assert errors[name].target_mae < 0.05 * errors[name].baseline_target_mae
    for name in ("metal", "phase"):
        assert errors[name].classes.accuracy == 1.0
        assert errors[name].classes.log_loss < 0.05
