"""Trainer: from a TrainConfig to trained weights, in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import reference_energies
from jmp_train.checkpoint import (
    Checkpoint,
    Position,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from jmp_train.config import Device, TrainConfig
from jmp_train.config_file import config_hash, save_config
from jmp_train.data.batches import GraphDataset, TrainingBatch, build_loader
from jmp_train.data.store import open_stores
from jmp_train.heads import build_model
from jmp_train.losses import LossTerms, energy_force_loss
from jmp_train.metrics import TaskErrors, choose_samples, evaluate_model
from jmp_train.normalize import TaskStatistics
from jmp_train.optim import (
    MovingAverage,
    build_optimizer,
    finish_gradients,
    learning_rate,
)
from jmp_train.plan import Step, TrainingPlan
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

StopReason = Literal["finished", "time", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one optimizer step did."""

    loss: float
    """Energy plus force term, network units."""
    energy_loss: float
    """Energy term."""
    force_loss: float
    """Force term."""
    gradient_norm: float
    """Global norm before clipping."""
    learning_rate: float
    """Rate of this step."""
    task_losses: dict[str, tuple[int, float, float]]
    """Systems and sums of their energy and force terms, by task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended."""

    reason: StopReason
    """Why it stopped."""
    step: int
    """Optimizer steps done."""
    errors: dict[str, TaskErrors]
    """Errors on the test part, by task; empty if the run was interrupted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """Whom a run tells what it does, and asks whether to stop."""

    on_step: Callable[[int, int, StepResult], None] = lambda *_: None
    """Called after each step with its number, their total and the result."""
    on_record: Callable[[dict[str, Any]], None] = lambda _record: None
    """Called with each line of the log."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked after each step."""


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
        self.device = _choose_device(config.device)
        self.model = model.to(self.device)
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
        n_systems = sum(batch.n_systems for batch in batches)
        n_atoms = sum(_count_force_atoms(batch) for batch in batches)

        def work(batch: TrainingBatch) -> tuple[LossTerms, Tensor, list[Tensor | None]]:
            return self._gradients(batch, n_systems=n_systems, n_atoms=n_atoms)

        if self._threads > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                parts = list(pool.map(work, batches))
        else:
            parts = [work(batch) for batch in batches]
        for index, parameter in enumerate(self._parameters):
            found = [part[2][index] for part in parts]
            present = [gradient for gradient in found if gradient is not None]
            parameter.grad = torch.stack(present).sum(0) if present else None
        finish_gradients(self.model)
        limit = self.config.optim.clip_norm
        norm = float(
            torch.nn.utils.clip_grad_norm_(
                self._parameters, math.inf if limit is None else limit
            )
        )
        loss = float(sum(part[1] for part in parts))
        self._check_finite(loss, norm, batches)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        shares = [batch.n_systems / n_systems for batch in batches]
        energy = sum(
            share * float(part[0].energy.detach())
            for share, part in zip(shares, parts, strict=True)
        )
        return StepResult(
            loss=loss,
            energy_loss=energy,
            force_loss=loss - energy,
            gradient_norm=norm,
            learning_rate=rate,
            task_losses=_task_losses(batches, [part[0] for part in parts]),
        )

    def _gradients(
        self, batch: TrainingBatch, *, n_systems: int, n_atoms: int
    ) -> tuple[LossTerms, Tensor, list[Tensor | None]]:
        """Return the loss terms of a batch, its part of the loss, and the gradients."""
        batch = batch.to(self.device)
        terms = self.loss(batch)
        force_total = n_systems if self.config.reduction == "structure" else n_atoms
        part = terms.energy * (terms.n_systems / n_systems) + terms.forces * (
            terms.n_force_divisor / max(force_total, 1)
        )
        gradients = torch.autograd.grad(part, self._parameters, allow_unused=True)
        return terms, part.detach(), list(gradients)

    def loss(self, batch: TrainingBatch) -> LossTerms:
        """Return the loss terms of a batch under the current weights.

        Args:
            batch: Labels in eV and eV/Å, on the device of the network.
        """
        graph, of = batch.graph, batch.graph.system_index
        kind = self.config.forces
        prediction = self.model(
            graph, batch.head, forces=kind, create_graph=kind == "gradient"
        )
        assert prediction.forces is not None
        specs = [self.model.heads[name] for name in batch.head]
        tasks = [self.config.task(name) for name in batch.head]

        def per_system(values: Sequence[float]) -> Tensor:
            return batch.energy.new_tensor(values)

        energy_scale = per_system([spec.energy_scale for spec in specs])
        force_scale = (
            energy_scale
            if kind == "gradient"
            else per_system([spec.force_scale for spec in specs])
        )
        reference = torch.zeros_like(batch.energy).index_add(
            0, of, reference_energies(graph, specs)
        )
        return energy_force_loss(
            (prediction.energy, (batch.energy - reference) / energy_scale),
            (prediction.forces.double(), batch.forces / force_scale[of][:, None]),
            energy_weight=per_system([task.energy_weight for task in tasks]),
            force_weight=per_system([self._force_weight(name) for name in batch.head]),
            system_index=of,
            has_forces=batch.has_forces,
            reduction=self.config.reduction,
        )

    def _force_weight(self, task: str) -> float:
        weight = self.config.task(task).force_weight
        return self.statistics[task].mean_atoms if weight is None else weight

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

        def measure() -> dict[str, TaskErrors]:
            return evaluate_model(
                self.model,
                dataset,
                samples,
                forces=self.config.forces,
                max_atoms=self.config.data.max_atoms,
                device=self.device,
            )

        if self.average is None:
            return measure()
        with self.average.applied_to(self.model):
            return measure()

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


def _choose_device(device: Device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            "device is 'cuda', but this machine or this build of torch has no GPU; "
            "choose cpu or auto"
        )
    return torch.device(device)


def _count_force_atoms(batch: TrainingBatch) -> int:
    return int(batch.n_atoms[batch.has_forces].sum())


def _task_losses(
    batches: Sequence[TrainingBatch], terms: Sequence[LossTerms]
) -> dict[str, tuple[int, float, float]]:
    sums: dict[str, tuple[int, float, float]] = {}
    for batch, term in zip(batches, terms, strict=True):
        energies, forces = term.system_energy.tolist(), term.system_forces.tolist()
        for task, energy, force in zip(batch.head, energies, forces, strict=True):
            n, e, f = sums.get(task, (0, 0.0, 0.0))
            sums[task] = (n + 1, e + energy, f + force)
    return sums
