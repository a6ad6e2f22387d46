"""Whole pre-training runs on toy stores, on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import DataError
from jmp_calc.models.weights import load_weights
from jmp_train.checkpoint import Checkpoint, load_checkpoint
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.store import Store
from jmp_train.export import export_weights
from jmp_train.metrics import evaluate_model
from jmp_train.progress import Watcher
from jmp_train.trainer import Trainer, open_dataset
from toys.training import (
    RULES,
    statistics_of,
    toy_config,
    toy_molecules,
    write_store,
)


@pytest.fixture
def config(toy_stores: Path, tmp_path: Path) -> TrainConfig:
    config = toy_config(toy_stores, tmp_path / "run", max_steps=6)
    return replace(config, data=replace(config.data, batches_per_step=2))


def checkpoint_of(config: TrainConfig) -> Checkpoint:
    return load_checkpoint(config.out / "checkpoint.pt")


def stop_after(step: int) -> Watcher:
    """A watcher that asks to stop after a step, as Ctrl-C does."""
    reached: list[int] = []
    return Watcher(
        on_step=lambda now, _total, _result: reached.append(now),
        should_stop=lambda: reached[-1] >= step,
    )


def assert_same_state(one: Checkpoint, other: Checkpoint) -> None:
    torch.testing.assert_close(one.model, other.model, rtol=0, atol=0)
    torch.testing.assert_close(one.average, other.average, rtol=0, atol=0)
    a, b = one.optimizer["state"], other.optimizer["state"]
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert replace(one.position, seconds=0.0) == replace(other.position, seconds=0.0)


def test_one_step_on_both_tasks_leaves_a_complete_run_folder(config) -> None:
    result = Trainer.build(replace(config, max_steps=1)).run()
    assert result.reason == "finished"
    assert list(result.errors) == ["qm7x", "pbe"]
    names = {path.name for path in config.out.iterdir()}
    expected = ["checkpoint.pt", "config.yml", "errors-test.json", "log.jsonl"]
    assert names == {*expected, "summary.json"}
    assert checkpoint_of(config).position.step == 1


@pytest.mark.parametrize("stop", [2, 4])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    config, tmp_path, stop
) -> None:
    """Bit for bit; the first epoch ends between the two places."""
    whole = replace(config, out=tmp_path / "whole")
    trainer = Trainer.build(whole)
    assert 2 < len(trainer.plan.epoch_steps(0)) < 4
    trainer.run()
    interrupted = Trainer.build(config).run(stop_after(stop))
    assert (interrupted.reason, interrupted.step) == ("interrupted", stop)
    assert interrupted.errors == {}
    assert Trainer.build(config, is_resumed=True).run().reason == "finished"
    assert_same_state(checkpoint_of(whole), checkpoint_of(config))


def test_a_run_stopped_at_the_end_of_an_epoch_resumes_exactly(config, tmp_path) -> None:
    whole = replace(config, out=tmp_path / "whole")
    trainer = Trainer.build(whole)
    trainer.run()
    Trainer.build(config).run(stop_after(len(trainer.plan.epoch_steps(0))))
    Trainer.build(config, is_resumed=True).run()
    assert_same_state(checkpoint_of(whole), checkpoint_of(config))


def test_exported_weights_have_the_errors_that_the_run_measured(config) -> None:
    trainer = Trainer.build(config)
    measured = trainer.run().errors
    model = load_weights(export_weights(config.out))
    dataset = open_dataset(config, "test")
    again = evaluate_model(model, dataset, range(len(dataset)), forces="gradient")
    for task, errors in measured.items():
        assert again[task].to_json() == pytest.approx(errors.to_json(), rel=1e-4)


def test_two_threads_give_the_same_weights_as_one(config, tmp_path) -> None:
    other = replace(config, out=tmp_path / "two")
    Trainer.build(config, threads=1).run()
    Trainer.build(other, threads=2).run()
    assert_same_state(checkpoint_of(config), checkpoint_of(other))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_neither_workers_nor_the_cache_change_the_weights(config, tmp_path) -> None:
    data = replace(config.data, workers=1, graph_cache=0)
    other = replace(config, out=tmp_path / "workers", data=data)
    Trainer.build(config).run()
    Trainer.build(other).run()
    assert_same_state(checkpoint_of(config), checkpoint_of(other))


def test_training_leaves_the_random_state_of_the_process_alone(config) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Trainer.build(config)
    assert (torch.rand(2) == expected).all()


def test_the_time_limit_saves_a_checkpoint_and_scores_the_test_part(config) -> None:
    result = Trainer.build(replace(config, max_minutes=1e-9)).run()
    assert (result.reason, result.step) == ("time", 1)
    assert checkpoint_of(config).position.step == 1
    assert set(result.errors) == {"qm7x", "pbe"}
    summary = json.loads((config.out / "summary.json").read_text(encoding="utf-8"))
    assert summary["reason"] == "time"


def test_a_finished_run_can_be_resumed_and_does_nothing(config) -> None:
    Trainer.build(config).run()
    before = checkpoint_of(config)
    again = Trainer.build(config, is_resumed=True).run()
    assert (again.reason, again.step) == ("finished", 6)
    assert_same_state(before, checkpoint_of(config))


def test_checkpoints_are_saved_on_the_way_and_survive_a_loss_that_diverges(
    config,
) -> None:
    config = replace(config, checkpoint_every=2)
    trainer = Trainer.build(config)

    def poison(step: int, _total: int, _result: object) -> None:
        if step == 3:
            with torch.no_grad():
                trainer.model.embedding.weight.fill_(float("nan"))

    with pytest.raises(DataError, match=r"step 3 has loss nan.*unharmed"):
        trainer.run(Watcher(on_step=poison))
    saved = checkpoint_of(config)
    assert saved.position.step == 2
    assert all(torch.isfinite(value).all() for value in saved.model.values())


def test_a_store_that_changed_is_not_resumed_on(config, tmp_path) -> None:
    data = replace(config.data, stores=tmp_path, tasks=config.data.tasks[:1])
    config = replace(config, data=data)
    for split in ("train", "val", "test"):
        write_store(tmp_path / f"qm7x-{split}.lmdb", toy_molecules(4, seed=7))
    Trainer.build(config).run(stop_after(1))
    write_store(tmp_path / "qm7x-train.lmdb", toy_molecules(4, seed=8))
    with pytest.raises(ValueError, match="the store of qm7x has other samples"):
        Trainer.build(config, is_resumed=True)


def test_a_tiny_network_learns_eight_structures_by_heart(tmp_path) -> None:
    samples = toy_molecules(8)
    for split in ("train", "val", "test"):
        write_store(tmp_path / f"qm7x-{split}.lmdb", samples)
    config = TrainConfig(
        name="overfit",
        data=DataConfig(
            stores=tmp_path,
            tasks=(TaskConfig(name="qm7x", graph=RULES),),
            max_atoms=100,
            graph_cache=8,
        ),
        model=toy_config(tmp_path, tmp_path).model,
        optim=OptimConfig(
            learning_rate=1e-2,
            weight_decay=0.0,
            warmup_steps=10,
            final=0.01,
            clip_norm=10.0,
            ema_decay=0.9,
        ),
        out=tmp_path / "run",
        max_steps=100,
        scale_batches=1,
        device="cpu",
        evaluate_every=1000,
    )
    errors = Trainer.build(config).run().errors["qm7x"]
    assert statistics_of(samples).force_rms > 0.3
    assert len(Store(tmp_path / "qm7x-train.lmdb")) == errors.n_systems == 8
    assert errors.force_mae_eV_per_A < 0.1 * errors.baseline_force_mae_eV_per_A
    assert errors.energy_mae_eV < 0.05
