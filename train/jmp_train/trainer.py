"""Trainer: from a TrainConfig to trained weights, in one process or in many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jmp_calc.models.jmp import JMPModel
from jmp_train.checkpoint import AVERAGE, MODEL, OPTIMIZER, Checkpointer, read_tensors
from jmp_train.checkpoint_folders import CHECKPOINTS, latest
from jmp_train.config import TrainConfig
from jmp_train.config_file import save_config
from jmp_train.data.batches import GraphDataset, build_loader
from jmp_train.devices import choose_device
from jmp_train.feed import FedStep, feed_steps, position_after
from jmp_train.labels import check_labels
from jmp_train.metrics import TaskErrors
from jmp_train.nonfinite import NonFiniteGuard
from jmp_train.normalize import TaskStatistics
from jmp_train.optim import MovingAverage
from jmp_train.parallel import Group, check_parallel
from jmp_train.plan import TrainingPlan
from jmp_train.progress import RunResult, StepResult, StopReason, Watcher
from jmp_train.records import Pace, run_facts, step_facts
from jmp_train.run_folder import explained, locked
from jmp_train.run_state import Position, RunState, check_same_run
from jmp_train.runlog import CONFIG, SUMMARY, RunLog, errors_name, errors_to_json
from jmp_train.schedules import build_schedule
from jmp_train.setup import fingerprints, network, resolved, saved_state
from jmp_train.steps import StepMaker
from jmp_train.stopping import EarlyStopping
from jmp_train.validation import (
    Validator,
    has_part,
    monitored_error,
    open_dataset,
)

Record = Callable[[str, dict[str, Any]], None]


class Trainer:
    """One training run, as one of its processes sees it; make it with :meth:`build`."""

    def __init__(
        self,
        config: TrainConfig,
        model: JMPModel,
        *,
        dataset: GraphDataset,
        plan: TrainingPlan,
        group: Group,
    ) -> None:
        """Put the parts together; the network is used as it is given.

        Args:
            config: Settings, with ``batches_per_step``.
            model: The network, with the heads of the tasks, on the device of the group.
            dataset: Training samples.
            plan: Which of them make which step.
            group: The processes.
        """
        self.config, self.model, self.group = config, model, group
        self.dataset, self.plan = dataset, plan
        self.headers = {task: s.header for task, s in dataset.stores.items()}
        self.statistics = {
            task: TaskStatistics.from_json(header["statistics"])
            for task, header in self.headers.items()
        }
        self.maker = StepMaker(model, config, self.statistics, group=group)
        if config.parallel == "fsdp":
            smallest = int(dataset.n_atoms.argmin())
            (self.maker.spare,) = build_loader(dataset, [[smallest]])
        self.schedule = build_schedule(
            config,
            # only a plateau schedule counts in epochs; to count them takes time
            steps_per_epoch=0 if config.plateau is None else plan.epoch_length(0),
            n_steps=plan.n_steps,
            factors=[g.factor for g in self.maker.groups],
        )
        self.stopping = None
        if config.stopping is not None:
            self.stopping = EarlyStopping(config.stopping)
        self.guard = NonFiniteGuard(dataset, config.out, limit=config.nonfinite_limit)
        self.position = Position(seen=(0,) * len(config.data.tasks))
        self._validator = Validator(config, group)
        self._checkpointer: Checkpointer | None = None
        self._saved_step: int | None = None

    @classmethod
    def build(
        cls,
        config: TrainConfig,
        *,
        group: Group | None = None,
        is_resumed: bool = False,
    ) -> Trainer:
        """Open the stores and make, or resume, a run.

        Args:
            config: Settings.
            group: The processes, which all call this; None: this one alone.
            is_resumed: Go on from the last checkpoint in the folder of the run.

        Raises:
            ArgumentError: If the folder holds a run and this is not to resume it, or
                it is resumed with other settings, or the settings do not go together.
            DataError: If a store is missing.
            CheckpointError: If there is no checkpoint to resume.
        """
        group = Group.single(choose_device(config.device)) if group is None else group
        # One process looks: a shared file system may show others an older folder.
        path = group.on_main(lambda: latest(config.out / CHECKPOINTS))
        with group.together():
            check_parallel(config)
            state = saved_state(config, path, is_resumed=is_resumed)
            config = resolved(config, state, group)
            dataset = open_dataset(config, "train")
            check_labels(config, {t: s.header for t, s in dataset.stores.items()})
            if state is not None:
                check_same_run(state, config, fingerprints(dataset))
        with group.held(config.out, locked):
            pass  # a folder that is in use or read only is better found out now
        # Counting the steps may take minutes, so one process does it for all.
        n_steps = group.on_main(lambda: TrainingPlan(dataset, config).n_steps)
        plan = TrainingPlan(dataset, config, n_steps=n_steps)
        with group.together():
            model = network(config, dataset, plan, state=state, device=group.device)
        trainer = cls(config, model, dataset=dataset, plan=plan, group=group)
        with group.together():
            if state is not None and path is not None:
                trainer.restore(state, path)
        return trainer

    @property
    def average(self) -> MovingAverage | None:
        """Moving average of the weights, if the run keeps one."""
        return self.maker.average

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.group.device

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of the training store of each task."""
        return fingerprints(self.dataset)

    @property
    def has_best(self) -> bool:
        """Whether a checkpoint is the best of the validations so far."""
        return self.stopping is not None and self._checkpoints().best() is not None

    def evaluate(
        self, split: str = "val", *, per_task: int | None = None
    ) -> dict[str, TaskErrors]:
        """Return the errors of the averaged weights, by task.

        Args:
            split: ``train``, ``val`` or ``test``.
            per_task: Largest number of systems of each task; None: all.
        """
        return self._validator.measure(
            self.model, self.average, split, per_task=per_task
        )

    def train_step(self, fed: FedStep) -> StepResult:
        """Make the next optimizer step, or skip it if it is not finite.

        Args:
            fed: Its batches.

        Raises:
            DataError: If too many steps in a row were skipped.
        """
        began = time.monotonic()
        step = self.position.step
        rates = self.schedule.rates(step)
        result, suspects = self.maker.make(fed, rates, step=step)
        if not result.is_skipped:
            self.guard.count_finite()
        elif self.maker.is_scaled_down or not math.isfinite(result.loss):
            self._skip(fed, result, suspects)
        seconds = fed.waiting + time.monotonic() - began
        return replace(result, seconds=seconds, waiting=fed.waiting)

    def _skip(self, fed: FedStep, result: StepResult, own: list[int]) -> None:
        """Count a skipped step; stop if it is one too many."""
        suspects = [index for part in self.group.gather(own) for index in part]
        suspects = suspects or [index for batch in fed.samples for index in batch]
        if not self.guard.count_skipped(suspects):
            return

        def save() -> None:
            with explained(self.config.out):
                self.guard.save()

        self.group.on_main(save)
        with self.group.together():
            raise self.guard.error(
                self.position.step, loss=result.loss, norm=result.gradient_norm
            )

    def run(self, watcher: Watcher | None = None) -> RunResult:
        """Train until the schedule ends, the time is up, or someone asks to stop.

        A checkpoint is saved in every case. The test part is scored at the end, with
        the best weights if the run has early stopping, unless it was interrupted.

        Args:
            watcher: Hears about each step; None: nobody does.

        Raises:
            ArgumentError: If another process trains in the folder of the run.
            DataError: If a sample is damaged, or steps in a row were not finite.
            StorageError: If the folder of the run cannot be written to.
            CheckpointError: If a checkpoint cannot be written.
        """
        with self.group.held(self.config.out, locked):
            try:
                return self._run(watcher or Watcher())
            finally:
                if self._checkpointer is not None:
                    self._checkpointer.wait()  # it needs the other processes

    def _run(self, watcher: Watcher) -> RunResult:
        config, group = self.config, self.group
        with group.together():
            log = RunLog(
                config.out, is_writing=group.is_main, has_curves=config.tensorboard
            )
            if group.is_main:
                with explained(config.out):
                    save_config(config, config.out / CONFIG)

        def record(kind: str, facts: dict[str, Any]) -> None:
            with group.together():
                found = log.append(kind, facts)
            watcher.on_record(found)

        record("start", run_facts(self))
        if self.position.step == 0:
            self._validate(record)
        reason = self._train(watcher, record)
        self.save()
        self._checkpoints().wait()
        errors = {} if reason == "interrupted" else self._test()
        found = errors_to_json(errors)
        facts = {"step": self.position.step, "tasks": found}
        with group.together():
            if errors:
                log.write(errors_name("test"), {"split": "test", **facts})
            log.write(SUMMARY, {**run_facts(self), "reason": reason, "test": found})
        if errors:
            record("test", facts)
        record("stop", {"reason": reason, "step": self.position.step})
        log.close()
        return RunResult(
            reason=reason,
            explanation=(self.stopping and self.stopping.reason) or "",
            step=self.position.step,
            errors=errors,
        )

    def _train(self, watcher: Watcher, record: Record) -> StopReason:
        """Make the steps that are left."""
        config, pace, began = self.config, Pace(), time.monotonic()
        limit = math.inf if config.max_minutes is None else 60 * config.max_minutes
        if self._is_over():
            return self._end()
        for fed in self._feed():
            result = self.train_step(fed)
            self.position = position_after(self.position, fed, result, self.dataset)
            step = self.position.step
            watcher.on_step(step, self.plan.n_steps, result)
            pace.add(result)
            if step % config.log_every == 0:
                record("step", step_facts(self, result) | pace.facts())
            self._after_step(fed, record)
            is_late = self.group.is_main and time.monotonic() - began > limit
            if self._is_over():
                return self._end()
            if self.group.any(watcher.should_stop()):
                return "interrupted"
            if self.group.any(is_late):
                return "time"
        raise AssertionError("steps are fed without end")

    def _feed(self) -> Iterator[FedStep]:
        return feed_steps(
            self.dataset,
            self.plan,
            self.group,
            epoch=self.position.epoch,
            place=self.position.place,
            workers=self.config.data.workers,
        )

    @property
    def _is_early(self) -> bool:
        return self.stopping is not None and self.stopping.reason is not None

    def _is_over(self) -> bool:
        return self._is_early or self.position.step >= self.plan.n_steps

    def _end(self) -> StopReason:
        return "early" if self._is_early else "finished"

    def _after_step(self, fed: FedStep, record: Record) -> None:
        """Validate and save if it is time."""
        config, step = self.config, self.position.step
        is_last = step >= self.plan.n_steps
        is_best = False
        if config.evaluate_every is None:
            is_due = fed.is_last_of_epoch
        else:
            is_due = step % config.evaluate_every == 0 and not is_last
        if is_due or (is_last and self.stopping is not None):
            is_best = self._validate(record)
        is_due = step % config.checkpoint_every == 0 and not is_last
        if is_best or (is_due and not self.guard.is_in_doubt):
            self.save(is_best=is_best)

    def _validate(self, record: Record) -> bool:
        """Measure the validation part; return whether it is the best so far."""
        errors = self.evaluate("val", per_task=self.config.evaluate_systems)
        facts: dict[str, Any] = {
            "step": self.position.step,
            "tasks": errors_to_json(errors),
        }
        is_best, step, stopping = False, self.position.step, self.config.stopping
        if stopping is not None or self.config.plateau is not None:
            monitor = "loss" if stopping is None else stopping.monitor
            error = monitored_error(errors, monitor)
            if step > 0:
                self.schedule.after_validation(error)
            if step > 0 and self.stopping is not None:
                rate = max(self.schedule.rates(step))
                is_best = self.stopping.update(error, rate)
            facts |= {"monitored": error, "is_best": is_best}
        record("evaluation", facts)
        return is_best

    def _test(self) -> dict[str, TaskErrors]:
        """Take the best weights if there are any, and score the test part likewise."""
        best = self.group.on_main(self._checkpoints().best)
        if self.stopping is not None and best is not None:
            tensors = self._tensors()
            weights = {n: t for n, t in tensors.items() if not n.startswith(OPTIMIZER)}
            with self.group.together():
                read_tensors(best, weights)
        return self.evaluate("test") if has_part(self.config, "test") else {}

    def _tensors(self) -> dict[str, Tensor]:
        kinds = self.maker.tensors()
        prefixes = {"model": MODEL, "average": AVERAGE, "optimizer": OPTIMIZER}
        return {
            prefixes[kind] + name: tensor
            for kind, tensors in kinds.items()
            for name, tensor in tensors.items()
        }

    def _checkpoints(self) -> Checkpointer:
        if self._checkpointer is None:
            self._checkpointer = Checkpointer(
                self.config.out / CHECKPOINTS, keep=self.config.keep_checkpoints
            )
        return self._checkpointer

    def save(self, *, is_best: bool = False) -> None:
        """Save a checkpoint of this step, unless there is one; it is written later.

        Args:
            is_best: Whether it is kept until there is a better one.
        """
        if self._saved_step == self.position.step:
            return
        self._checkpoints().save(
            self.position.step, self.state().to_json(), self._tensors(), is_best=is_best
        )
        self._saved_step = self.position.step

    def state(self) -> RunState:
        """Return everything but tensors that a checkpoint holds."""
        parts = self.maker.state()
        parts |= {"schedule": self.schedule.state(), "nonfinite": self.guard.state()}
        if self.stopping is not None:
            parts["stopping"] = self.stopping.state()
        return RunState(
            config=self.config,
            headers=self.headers,
            heads=tuple(self.model.heads.values()),
            info=self.model.info,
            position=self.position,
            parts=parts,
        )

    def restore(self, state: RunState, path: Path) -> None:
        """Take over the state of a checkpoint of the run.

        Args:
            state: What it holds besides tensors.
            path: The checkpoint.
        """
        read_tensors(path, self._tensors())
        self.maker.restore(state.parts)
        self.schedule.restore(state.parts["schedule"])
        self.guard.restore(state.parts["nonfinite"])
        if self.stopping is not None:
            self.stopping.restore(state.parts["stopping"])
        self.position = state.position
        self._saved_step = state.position.step
