"""What an experiment is given: data, weights, budget, seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import NANO, SIZES, GraphRules, ModelConfig, S
from jmp_train.config import (
    DataConfig,
    OptimConfig,
    StartConfig,
    StoppingConfig,
    TaskConfig,
    TrainConfig,
)
from jmp_train.recipes.nano import GRAPH
from jmp_train.recipes.smoke import TINY


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much each run of an experiment may cost; the same for all of its arms."""

    pretrain_steps: int
    """Optimizer steps of a pre-training."""
    finetune_steps: int
    """Optimizer steps of a fine-tuning."""
    n_train: tuple[int, ...]
    """Training systems of a learning curve; 0: all that there are."""
    model: ModelConfig
    """Network of runs that start at random."""
    sizes: dict[str, ModelConfig]
    """Networks of a scaling experiment by name."""
    seeds: int
    """Repeats."""
    evaluate_systems: int
    """Systems of each task in a validation."""
    md_steps: int
    """Steps of a simulation at constant energy."""
    max_atoms: int = 96
    """Atoms of a batch."""


_MIDDLE = replace(NANO, emb_size_edge=64, emb_size_atom=48)

BUDGETS: dict[str, Budget] = {
    "smoke": Budget(
        pretrain_steps=6,
        finetune_steps=6,
        n_train=(16,),
        model=TINY,
        sizes={"tiny": TINY, "tiny-2": replace(TINY, emb_size_edge=24)},
        seeds=1,
        evaluate_systems=4,
        md_steps=20,
        max_atoms=64,
    ),
    "small": Budget(
        pretrain_steps=1000,
        finetune_steps=600,
        n_train=(50, 200, 0),
        model=NANO,
        sizes={"tiny": TINY, "middle": _MIDDLE, "nano": NANO},
        seeds=3,
        evaluate_systems=64,
        md_steps=2000,
    ),
    "full": Budget(
        pretrain_steps=200_000,
        finetune_steps=20_000,
        n_train=(100, 1000, 10_000, 0),
        model=S,
        sizes=SIZES,
        seeds=3,
        evaluate_systems=1000,
        md_steps=20_000,
        max_atoms=512,
    ),
}
"""Budgets by name: minutes on two cores, hours on two cores, days on a GPU."""


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
    device: str = "auto"
    """Where to train."""

    def __post_init__(self) -> None:
        """Check that there is something to train on."""
        if self.seeds < 1:
            raise ArgumentError(f"seeds is {self.seeds}; it must be at least 1")
        if not self.downstream:
            raise ArgumentError(
                "name at least one store to fine-tune on (--downstream)"
            )


def budget_named(name: str) -> Budget:
    """Return a budget.

    Args:
        name: Key of ``BUDGETS``.

    Raises:
        ArgumentError: If there is none of that name.
    """
    if name not in BUDGETS:
        raise ArgumentError(
            f"unknown budget {name!r}; choose from {', '.join(BUDGETS)}"
            + did_you_mean(name, BUDGETS)
        )
    return BUDGETS[name]


def task_for(
    settings: ExperimentSettings,
    store: str,
    *,
    graph: GraphRules = GRAPH,
    is_downstream: bool = True,
) -> TaskConfig:
    """Return the task of a store.

    Args:
        settings: Says which label is fine-tuned on.
        store: Name of the store.
        graph: Graph rules.
        is_downstream: Whether the label of the experiment is meant.
    """
    if settings.target is not None and is_downstream:
        return TaskConfig(
            name=store,
            graph=graph,
            kind="scalar",
            forces=None,
            target=settings.target,
        )
    return TaskConfig(name=store, graph=graph)


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
    return TrainConfig(
        name="model",
        data=DataConfig(
            stores=settings.stores,
            tasks=tuple(
                task_for(settings, store, is_downstream=False)
                for store in settings.pretraining
            ),
            max_atoms=budget.max_atoms,
            graph_cache=2000,
        ),
        model=budget.model,
        optim=_optim(budget.pretrain_steps, peak=2e-3),
        out=settings.out / "runs" / name / f"seed{seed}",
        max_steps=budget.pretrain_steps,
        seed=seed,
        device=settings.device,  # type: ignore[arg-type]  # checked by the CLI
        evaluate_every=max(budget.pretrain_steps // 4, 1),
        evaluate_systems=budget.evaluate_systems,
        scale_batches=2,
        checkpoint_every=max(budget.pretrain_steps // 4, 1),
        log_every=max(budget.pretrain_steps // 100, 1),
    )


def finetuning_config(
    settings: ExperimentSettings,
    name: str,
    seed: int,
    *,
    store: str,
    stores: Path | None = None,
    start: StartConfig | None = None,
) -> TrainConfig:
    """Return a training on one store, from random or given weights.

    Both kinds of arm get the same steps, batches and schedule.

    Args:
        settings: Data and budget.
        name: Folder of the arm below ``settings.out``.
        seed: Seed of the run.
        store: Name of the store.
        stores: Folder of that store; None: that of the settings.
        start: Trained weights; None: random ones.
    """
    budget = settings.budget
    task = task_for(settings, store)
    model = budget.model
    if start is not None and start.weights:
        model, graph = network_of(start.weights)
        task = replace(task, graph=graph)
    is_scalar = settings.target is not None
    return TrainConfig(
        name="model",
        data=DataConfig(
            stores=stores or settings.stores,
            tasks=(task,),
            max_atoms=budget.max_atoms,
            graph_cache=2000,
        ),
        model=model,
        optim=_optim(budget.finetune_steps, peak=1e-3),
        out=settings.out / "runs" / name / f"seed{seed}",
        start=start,
        stopping=StoppingConfig(
            monitor="target" if is_scalar else "forces", patience=None
        ),
        max_steps=budget.finetune_steps,
        seed=seed,
        device=settings.device,  # type: ignore[arg-type]  # checked by the CLI
        evaluate_every=max(budget.finetune_steps // 10, 1),
        evaluate_systems=budget.evaluate_systems,
        scale_batches=2 if start is None else 0,
        checkpoint_every=max(budget.finetune_steps // 2, 1),
        log_every=max(budget.finetune_steps // 100, 1),
    )


def network_of(weights: str) -> tuple[ModelConfig, GraphRules]:
    """Return the network of trained weights and the graphs of their first head.

    Args:
        weights: Name or file, as for ``load_model``.
    """
    from jmp_calc.pretrained import load_model

    model = load_model(weights)
    return model.config, next(iter(model.heads.values())).graph


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
