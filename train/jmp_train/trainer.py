"""Trainer: from a TrainConfig to trained weights, in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.jmp import JMPModel
from jmp_train.checkpoint import (
    Checkpoint,
    Position,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from jmp_train.config import TrainConfig
from jmp_train.config_file import config_hash, save_config
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.data.store import open_stores
from jmp_train.devices import choose_device
from jmp_train.heads import build_model
from jmp_train.metrics import TaskErrors, choose_samples, evaluate_model
from jmp_train.normalize import TaskStatistics
from jmp_train.objective import Objective, task_losses
from jmp_train.optim import (
    MovingAverage,
    build_optimizer,
    finish_gradients,
    learning_rate,
)
from jmp_train.plan import Step, TrainingPlan
from jmp_train.progress import RunResult, StepResult, StopReason, Watcher
from jmp_train.runlog import (
    CHECKPOINT,
    CONFIG,
    SUMMARY,
    RunLog,
    errors_name,
    errors_to_json,
    hardware,
    versions,
)
from jmp_train.scale_factors import fit_scale_factors


class Trainer:
    """One training run; make it with :meth:`build`."""

    def __init__(
        self,
        config: TrainConfig,
        model: JMPModel,
        *,
        dataset: GraphDataset,
        statistics: dict[str, TaskStatistics],
        threads: int = 1,
    ) -> None:
        """Put the parts together; the network is used as it is given.

        Args:
            config: Settings.
            model: The network, with the heads of the tasks.
            dataset: Training samples.
            statistics: Statistics of the training part, by task.
            threads: Batches of a step that are computed at the same time; the result
                does not depend on it.
        """
        self.config = config
        self.statistics = statistics
        self.device = choose_device(config.device)
        self.model = model.to(self.device)
        self.objective = Objective(self.model, config, statistics)
        self.dataset = dataset
        self.plan = TrainingPlan(dataset, config)
        self.optimizer = build_optimizer(self.model, config.optim)
        decay = config.optim.ema_decay
        self.average = None if decay is None else MovingAverage(self.model, decay)
        self.position = Position(seen=(0,) * len(config.data.tasks))
        self._parameters = list(self.model.parameters())
        self._threads = min(threads, config.data.batches_per_step)

    @classmethod
    def build(
        cls, config: TrainConfig, *, is_resumed: bool = False, threads: int = 1
    ) -> Trainer:
        """Open the stores and make, or resume, a run.

        Args:
            config: Settings.
            is_resumed: Go on from the checkpoint in the folder of the run.
            threads: Batches of a step that are computed at the same time.

        Raises:
            ArgumentError: If the folder holds a run and this is not to resume it, or
                it is resumed with other settings.
            DataError: If a store is missing.
            CheckpointError: If there is no checkpoint to resume.
        """
        path = config.out / CHECKPOINT
        if path.exists() and not is_resumed:
            raise ArgumentError(
                f"{config.out} already holds a run; resume it with --resume, or choose "
                "another folder"
            )
        checkpoint = load_checkpoint(path) if is_resumed else None
        dataset = open_dataset(config, "train")
        statistics = {
            task: TaskStatistics.from_json(store.header["statistics"])
            for task, store in dataset.stores.items()
        }
        trainer = cls(
            config,
            build_model(config, statistics),
            dataset=dataset,
            statistics=statistics,
            threads=threads,
        )
        if checkpoint is None:
            trainer.fit_scale_factors()
        else:
            check_same_run(checkpoint, config, trainer.fingerprints)
            trainer.restore(checkpoint)
        return trainer

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of the training store of each task."""
        return {
            task: store.header["fingerprint"]
            for task, store in self.dataset.stores.items()
        }

    def fit_scale_factors(self) -> None:
        """Fit the scale factors of the fresh network to its first training batches."""
        n_batches = self.config.scale_batches
        if not n_batches:
            return
        steps = (step for _, _, step in self.plan.steps_from(0, 0))
        batches = list(islice((batch for step in steps for batch in step), n_batches))
        loader = build_loader(self.dataset, batches)
        fit_scale_factors(self.model, [batch.graph.to(self.device) for batch in loader])

    def train_step(self, batches: Sequence[TrainingBatch]) -> StepResult:
        """Make one optimizer step from the gradients of some batches.

        Args:
            batches: At least one; the loss is the mean over the systems (or atoms) of
                all of them.

        Raises:
            DataError: If the loss or its gradient is not finite.
        """
        rate = learning_rate(self.position.step, self.plan.n_steps, self.config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        found = self.objective.step_gradients(batches, threads=self._threads)
        for parameter, gradient in zip(self._parameters, found.gradients, strict=True):
            parameter.grad = gradient
        finish_gradients(self.model)
        limit = self.config.optim.clip_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        self._check_finite(found.loss, norm, batches)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return StepResult(
            loss=found.loss,
            energy_loss=found.energy_loss,
            force_loss=found.loss - found.energy_loss,
            gradient_norm=norm,
            learning_rate=rate,
            task_losses=task_losses(batches, found.terms),
        )

    def _check_finite(
        self, loss: float, norm: float, batches: Sequence[TrainingBatch]
    ) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        samples = [int(i) for batch in batches for i in batch.index]
        raise DataError(
            f"step {self.position.step} has loss {loss} and gradient norm {norm}; "
            f"lower the learning rate, or look at training samples {samples[:8]} for "
            "overlapping atoms or wrong labels. The last checkpoint is unharmed"
        )

    def evaluate(
        self, split: str = "val", *, per_task: int | None = None
    ) -> dict[str, TaskErrors]:
        """Return the errors of the averaged weights, by task.

        Args:
            split: ``train``, ``val`` or ``test``.
            per_task: Largest number of systems of each task; None: all.
        """
        dataset = open_dataset(self.config, split)
        samples = choose_samples(dataset, per_task)
        average = self.average
        with nullcontext() if average is None else average.applied_to(self.model):
            return evaluate_model(
                self.model,
                dataset,
                samples,
                forces=self.config.forces,
                max_atoms=self.config.data.max_atoms,
                device=self.device,
            )

    def run(self, watcher: Watcher | None = None) -> RunResult:
        """Train until the schedule ends, the time is up, or someone asks to stop.

        A checkpoint is saved in every case. The test part is scored at the end, unless
        the run was interrupted.

        Args:
            watcher: Hears about each step; None: nobody does.
        """
        watcher = watcher or Watcher()
        log = RunLog(self.config.out)
        save_config(self.config, self.config.out / CONFIG)

        def record(kind: str, facts: dict[str, Any]) -> None:
            watcher.on_record(log.append(kind, facts))

        record("start", self._facts())
        if self.position.step == 0:
            self._validate(record)
        reason = self._train(watcher, record)
        self.save()
        errors = {} if reason == "interrupted" else self.evaluate("test")
        if errors:
            facts = {"step": self.position.step, "tasks": errors_to_json(errors)}
            log.write(errors_name("test"), {"split": "test", **facts})
            record("test", facts)
        summary = {**self._facts(), "reason": reason, "test": errors_to_json(errors)}
        log.write(SUMMARY, summary)
        record("stop", {"reason": reason, "step": self.position.step})
        return RunResult(reason=reason, step=self.position.step, errors=errors)

    def _train(
        self, watcher: Watcher, record: Callable[[str, dict[str, Any]], None]
    ) -> StopReason:
        config, began = self.config, time.monotonic()
        limit = math.inf if config.max_minutes is None else 60 * config.max_minutes
        for result in self._steps():
            step = self.position.step
            watcher.on_step(step, self.plan.n_steps, result)
            if step % config.log_every == 0:
                record("step", self._step_facts(result))
            is_last = step >= self.plan.n_steps
            if step % config.evaluate_every == 0 and not is_last:
                self._validate(record)
            if step % config.checkpoint_every == 0 and not is_last:
                self.save()
            if watcher.should_stop():
                return "interrupted"
            if time.monotonic() - began > limit and not is_last:
                return "time"
        return "finished"

    def _steps(self) -> Iterator[StepResult]:
        """Make the steps that are left; the position moves before each result."""
        while self.position.step < self.plan.n_steps:
            epoch = self.position.epoch
            steps = self.plan.epoch_steps(epoch)[self.position.place :]
            loader = iter(
                build_loader(
                    self.dataset,
                    [batch for step in steps for batch in step],
                    workers=self.config.data.workers,
                )
            )
            for step in steps:
                began = time.monotonic()
                result = self.train_step(list(islice(loader, len(step))))
                self._advance(step, time.monotonic() - began)
                yield result
                if self.position.step >= self.plan.n_steps:
                    return
            self.position = replace(self.position, epoch=epoch + 1, place=0)

    def _advance(self, step: Step, seconds: float) -> None:
        seen = list(self.position.seen)
        tasks = list(self.dataset.stores)
        for batch in step:
            for sample in batch:
                seen[tasks.index(self.dataset.task_of(sample))] += 1
        position = self.position
        self.position = replace(
            position,
            step=position.step + 1,
            place=position.place + 1,
            seconds=position.seconds + seconds,
            seen=tuple(seen),
        )

    def _validate(self, record: Callable[[str, dict[str, Any]], None]) -> None:
        errors = self.evaluate("val", per_task=self.config.evaluate_systems)
        record(
            "evaluation",
            {"step": self.position.step, "tasks": errors_to_json(errors)},
        )

    def save(self) -> Path:
        """Write the checkpoint of the run and return its path."""
        path = self.config.out / CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            Checkpoint(
                config=self.config,
                statistics=self.statistics,
                fingerprints=self.fingerprints,
                position=self.position,
                model=self.model.state_dict(),
                average=None if self.average is None else self.average.values,
                optimizer=self.optimizer.state_dict(),
            ),
            path,
        )
        return path

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of a run.

        Args:
            checkpoint: What a trainer of the same configuration saved.
        """
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if self.average is not None and checkpoint.average is not None:
            for name, value in self.average.values.items():
                value.copy_(checkpoint.average[name])
        self.position = checkpoint.position

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "config_hash": config_hash(self.config),
            "step": self.position.step,
            "n_steps": self.plan.n_steps,
            "n_parameters": sum(p.numel() for p in self._parameters),
            "seconds": self.position.seconds,
            "hardware": hardware(self.device),
            "versions": versions(),
            "tasks": {
                task: {
                    "n_systems": self.statistics[task].n_systems,
                    "systems_seen": seen,
                    "epochs": seen / self.statistics[task].n_systems,
                    "fingerprint": self.fingerprints[task],
                }
                for task, seen in zip(
                    self.dataset.stores, self.position.seen, strict=True
                )
            },
        }

    def _step_facts(self, result: StepResult) -> dict[str, Any]:
        return {
            "step": self.position.step,
            "epoch": self.position.epoch,
            "seconds": self.position.seconds,
            "loss": result.loss,
            "energy_loss": result.energy_loss,
            "force_loss": result.force_loss,
            "gradient_norm": result.gradient_norm,
            "learning_rate": result.learning_rate,
            "tasks": {
                task: {"n_systems": n, "energy_loss": e / n, "force_loss": f / n}
                for task, (n, e, f) in result.task_losses.items()
            },
        }


def open_dataset(config: TrainConfig, split: str) -> GraphDataset:
    """Return the samples of one part of all tasks of a run.

    Args:
        config: Tasks and stores.
        split: ``train``, ``val`` or ``test``.
    """
    tasks = config.data.tasks
    return GraphDataset(
        open_stores(config.data.stores, [task.name for task in tasks], split),
        {task.name: task.graph for task in tasks},
        cache=config.data.graph_cache,
    )
