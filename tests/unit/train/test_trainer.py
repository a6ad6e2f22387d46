from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError, CheckpointError, DataError
from jmp_calc.graph.batch import collate
from jmp_train.config import OptimConfig, TrainConfig
from jmp_train.data.batches import TrainingBatch, build_loader, join_batches
from jmp_train.progress import Watcher
from jmp_train.trainer import Trainer
from toys.training import toy_config

OPTIM = OptimConfig(
    learning_rate=1e-2,
    weight_decay=0.3,
    warmup_steps=3,
    clip_norm=0.5,
    ema_decay=0.75,
)


@pytest.fixture
def config(toy_stores: Path, tmp_path: Path) -> TrainConfig:
    return toy_config(toy_stores, tmp_path / "run", precision="float64", optim=OPTIM)


def mixed_batch(trainer: Trainer) -> TrainingBatch:
    """Two molecules and a crystal: both tasks."""
    return join_batches([trainer.dataset[i] for i in (0, 1, 11)])


def loss_by_hand(trainer: Trainer, batch: TrainingBatch) -> torch.Tensor:
    """Structure-wise loss, one system at a time, in the words of the specification."""
    total = torch.zeros((), dtype=torch.float64)
    for index in batch.index.tolist():
        item = trainer.dataset[index]
        (task,) = item.head
        statistics = trainer.statistics[task]
        numbers = item.graph.numbers.tolist()
        scale = statistics.force_rms
        energy = item.energy - sum(statistics.references[z] for z in numbers)
        out = trainer.model(item.graph, task, forces="gradient", create_graph=True)
        total = total + (out.energy[0] - energy[0] / scale).abs()
        error = (out.forces - item.forces / scale + 1e-6).norm(dim=1)
        total = total + statistics.mean_atoms * error.mean()
    return total / batch.n_systems


def test_the_loss_of_a_mixed_batch_is_that_of_its_systems(config) -> None:
    trainer = Trainer.build(config)
    batch = mixed_batch(trainer)
    terms = trainer.objective.loss(batch)
    expected = loss_by_hand(trainer, batch).item()
    assert (terms.energy + terms.forces).item() == pytest.approx(expected, rel=1e-12)


def clipped_gradients(trainer: Trainer, batch: TrainingBatch) -> list[torch.Tensor]:
    parameters = dict(trainer.model.named_parameters())
    gradients = torch.autograd.grad(
        loss_by_hand(trainer, batch),
        list(parameters.values()),
        materialize_grads=True,
        allow_unused=True,
    )
    n_blocks = trainer.config.model.num_blocks
    uses = {
        name: n_blocks + (name == "backbone.bases.mlp_rbf_out.weight")
        for name in parameters
        if name.startswith("backbone.bases.mlp_")
    }
    scaled = [
        gradient / uses.get(name, 1)
        for name, gradient in zip(parameters, gradients, strict=True)
    ]
    norm = math.sqrt(sum(float((g**2).sum()) for g in scaled))
    assert norm > OPTIM.clip_norm  # or clipping is not tested
    return [g * (OPTIM.clip_norm / (norm + 1e-6)) for g in scaled]


def test_two_optimizer_steps_equal_adamw_written_out(config) -> None:
    trainer = Trainer.build(config)
    batch = mixed_batch(trainer)
    parameters = list(trainer.model.parameters())
    average = [p.detach().clone() for p in parameters]
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    beta1, beta2 = OPTIM.betas
    for step, rate in enumerate((2e-3, 6e-3), start=1):
        before = [p.detach().clone() for p in parameters]
        gradients = clipped_gradients(trainer, batch)
        result = trainer.train_step([batch])
        trainer.position = replace(trainer.position, step=step)
        assert result.learning_rate == pytest.approx(rate)
        for i, (p, g) in enumerate(zip(before, gradients, strict=True)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            change = (m[i] / (1 - beta1**step)) / (
                (v[i] / (1 - beta2**step)).sqrt() + OPTIM.eps
            )
            new = p * (1 - rate * OPTIM.weight_decay) - rate * change
            average[i] = 0.75 * average[i] + 0.25 * new
            torch.testing.assert_close(parameters[i], new, rtol=1e-6, atol=1e-9)
    found = list(trainer.average.values.values())
    torch.testing.assert_close(found, average, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_a_step_of_several_batches_is_the_step_of_the_joined_batch(
    config, reduction
) -> None:
    config = replace(config, reduction=reduction)
    parts, whole = Trainer.build(config), Trainer.build(config)
    items = [parts.dataset[i] for i in (0, 1, 11)]
    a = parts.train_step([join_batches(items[:1]), join_batches(items[1:])])
    b = whole.train_step([join_batches(items)])
    assert a.loss == pytest.approx(b.loss, rel=1e-12)
    assert a.energy_loss == pytest.approx(b.energy_loss, rel=1e-12)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-9)
    for x, y in zip(parts._parameters, whole._parameters, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-12)


def test_the_head_of_an_absent_task_only_decays(config) -> None:
    trainer = Trainer.build(config)
    head = trainer.model.head_layers["pbe"]
    before = [p.detach().clone() for p in head.parameters()]
    rate = trainer.train_step([trainer.dataset[0]]).learning_rate
    for old, new in zip(before, head.parameters(), strict=True):
        torch.testing.assert_close(new, old * (1 - rate * OPTIM.weight_decay))


def test_task_losses_of_a_step_sum_to_the_loss(config) -> None:
    trainer = Trainer.build(config)
    result = trainer.train_step([mixed_batch(trainer)])
    assert {task: n for task, (n, _, _) in result.task_losses.items()} == {
        "qm7x": 2,
        "pbe": 1,
    }
    total = sum(e + f for _, e, f in result.task_losses.values()) / 3
    assert result.loss == pytest.approx(total)
    assert result.loss == pytest.approx(result.energy_loss + result.force_loss)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(config) -> None:
    trainer = Trainer.build(config)
    before = [p.detach().clone() for p in trainer._parameters]
    batch = mixed_batch(trainer)
    batch = replace(batch, energy=batch.energy * math.inf)
    message = (
        r"step 0 has loss (inf|nan).*lower the learning rate.*samples \[0, 1, 11\]"
    )
    with pytest.raises(DataError, match=message):
        trainer.train_step([batch])
    assert all((a == b).all() for a, b in zip(before, trainer._parameters, strict=True))


def test_validation_scores_the_averaged_weights(config) -> None:
    trainer = Trainer.build(config)
    start = trainer.evaluate("val")["qm7x"].energy_mae_eV
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(1.5)
    assert trainer.evaluate("val")["qm7x"].energy_mae_eV == start
    trainer.average = None
    assert trainer.evaluate("val")["qm7x"].energy_mae_eV != start


def test_a_folder_with_a_run_is_not_overwritten(config) -> None:
    Trainer.build(config).save()
    with pytest.raises(ArgumentError, match="already holds a run; resume it"):
        Trainer.build(config)


def test_there_must_be_a_checkpoint_to_resume(config) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*without --resume"):
        Trainer.build(config, is_resumed=True)


def test_a_run_is_not_resumed_with_other_settings(config) -> None:
    Trainer.build(config).save()
    other = replace(config, optim=replace(OPTIM, weight_decay=0.0))
    with pytest.raises(ArgumentError, match=r"optim.weight_decay was 0.3 and is 0.0"):
        Trainer.build(other, is_resumed=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_missing_gpu_is_an_error(config) -> None:
    with pytest.raises(ArgumentError, match="no GPU; choose cpu or auto"):
        Trainer.build(replace(config, device="cuda"))


def test_steps_are_logged_with_the_losses_of_each_task(config) -> None:
    steps = []
    watcher = Watcher(on_step=lambda step, total, _result: steps.append((step, total)))
    result = Trainer.build(replace(config, max_steps=2)).run(watcher)
    assert (result.reason, result.step, steps) == ("finished", 2, [(1, 2), (2, 2)])
    lines = (config.out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    kinds = [record["kind"] for record in records]
    assert kinds == ["start", "evaluation", "step", "step", "test", "stop"]
    assert set(records[2]["tasks"]) <= {"qm7x", "pbe"}
    assert records[3]["learning_rate"] == pytest.approx(6e-3)


def test_the_summary_counts_the_systems_of_each_task(config) -> None:
    trainer = Trainer.build(replace(config, max_steps=5))
    trainer.run()
    summary = json.loads((config.out / "summary.json").read_text(encoding="utf-8"))
    loader_batches = [b for step in trainer.plan.epoch_steps(0)[:5] for b in step]
    n_crystals = sum(i >= 10 for batch in loader_batches for i in batch)
    assert summary["tasks"]["pbe"]["systems_seen"] == n_crystals
    assert summary["tasks"]["pbe"]["epochs"] == n_crystals / 5
    assert summary["reason"] == "finished"
    assert summary["test"]["qm7x"]["n_systems"] == 2


def test_scale_factors_are_fitted_to_the_first_batches(config) -> None:
    fitted = dict(Trainer.build(config).model.named_buffers())
    unfitted = dict(
        Trainer.build(replace(config, scale_batches=0)).model.named_buffers()
    )
    factors = [name for name in fitted if name.endswith("factor")]
    assert len(factors) == 11 * 1 + 2
    assert all(float(fitted[name]) > 0 for name in factors)
    assert all(float(unfitted[name]) == 0 for name in factors)


def test_a_joined_batch_has_the_graph_of_its_systems(config) -> None:
    trainer = Trainer.build(config)
    (batch,) = build_loader(trainer.dataset, [[0, 11]])
    expected = collate([trainer.dataset[0].graph, trainer.dataset[11].graph])
    torch.testing.assert_close(batch.graph.main.source, expected.main.source)
    assert batch.head == ["qm7x", "pbe"]
