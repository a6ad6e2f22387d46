"""TrainConfig and its parts: everything that a training run depends on.

All are frozen; a variant is ``dataclasses.replace``. The published pre-training values
(training specification, 1.5 and 1.8) are the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import NANO, ForceKind, GraphRules, ModelConfig

LossReduction = Literal["structure", "atom"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float64", "bf16"]


def _check_at_least(settings: object, names: str, minimum: int) -> None:
    """Check that numbers, where they are given, are not below 0 or 1."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not value >= minimum:
            wanted = f"be at least {minimum}" if minimum else "not be negative"
            raise ArgumentError(f"{name} is {value}; it must {wanted}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """One task of a run: whose labels, which graphs, which loss weights."""

    name: str
    """Key of ``TASKS``; also the name of the head."""
    graph: GraphRules
    """How the structures of this task become graphs."""
    forces: ForceKind = "gradient"
    """Force kind that the head is trained for."""
    energy_weight: float = 1.0
    """Factor of the energy term (alpha)."""
    force_weight: float | None = None
    """Factor of the force term (beta); None: mean atoms per system of the task."""

    def __post_init__(self) -> None:
        """Check the weights."""
        for name, value in (
            ("energy_weight", self.energy_weight),
            ("force_weight", self.force_weight),
        ):
            if value is not None and value < 0:
                raise ArgumentError(
                    f"{name} of task {self.name!r} is {value}; it must not be negative"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where the samples are and how they are mixed into batches."""

    stores: Path
    """Folder of the stores that ``prepare`` wrote."""
    tasks: tuple[TaskConfig, ...]
    """The tasks, in the order of their heads."""
    temperature: float = 2.0
    """Sampling temperature T, p ~ n^(1/T); infinity mixes tasks evenly."""
    max_task_share: float = 1.0
    """Largest part of the cost of an epoch (ordered pairs of atoms within 5 Å) that one
    task may have; 1: no limit."""
    max_atoms: int = 256
    """Largest number of atoms in a batch; a larger system is a batch of its own."""
    max_pairs: int | None = None
    """Largest number of ordered pairs of atoms within 5 Å in a batch, likewise; None:
    only atoms count."""
    batches_per_step: int = 1
    """Batches whose gradients make one optimizer step; they can run in parallel."""
    workers: int = 0
    """Processes that read samples and build graphs; 0: the training process."""
    graph_cache: int = 0
    """Graphs kept in memory by each such process; 0: none."""

    def __post_init__(self) -> None:
        """Check the tasks and the sizes."""
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise ArgumentError(
                f"tasks are {names}; name at least one task, and each only once"
            )
        if not self.temperature > 0:
            raise ArgumentError(
                f"temperature is {self.temperature}; it must be positive (1: by size, "
                "inf: evenly)"
            )
        if not 0 < self.max_task_share <= 1:
            raise ArgumentError(
                f"max_task_share is {self.max_task_share}; it must be above 0 and at "
                "most 1 (no limit)"
            )
        _check_at_least(self, "max_atoms max_pairs batches_per_step", 1)
        _check_at_least(self, "workers graph_cache", 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW, its schedule, clipping and the moving average of the weights."""

    learning_rate: float = 3e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled weight decay of all parameters."""
    warmup_steps: int = 2000
    """Steps of linear warm-up."""
    warmup_start: float = 0.2
    """Learning rate at step 0, as a fraction of the peak."""
    final: float = 0.1
    """Learning rate at the end of the cosine, as a fraction of the peak."""
    clip_norm: float | None = 1.0
    """Largest global gradient norm; None: no clipping."""
    ema_decay: float | None = 0.99
    """Decay of the moving average of the weights; None: no average."""

    def __post_init__(self) -> None:
        """Check the rates."""
        _check_at_least(self, "eps weight_decay warmup_steps warmup_start final", 0)
        if not self.learning_rate > 0:
            raise ArgumentError(
                f"learning_rate is {self.learning_rate}; it must be positive"
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ArgumentError(
                f"clip_norm is {self.clip_norm}; it must be positive, or null for no "
                "clipping"
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ArgumentError(
                f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1, or "
                "null for no average"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A whole training run."""

    name: str
    """Name of the run and of the model that it makes."""
    data: DataConfig
    """Samples and batches."""
    model: ModelConfig = NANO
    """Shape of the network."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    out: Path
    """Folder for checkpoints, logs and the weights file."""
    reduction: LossReduction = "structure"
    """Mean of the force error inside each system first, or over all atoms."""
    epochs: int = 2
    """Passes over the mixed epoch."""
    max_steps: int | None = None
    """Length of the run and of its schedule in optimizer steps; None: ``epochs``."""
    max_minutes: float | None = None
    """Stop with a checkpoint after so many minutes, whatever the schedule says; None:
    no limit."""
    seed: int = 0
    """Seed of the weights and of the order of the samples."""
    device: Device = "auto"
    """Where to train; auto: the GPU if there is one."""
    precision: Precision = "float32"
    """Arithmetic of the network; parameters are float32, or float64 for that."""
    evaluate_every: int = 1000
    """Steps between validations."""
    evaluate_systems: int | None = None
    """Systems of each task in a validation during the run; None: all."""
    scale_batches: int = 16
    """Batches that the scale factors are fitted to; 0: they stay 1."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between lines of the log."""

    def __post_init__(self) -> None:
        """Check the counts."""
        _check_at_least(self, "epochs evaluate_every checkpoint_every log_every", 1)
        _check_at_least(self, "max_steps evaluate_systems", 1)
        _check_at_least(self, "scale_batches seed", 0)
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ArgumentError(
                f"max_minutes is {self.max_minutes}; it must be positive, or null for "
                "no limit"
            )
        kinds = sorted({task.forces for task in self.data.tasks})
        if len(kinds) > 1:
            raise ArgumentError(
                f"the tasks of run {self.name!r} have {' and '.join(kinds)} forces; "
                "give all the same kind"
            )

    @property
    def forces(self) -> ForceKind:
        """Force kind of all tasks."""
        return self.data.tasks[0].forces

    def task(self, name: str) -> TaskConfig:
        """Return the task with this name.

        Raises:
            ArgumentError: If the run has no such task.
        """
        for task in self.data.tasks:
            if task.name == name:
                return task
        names = [task.name for task in self.data.tasks]
        raise ArgumentError(
            f"no task {name!r} in run {self.name!r}; it has {', '.join(names)}"
            + did_you_mean(name, names)
        )
