"""What an experiment is given: data, weights, budget, seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.config import (
    DataConfig,
    OptimConfig,
    StartConfig,
    StoppingConfig,
    TaskConfig,
    TrainConfig,
)
from jmp_train.data.header import read_header
from jmp_train.data.splits import SPLITS
from jmp_train.data.store import store_path
from jmp_train.experiments.budgets import Budget
from jmp_train.normalize import TaskStatistics
from jmp_train.recipes.nano import GRAPH

if TYPE_CHECKING:
    from jmp_calc.models.config import GraphRules, ModelConfig

Equal = Literal["steps", "epochs"]
"""What the arms of E3 have in common."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentSettings:
    """Everything that an experiment is given."""

    out: Path
    """Folder for runs and report."""
    stores: Path
    """Folder of the stores of all tasks."""
    pretraining: tuple[str, ...]
    """Stores that are pre-trained on."""
    downstream: tuple[str, ...]
    """Stores that are fine-tuned on and tested with."""
    weights: str
    """Trained weights of arms that start from given ones, as for ``load_model``."""
    budget: Budget
    """Cost of each run."""
    seeds: int
    """Repeats of each arm."""
    target: str | None = None
    """Label that is fine-tuned on; None: energy and forces."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    equal: Equal = "steps"
    """What the arms of E3 have in common: optimizer steps or passes over the data."""
    arms: tuple[str, ...] = ()
    """Arms of E1 and E7 that are run beside scratch; empty: all."""
    rates: tuple[float, ...] = ()
    """Peak learning rates of which each arm of E1 and E7 has its best one by the
    validation part; empty: all have that of the budget."""
    chosen_rates: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """What was found, by name of the arm and number of training systems."""

    def __post_init__(self) -> None:
        """Check that there is something to train on."""
        if self.seeds < 1:
            raise ArgumentError(f"seeds is {self.seeds}; it must be at least 1")
        if not all(0 < rate < math.inf for rate in self.rates):
            raise ArgumentError(
                f"learning rates are {', '.join(f'{r:g}' for r in self.rates)}; they "
                "must be positive"
            )
        if not self.downstream:
            raise ArgumentError(
                "name at least one store to fine-tune on (--downstream)"
            )

    def header(self, store: str) -> dict[str, Any]:
        """Return the header of the training part of a set.

        Args:
            store: Name of the set.

        Raises:
            DataError: If there is no such store.
        """
        return read_header(store_path(self.stores, store, "train"))

    def check_stores(self) -> None:
        """Check that there is all that is trained on and compared by.

        Sets to pre-train on need no other part, because some are published without.

        Raises:
            DataError: If a store is missing.
        """
        needed = [(store, "train") for store in self.pretraining]
        needed += [(store, split) for store in self.downstream for split in SPLITS]
        for store, split in needed:
            read_header(store_path(self.stores, store, split))

    def metric(self, store: str) -> str:
        """Return the short name of the error that is scored on a downstream set.

        Args:
            store: Name of the set.

        Returns:
            ``target`` if one is asked for, else ``forces`` or, without such labels,
            ``energy``.

        Raises:
            ArgumentError: If the set does not have the target.
        """
        statistics = TaskStatistics.from_json(self.header(store)["statistics"])
        if self.target is None:
            return "forces" if statistics.force_rms else "energy"
        if self.target not in statistics.targets:
            raise ArgumentError(
                f"the set {store!r} has no label {self.target!r}; it has "
                f"{', '.join(statistics.targets) or 'no targets'}"
                + did_you_mean(self.target, statistics.targets)
            )
        return "target"


def target_unit(settings: ExperimentSettings, store: str) -> str:
    """Return the unit of the label that is fine-tuned on; empty if not stated.

    Args:
        settings: Names the label.
        store: Name of the set.
    """
    units = settings.header(store).get("units", {}).get("targets", {})
    return str(units.get(settings.target, ""))


def pretraining_config(
    settings: ExperimentSettings, name: str, seed: int
) -> TrainConfig:
    """Return a pre-training on all stores from random weights.

    Args:
        settings: Data and budget.
        name: Folder of the arm below ``settings.out``.
        seed: Seed of the run.
    """
    budget = settings.budget
    forces = budget.pretrain_forces
    steps = budget.pretrain_steps
    return TrainConfig(
        name="model",
        data=DataConfig(
            stores=settings.stores,
            tasks=tuple(
                TaskConfig(name=store, graph=GRAPH, forces=forces)
                for store in settings.pretraining
            ),
            max_atoms=budget.max_atoms,
            graph_cache=_CACHE,
        ),
        model=replace(budget.model, has_direct_forces=forces == "direct"),
        optim=_optim(steps, peak=budget.pretrain_rate),
        out=settings.out / "runs" / name / f"seed{seed}",
        max_steps=steps,
        seed=seed,
        device=settings.device,
        evaluate_every=max(steps // 4, 2),
        evaluate_systems=budget.evaluate_systems,
        scale_batches=2,
        checkpoint_every=max(steps // 4, 1),
        log_every=max(steps // 100, 1),
    )


def finetuning_config(
    settings: ExperimentSettings,
    name: str,
    seed: int,
    *,
    store: str,
    start: StartConfig | None = None,
    rate: float | None = None,
) -> TrainConfig:
    """Return a training on one store, from random or given weights.

    Every kind of arm gets the same steps, batches and schedule. The weights that count
    are those with the best validation.

    Args:
        settings: Data and budget.
        name: Folder of the arm below ``settings.out``.
        seed: Seed of the run.
        store: Name of the set.
        start: Trained weights; None: random ones.
        rate: Peak learning rate; None: that of the budget.
    """
    budget = settings.budget
    metric = settings.metric(store)
    task = TaskConfig(name=store, graph=GRAPH)
    if metric == "target":
        task = replace(task, kind="scalar", forces=None, target=settings.target)
    elif metric == "energy":
        task = replace(task, forces=None)
    steps = budget.finetune_steps
    return TrainConfig(
        name="model",
        data=DataConfig(
            stores=settings.stores,
            tasks=(task,),
            max_atoms=budget.max_atoms,
            graph_cache=_CACHE,
        ),
        model=budget.model,
        optim=_optim(steps, peak=rate or budget.finetune_rate),
        out=settings.out / "runs" / name / f"seed{seed}",
        start=start,
        stopping=StoppingConfig(monitor=metric, patience=None),
        max_steps=steps,
        seed=seed,
        device=settings.device,
        evaluate_every=max(steps // 10, 2),
        evaluate_systems=budget.evaluate_systems,
        scale_batches=2,
        checkpoint_every=max(steps // 2, 1),
        log_every=max(steps // 100, 1),
    )


def with_network(
    config: TrainConfig, model: ModelConfig, graph: GraphRules
) -> TrainConfig:
    """Return a run on one set with another network and its kind of graphs.

    Args:
        config: Of a run.
        model: Network; a force branch that the task does not need is left out.
        graph: Graphs of the task.
    """
    tasks = tuple(replace(task, graph=graph) for task in config.data.tasks)
    is_direct = config.forces == "direct"
    return replace(
        config,
        model=replace(model, has_direct_forces=is_direct),
        data=replace(config.data, tasks=tasks),
    )


def network_of(settings: ExperimentSettings, store: str) -> tuple[Any, Any]:
    """Return the network of the trained weights, and graphs that they know.

    The graphs are those of the head whose domain is that of the set, or of the first
    one.

    Args:
        settings: Names the weights.
        store: Name of the set.

    Returns:
        A ``ModelConfig`` and ``GraphRules``.
    """
    from jmp_calc.pretrained import load_model

    model = load_model(settings.weights)
    domain = settings.header(store).get("domain")
    heads = sorted(model.heads.values(), key=lambda head: head.domain != domain)
    return model.config, heads[0].graph


_CACHE = 2000


def _optim(steps: int, *, peak: float) -> OptimConfig:
    return OptimConfig(
        learning_rate=peak,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        warmup_steps=max(steps // 20, 1),
        warmup_start=0.1,
        final=0.02,
        clip_norm=10.0,
        ema_decay=0.99 if steps > 200 else 0.5,
    )
