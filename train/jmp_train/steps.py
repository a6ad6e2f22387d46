"""Optimizer steps: gradients of the batches of all processes, clipped and applied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.feed import FedStep
from jmp_train.groups import parameter_groups
from jmp_train.normalize import TaskStatistics
from jmp_train.objective import TERMS, Divisors, LossTerms, Objective
from jmp_train.optim import (
    MovingAverage,
    build_optimizer,
    clip_gradients,
    finish_gradients,
    moments,
)
from jmp_train.parallel import (
    Group,
    distributed,
    gradient_sync,
    shard_model,
    share_weights,
)
from jmp_train.precision import LOSS_SCALE, AdaptiveScale
from jmp_train.progress import StepResult, TermSums

_NOTHING = Divisors(systems=math.inf, atoms=math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the batches of this process have given."""

    loss: float
    """Their part of the loss."""
    sums: Float[Tensor, "tasks columns"]
    """Number of systems and sums of the terms, by task."""
    suspects: list[int]
    """Samples whose terms are not finite."""


class StepMaker:
    """Owns everything that a step changes: network, optimizer, average, scales."""

    def __init__(
        self,
        model: JMPModel,
        config: TrainConfig,
        statistics: Mapping[str, TaskStatistics],
        *,
        group: Group,
    ) -> None:
        """Get a network ready for training, in place.

        Args:
            model: The network, on the device of the group.
            config: Settings.
            statistics: Of the training part, by task.
            group: The processes.
        """
        self.model, self.config, self.group = model, config, group
        model.train()
        parameter_groups(model, config)  # what is frozen must be known before sharding
        share_weights(model, group)
        if config.parallel == "fsdp":
            shard_model(model, group)
        self.groups = parameter_groups(model, config)
        self.optimizer = build_optimizer(self.groups, config.optim)
        decay = config.optim.ema_decay
        self.average = None if decay is None else MovingAverage(model, decay)
        self.loss_scale = AdaptiveScale(LOSS_SCALE)
        self.objective = Objective(model, config, statistics)
        self.n_updates = 0
        """Steps that have changed the weights."""
        self.spare: TrainingBatch | None = None
        """A batch for sharded weights where a process has none of its own."""
        self._network = distributed(self.objective, model, group)
        self._parameters = [p for g in self.groups for p in g.parameters]
        self._tasks = [task.name for task in config.data.tasks]
        self._has_dropout = any(task.head_dropout > 0 for task in config.data.tasks)

    def make(
        self, fed: FedStep, rates: Sequence[float], *, step: int
    ) -> tuple[StepResult, list[int]]:
        """Make one optimizer step, unless the loss or its gradient is not finite.

        Args:
            fed: The batches.
            rates: Learning rate of each parameter group.
            step: Number of the step, from which random numbers follow.

        Returns:
            What happened, and the samples of this process whose loss is not finite.
        """
        for options, rate in zip(self.optimizer.param_groups, rates, strict=True):
            options["lr"] = rate
        self.optimizer.zero_grad()
        found = self._gradients(fed, step)
        is_fp16 = self.config.precision == "fp16"
        finish_gradients(self.model, 1 / self.loss_scale.value if is_fp16 else 1.0)
        norm = clip_gradients(self._parameters, self.config.optim)
        row = found.sums.new_full((1, found.sums.shape[1]), found.loss)
        total = self.group.sum(torch.cat([found.sums, row]))
        loss = float(total[-1, 0])
        is_finite = math.isfinite(loss) and math.isfinite(norm)
        if is_finite:
            self.optimizer.step()
            self.n_updates += 1
            if self.average is not None:
                self.average.update(self.model)
        if is_fp16:
            self.loss_scale.update(is_finite=is_finite)
            self.objective.multiplier.agree(self.group)
        result = StepResult(
            loss=loss,
            gradient_norm=norm,
            learning_rate=max(rates),
            is_skipped=not is_finite,
            tasks={
                task: TermSums(
                    n_systems=round(n), **dict(zip(TERMS, terms, strict=True))
                )
                for task, (n, *terms) in zip(
                    self._tasks, total[:-1].tolist(), strict=True
                )
                if n > 0
            },
        )
        return result, found.suspects

    @property
    def is_scaled_down(self) -> bool:
        """Whether a smaller scale of the loss cannot help against overflow any more."""
        return self.config.precision != "fp16" or self.loss_scale.value <= 1

    def _gradients(self, fed: FedStep, step: int) -> _Found:
        """Leave the gradients in the parameters."""
        divisors, is_fp16 = self._divisors(fed), self.config.precision == "fp16"
        rounds: list[TrainingBatch | None] = [*fed.batches]
        n_rounds = fed.n_rounds if isinstance(self.model, FSDPModule) else 1
        rounds += [None] * (n_rounds - len(rounds))
        loss, suspects = 0.0, []
        sums = torch.zeros((len(self._tasks), 1 + len(TERMS)), dtype=torch.float64)
        for index, batch in enumerate(rounds):
            is_last = index == len(rounds) - 1
            number = fed.numbers[index] if batch is not None else -1
            with (
                gradient_sync(self._network, self.model, is_on=is_last),
                self._seeded(step, number),
            ):
                part, terms = self._loss(batch, divisors, index)
                scale = self.loss_scale.value
                torch.autograd.backward(part * scale if is_fp16 else part)
            if batch is not None and terms is not None:
                loss += float(part.detach()) / self.group.world_size
                sums += self._task_sums(batch, terms)
                suspects += _not_finite(batch, terms)
        return _Found(loss=loss, sums=sums, suspects=suspects)

    def _loss(
        self, batch: TrainingBatch | None, divisors: Sequence[Divisors], index: int
    ) -> tuple[Tensor, LossTerms | None]:
        if batch is None:
            # Sharded weights are gathered by all processes together: each must run the
            # network, and one without a batch does so for nothing.
            spare = self.spare if isinstance(self.model, FSDPModule) else None
            part: tuple[Tensor, LossTerms | None] = self._network(spare, _NOTHING)
            return part
        part = self._network(batch.to(self.group.device), divisors[index])
        return part

    def _divisors(self, fed: FedStep) -> list[Divisors]:
        """Return the divisors of each batch of this process.

        Gradients are averaged over processes, so everything is multiplied by their
        number.
        """
        counts = [self.objective.counts(batch) for batch in fed.batches]
        n = self.group.world_size
        if self.config.average == "batches":
            share = len(fed.samples) / n
            return [
                Divisors(systems=systems * share, atoms=max(atoms, 1) * share)
                for systems, atoms in counts
            ]
        own = torch.tensor(counts, dtype=torch.float64).reshape(-1, 2).sum(0)
        systems, atoms = self.group.sum(own).tolist()
        return [Divisors(systems=systems / n, atoms=max(atoms, 1) / n)] * len(counts)

    @contextmanager
    def _seeded(self, step: int, number: int) -> Iterator[None]:
        """Draw random numbers that follow from seed, step and batch alone."""
        if not self._has_dropout:
            yield
            return
        entropy = [self.config.seed, step, number + 1]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
        device = self.group.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def _task_sums(
        self, batch: TrainingBatch, terms: LossTerms
    ) -> Float[Tensor, "tasks columns"]:
        parts = [torch.ones_like(terms.energy), *(getattr(terms, t) for t in TERMS)]
        rows = torch.stack(parts, dim=1).cpu()
        task = torch.tensor([self._tasks.index(name) for name in batch.head])
        return rows.new_zeros((len(self._tasks), len(parts))).index_add(0, task, rows)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors that a checkpoint holds, by kind and name, not copied."""
        return {
            "model": self.model.state_dict(),
            "average": {} if self.average is None else self.average.values,
            "optimizer": moments(self.optimizer, self.groups),
        }

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what else must be saved, as plain JSON."""
        return {
            "optimizer": {"n_updates": self.n_updates},
            "loss_scale": self.loss_scale.state(),
            "energy_multiplier": self.objective.multiplier.state(),
        }

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state: Of a run with the same settings.
        """
        self.n_updates = int(state["optimizer"]["n_updates"])
        for parameter in self._parameters:
            self.optimizer.state[parameter]["step"].fill_(self.n_updates)
        self.loss_scale.restore(state["loss_scale"])
        self.objective.multiplier.restore(state["energy_multiplier"])


def _not_finite(batch: TrainingBatch, terms: LossTerms) -> list[int]:
    is_bad = ~torch.isfinite(terms.total).cpu()
    return [int(index) for index in batch.index[is_bad]]
