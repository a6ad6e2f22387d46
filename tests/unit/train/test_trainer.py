from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.io import read
from torch import Tensor

from jmp_calc.errors import ArgumentError, CheckpointError, DataError, StorageError
from jmp_train.checkpoint_folders import CHECKPOINTS, best, latest
from jmp_train.config import StoppingConfig, TaskConfig, TrainConfig
from jmp_train.feed import FedStep
from jmp_train.parallel import Group
from jmp_train.progress import Watcher
from jmp_train.run_folder import locked
from jmp_train.trainer import Trainer
from toys.steps import fed_step
from toys.training import RULES, toy_config


@pytest.fixture
def config(toy_stores: Path, tmp_path: Path) -> TrainConfig:
    return toy_config(toy_stores, tmp_path / "run", scale_batches=0)


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


def is_same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def records(config: TrainConfig) -> list[dict]:
    text = (config.out / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


# ---- steps that are not finite


def poisoned(trainer: Trainer, *, label: float = math.inf) -> FedStep:
    """A step with a crystal whose energy label is not finite."""
    fed = fed_step(trainer, (0, 1), (11,))
    bad = fed.batches[1]
    return replace(
        fed, batches=[fed.batches[0], replace(bad, energy=bad.energy * label)]
    )


def test_a_step_that_is_not_finite_changes_nothing_and_says_so(config) -> None:
    trainer = Trainer.build(config)
    trainer.train_step(fed_step(trainer, (0, 1)))  # the average is behind from now on
    before = weights(trainer)
    average = {k: v.clone() for k, v in trainer.average.values.items()}
    result = trainer.train_step(poisoned(trainer))
    assert result.is_skipped
    assert is_same(before, weights(trainer))
    assert all(torch.equal(v, average[k]) for k, v in trainer.average.values.items())
    assert not trainer.train_step(fed_step(trainer, (0, 1))).is_skipped


def test_too_many_in_a_row_stop_the_run_and_save_the_systems(config) -> None:
    config.out.mkdir()
    trainer = Trainer.build(replace(config, nonfinite_limit=2))
    trainer.train_step(poisoned(trainer))
    message = (
        r"step 0 has loss inf .* was number 2 in a row that is not finite; lower "
        r"the learning rate, or look at training samples \[11\].*nonfinite\.extxyz"
    )
    with pytest.raises(DataError, match=message):
        trainer.train_step(poisoned(trainer))
    (saved,) = read(config.out / "nonfinite.extxyz", ":")
    sample = trainer.dataset.sample(11)
    assert saved.info["sample"] == 11
    assert saved.info["task"] == "pbe"
    assert saved.get_potential_energy() == pytest.approx(sample.energy)
    assert saved.get_forces() == pytest.approx(sample.forces, abs=1e-7)


def test_finite_steps_between_others_start_the_count_anew(config) -> None:
    trainer = Trainer.build(replace(config, nonfinite_limit=2))
    for _ in range(3):
        trainer.train_step(poisoned(trainer))
        trainer.train_step(fed_step(trainer, (0, 1)))
    assert trainer.guard.state()["in_a_row"] == 0


def test_a_run_that_diverges_ends_with_a_checkpoint_from_before(config) -> None:
    """Not with that of step 4, whose weights are not finite any more."""
    config = replace(config, max_steps=8, checkpoint_every=2, nonfinite_limit=2)
    trainer = Trainer.build(config)

    def poison(step: int, _total: int, _result: object) -> None:
        if step == 3:
            with torch.no_grad():
                trainer.model.embedding.weight.fill_(math.nan)

    with pytest.raises(DataError, match="last checkpoint, if there is one, is from"):
        trainer.run(Watcher(on_step=poison))
    again = Trainer.build(config, is_resumed=True)
    assert again.position.step == 2
    assert all(torch.isfinite(p).all() for p in weights(again))
    assert (config.out / "nonfinite.extxyz").is_file()


def test_scale_factors_of_one_pass_are_nearly_those_of_many(config) -> None:
    """The sampling noise of four batches: some per cent."""
    found = [
        {
            name: float(value)
            for name, value in Trainer.build(changed).model.named_buffers()
            if name.endswith(".factor")
        }
        for changed in (
            replace(config, scale_batches=4),
            replace(config, scale_batches=4, scale_single_pass=True),
        )
    ]
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.1)


# ---- validation, stopping, precision


def test_validation_scores_the_averaged_weights(config) -> None:
    trainer = Trainer.build(config)
    start = trainer.evaluate("val")["qm7x"].energy_mae_eV
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.5)
    assert trainer.evaluate("val")["qm7x"].energy_mae_eV == start
    trainer.maker.average = None
    assert trainer.evaluate("val")["qm7x"].energy_mae_eV != start


def test_a_run_stops_early_and_scores_its_best_weights(config) -> None:
    """A learning rate that ruins the network makes the first validation the best."""
    optim = replace(config.optim, learning_rate=0.1, warmup_steps=0, final=1.0)
    config = replace(
        config,
        optim=optim,
        max_steps=50,
        evaluate_every=1,
        stopping=StoppingConfig(monitor="loss", patience=3),
    )
    trainer = Trainer.build(config)
    result = trainer.run()
    validations = [r for r in records(config) if r["kind"] == "evaluation"]
    errors = [r["monitored"] for r in validations[1:]]
    first = errors.index(min(errors)) + 1
    assert (result.reason, result.step) == ("early", first + 3)
    assert result.explanation == "no better loss error in 3 validations"
    assert best(config.out / CHECKPOINTS).name == f"step-{first:08d}"
    assert trainer.has_best


def test_without_a_number_of_steps_each_epoch_ends_with_a_validation(config) -> None:
    config = replace(config, evaluate_every=None, max_steps=None, epochs=2)
    trainer = Trainer.build(config)
    trainer.run()
    steps = [r["step"] for r in records(config) if r["kind"] == "evaluation"]
    lengths = [trainer.plan.epoch_length(epoch) for epoch in range(2)]
    assert steps == [0, lengths[0], sum(lengths)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_give_nearly_the_loss_of_thirty_two(config, precision) -> None:
    """bf16 has 8 significant bits, fp16 has 11; the loss sums a few hundred errors."""
    losses = []
    for p in ("float32", precision):
        trainer = Trainer.build(replace(config, precision=p))
        trainer.maker.loss_scale.value = 2.0**8
        result = trainer.train_step(fed_step(trainer, (0, 1, 11)))
        assert not result.is_skipped
        assert {x.dtype for x in weights(trainer)} == {torch.float32}
        losses.append(result.loss)
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_overflow_of_a_scaled_loss_halves_the_scale_and_is_no_failure(config) -> None:
    trainer = Trainer.build(replace(config, precision="fp16", nonfinite_limit=1))
    trainer.maker.loss_scale.value = 2.0**40
    assert trainer.train_step(fed_step(trainer, (0, 1, 11))).is_skipped
    assert trainer.maker.loss_scale.value == 2.0**39
    assert trainer.guard.state()["in_a_row"] == 0


def test_the_energy_multiplier_is_halved_until_forces_are_finite(config) -> None:
    trainer = Trainer.build(replace(config, precision="fp16"))
    multiplier = trainer.maker.objective.multiplier
    multiplier.value = 2.0**40  # far beyond the largest float16, 2^16
    trainer.maker.loss_scale.value = 2.0**8
    result = trainer.train_step(fed_step(trainer, (0, 1, 11)))
    assert not result.is_skipped
    assert 1 <= multiplier.value < 2.0**20


def test_a_batch_without_finite_forces_leaves_the_energy_multiplier_as_it_was(
    config,
) -> None:
    """Fifty halvings for it would make zero of the forces of all later batches."""
    trainer = Trainer.build(replace(config, precision="fp16"))
    fed = fed_step(trainer, (0, 1, 11))
    (batch,) = fed.batches
    graph = replace(batch.graph, positions=batch.graph.positions * math.nan)
    before = trainer.maker.objective.multiplier.state()
    bad = replace(fed, batches=[replace(batch, graph=graph)])
    assert trainer.train_step(bad).is_skipped
    assert trainer.maker.objective.multiplier.state() == before


def test_dropout_follows_from_seed_step_and_batch(toy_stores, tmp_path) -> None:
    def losses(seed: int) -> list[float]:
        base = toy_config(toy_stores, tmp_path, scale_batches=0, seed=0)
        trainer = Trainer.build(base)
        maker = trainer.maker
        maker.config = replace(maker.config, seed=seed)
        maker._has_dropout = True
        found = []
        for step, number in ((0, 0), (0, 1), (1, 0), (0, 0)):
            with maker._seeded(step, number):
                found.append(float(torch.rand(())))
        return found

    first = losses(0)
    assert first[3] == first[0]
    assert len(set(first)) == 3
    assert losses(0) == first
    assert losses(1)[0] != first[0]


def test_training_leaves_the_random_state_of_the_process_alone(config) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Trainer.build(config).run()
    assert (torch.rand(2) == expected).all()


# ---- settings that do not go together


def test_sharded_weights_need_direct_forces(config) -> None:
    message = r"parallel is 'fsdp' and forces are gradients; .*gradient forces make two"
    with pytest.raises(ArgumentError, match=message):
        Trainer.build(replace(config, parallel="fsdp"))


def test_the_batches_of_a_step_are_those_of_the_processes_that_began(config) -> None:
    data = replace(config.data, batches_per_step=None)
    config = replace(config, data=data)
    trainer = Trainer.build(config)
    assert trainer.config.data.batches_per_step == 1
    trainer.run()
    resumed = Trainer.build(
        config, is_resumed=True, group=Group(rank=0, world_size=1, device=CPU)
    )
    assert resumed.config.data.batches_per_step == 1


CPU = torch.device("cpu")


def test_a_label_that_is_not_there_is_an_error_before_training(config) -> None:
    task = TaskConfig(name="pbe", graph=RULES, stress_weight=1.0)
    data = replace(config.data, tasks=(config.data.tasks[0], task))
    message = r"'pbe' is to learn stress labels.*labels found: energy, forces"
    with pytest.raises(DataError, match=message):
        Trainer.build(replace(config, data=data))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_missing_gpu_is_an_error(config) -> None:
    with pytest.raises(ArgumentError, match="no GPU; choose cpu or auto"):
        Trainer.build(replace(config, device="cuda"))


# ---- the folder of a run


def test_a_folder_with_a_run_is_not_overwritten(config) -> None:
    Trainer.build(replace(config, max_steps=1)).run()
    with pytest.raises(ArgumentError, match="already holds a run; resume it"):
        Trainer.build(config)


def test_there_must_be_a_checkpoint_to_resume(config) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*without --resume"):
        Trainer.build(config, is_resumed=True)


def test_two_runs_in_one_folder_at_once_are_refused(config) -> None:
    trainer = Trainer.build(config)
    with (
        locked(config.out),
        pytest.raises(ArgumentError, match="another process is training in"),
    ):
        trainer.run()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(config, tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArgumentError, match="cannot write to"):
        Trainer.build(config).run()
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_ends_the_run_with_a_clear_error(config) -> None:
    config.out.mkdir()
    (config.out / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full; no checkpoint is saved"):
        Trainer.build(config).run()


def test_steps_are_logged_with_the_losses_of_each_task(config) -> None:
    steps = []
    watcher = Watcher(on_step=lambda step, total, _result: steps.append((step, total)))
    result = Trainer.build(replace(config, max_steps=2)).run(watcher)
    assert (result.reason, result.step, steps) == ("finished", 2, [(1, 2), (2, 2)])
    found = records(config)
    kinds = [record["kind"] for record in found]
    assert kinds == ["start", "evaluation", "step", "step", "test", "stop"]
    assert set(found[2]["tasks"]) <= {"qm7x", "pbe"}
    assert found[2]["loss"] == pytest.approx(
        found[2]["energy_loss"] + found[2]["force_loss"]
    )
    assert found[3]["systems_per_second"] > 0
    assert 0 < found[3]["waiting_share"] < 1


def test_the_summary_counts_the_systems_of_each_task(config) -> None:
    trainer = Trainer.build(replace(config, max_steps=5))
    trainer.run()
    summary = json.loads((config.out / "summary.json").read_text(encoding="utf-8"))
    batches = [b for step in list(trainer.plan.epoch_steps(0))[:5] for b in step]
    n_crystals = sum(i >= 10 for batch in batches for i in batch)
    assert summary["tasks"]["pbe"]["systems_seen"] == n_crystals
    assert summary["tasks"]["pbe"]["epochs"] == n_crystals / 5
    steps = [record["tasks"] for record in records(config) if record["kind"] == "step"]
    epochs = [tasks["pbe"]["epochs"] for tasks in steps if "pbe" in tasks]
    assert epochs[-1] == n_crystals / 5
    assert summary["reason"] == "finished"
    assert summary["test"]["qm7x"]["n_systems"] == 2


def test_curves_for_tensorboard_are_written_on_request(config) -> None:
    pytest.importorskip("tensorboard")
    Trainer.build(replace(config, tensorboard=True, max_steps=1)).run()
    (events,) = (config.out / "tensorboard").iterdir()
    assert b"step/tasks/qm7x/energy_loss" in events.read_bytes()


def test_tensorboard_that_is_not_installed_is_an_error(config, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ArgumentError, match=r"pip install 'jmp-calc\[tensorboard\]'"):
        Trainer.build(replace(config, tensorboard=True)).run()


def test_scale_factors_are_fitted_to_the_first_batches(config) -> None:
    unfitted = dict(Trainer.build(config).model.named_buffers())
    config = replace(config, scale_batches=1)
    fitted = dict(Trainer.build(config).model.named_buffers())
    factors = [name for name in fitted if name.endswith("factor")]
    assert len(factors) == 11 * 1 + 2
    assert all(float(fitted[name]) > 0 for name in factors)
    assert all(float(unfitted[name]) == 0 for name in factors)


def test_a_checkpoint_is_saved_once_for_each_step(config) -> None:
    Trainer.build(replace(config, max_steps=3, checkpoint_every=1)).run()
    assert latest(config.out / CHECKPOINTS).name == "step-00000003"
    names = sorted(path.name for path in (config.out / CHECKPOINTS).iterdir())
    assert names == ["step-00000002", "step-00000003"]
