"""TrainConfig and its parts: everything that a training run depends on.

All are frozen; a variant is ``dataclasses.replace``. The published pre-training values
(training specification, 1.5 and 1.8) are the defaults.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import (
    NANO,
    ForceKind,
    GraphRules,
    HeadKind,
    ModelConfig,
    TargetReduction,
)

LossReduction = Literal["structure", "atom"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float64", "bf16", "fp16"]
Average = Literal["systems", "batches"]
Parallel = Literal["ddp", "fsdp"]


def _check_at_least(settings: object, names: str, minimum: int) -> None:
    """Check that numbers, where they are given, are not below 0 or 1."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not value >= minimum:
            wanted = f"be at least {minimum}" if minimum else "not be negative"
            raise ArgumentError(f"{name} is {value}; it must {wanted}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskScales:
    """Scales of a task that a recipe states instead of measuring them."""

    energy_scale: float | None = None
    """eV per network unit; None: as measured."""
    force_scale: float | None = None
    """eV/Å per network unit; None: as measured."""
    target_shift: float | None = None
    """Value of the target at network output zero; None: as measured."""
    target_scale: float | None = None
    """Target per network unit; None: as measured."""
    has_references: bool = True
    """Whether reference values of the elements are subtracted."""
    references: tuple[tuple[int, float], ...] | None = None
    """Reference value of each element (atomic number, value in eV or in the unit of the
    target); None: as fitted to the training part."""

    def __post_init__(self) -> None:
        """Check that the scales divide."""
        for name in ("energy_scale", "force_scale", "target_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"{name} is {value}; it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """One task of a run: whose labels, which graphs, which loss weights."""

    name: str
    """Name of the task and of its head."""
    store: str | None = None
    """Name of the store of its samples; None: that of the task."""
    graph: GraphRules
    """How the structures of this task become graphs."""
    kind: HeadKind = "energy_forces"
    """What the head predicts; a key of ``HEADS``."""
    forces: ForceKind | None = "gradient"
    """Force kind that the head is trained for; None: it has no forces."""
    energy_weight: float = 1.0
    """Factor of the energy term (alpha)."""
    force_weight: float | None = None
    """Factor of the force term (beta); None: mean atoms per system of the task."""
    stress_weight: float = 0.0
    """Factor of the stress term (gradient forces only)."""
    target: str | None = None
    """Label that the head predicts; None: energy and forces."""
    target_weight: float = 1.0
    """Factor of the term of the target."""
    reduction: TargetReduction = "sum"
    """How the numbers of the atoms make the target of the system."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; ``multiclass`` needs them."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the loss, or of the positive one; empty: all 1."""
    head_dropout: float = 0.0
    """Part of the input features of a class head that is dropped in training."""
    has_energy_bias: bool = True
    """Whether the hidden layers of the energy head have biases."""
    max_share: float = 1.0
    """Largest part of the cost of an epoch that this task may have, if that is less
    than the ``max_task_share`` of all; 1: no limit of its own."""
    scales: TaskScales | None = None
    """Scales and references that replace the measured ones; None: as measured."""

    def __post_init__(self) -> None:
        """Check the weights, the target and the dropout."""
        for name in ("energy_weight", "force_weight", "stress_weight", "target_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ArgumentError(
                    f"{name} of task {self.name!r} is {value}; it must be finite and "
                    "not negative"
                )
        if self.target is not None and self.kind == "energy_forces":
            raise ArgumentError(
                f"task {self.name!r} has the target {self.target!r}, but its head "
                "predicts energy and forces; set its kind, such as scalar"
            )
        if not 0 < self.max_share <= 1:
            raise ArgumentError(
                f"max_share of task {self.name!r} is {self.max_share}; it must be "
                "above 0 and at most 1 (no limit)"
            )
        if not 0 <= self.head_dropout < 1:
            raise ArgumentError(
                f"head_dropout of task {self.name!r} is {self.head_dropout}; it must "
                "be at least 0 and below 1"
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
    batch_systems: int | None = None
    """Systems of a batch, as published: the systems of a step are then divided over its
    batches so that the costs are balanced, and ``max_atoms`` is no limit; None: batches
    are filled up to ``max_atoms``."""
    batches_per_step: int | None = 1
    """Batches whose gradients make one optimizer step, shared out over the processes;
    None: one for each process that the run starts with."""
    edge_dropout: float = 0.0
    """Part of the atom–atom edges that is left out at random in training."""
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
        if not 0 <= self.edge_dropout < 1:
            raise ArgumentError(
                f"edge_dropout is {self.edge_dropout}; it must be at least 0 and below "
                "1 (published pre-training: 0.1)"
            )
        _check_at_least(self, "max_atoms max_pairs batches_per_step batch_systems", 1)
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
    """Largest global gradient norm; None: no clipping by norm."""
    clip_value: float | None = None
    """Largest size of a component of the gradient (published fine-tuning: 1); None: no
    clipping by value."""
    ema_decay: float | None = 0.99
    """Decay of the moving average of the weights; None: no average."""

    def __post_init__(self) -> None:
        """Check the rates."""
        _check_at_least(self, "eps weight_decay warmup_steps warmup_start final", 0)
        if not self.learning_rate > 0:
            raise ArgumentError(
                f"learning_rate is {self.learning_rate}; it must be positive"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ArgumentError(
                f"betas are {self.betas}; both must be at least 0 and below 1"
            )
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ArgumentError(
                    f"{name} is {limit}; it must be positive, or null for no clipping"
                )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ArgumentError(
                f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1, or "
                "null for no average"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """Trained weights that a run starts from, and what of them may change."""

    weights: str
    """Name or file of the weights, as for ``jmp_calc.load_model``."""
    sha256: str = ""
    """Hash of that file when the run was made; empty: not recorded yet."""
    heads: tuple[tuple[str, str], ...] = ()
    """Pairs (task, head of the weights) of heads that are kept; others are random."""
    frozen: tuple[str, ...] = ()
    """Parts that do not change: backbone, embedding, bases, block.0, output.0, heads,
    or patterns of parameter names with ``*``."""
    layer_rates: tuple[float, ...] = ()
    """Factors of the learning rate by depth: embedding, then each block; all else has
    1. Empty: the same rate everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateauConfig:
    """Warm-up and cosine counted in epochs, then reduction on plateaus.

    Source:
        Training specification, section 2.4.
    """

    warmup_epochs: float = 5.0
    """Epochs of linear warm-up."""
    warmup_start: float = 0.1
    """Rate at step 0, as a fraction of each group's peak."""
    cosine_epochs: float = 32.0
    """Epoch at which the cosine ends."""
    final: float = 0.1
    """Rate there, as a fraction of the base rate."""
    factor: float = 0.8
    """Factor of a reduction."""
    patience: int = 3
    """Validations without improvement before one."""
    threshold: float = 1e-4
    """Relative improvement that counts."""
    eps: float = 1e-8
    """Smallest change of a rate that is made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppingConfig:
    """When a run has learned enough, and by which error that is judged."""

    monitor: str = "forces"
    """Error of the validation part: energy, forces, stress, target, or loss (a weighted
    sum like that of training); lower is better."""
    patience: int | None = 50
    """Validations without improvement before the run stops; None: never."""
    min_delta: float = 1e-8
    """Improvement that counts."""
    min_learning_rate: float = 0.0
    """Stop when the largest rate of all groups falls below this."""

    def __post_init__(self) -> None:
        """Check the patience."""
        _check_at_least(self, "patience", 1)


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
    start: StartConfig | None = None
    """Trained weights to start from; None: random weights."""
    plateau: PlateauConfig | None = None
    """Schedule in epochs that replaces warm-up and cosine of ``optim``; None: that of
    ``optim``."""
    stopping: StoppingConfig | None = None
    """Early stopping, and which weights are the best; None: train to the end and keep
    the last."""
    reduction: LossReduction = "structure"
    """Mean of the force error inside each system first, or over all atoms."""
    average: Average = "systems"
    """Mean of the loss over all systems of a step, or inside each batch first and then
    over batches (as published, where a batch is that of one GPU)."""
    free_atoms_only: bool = False
    """Train on forces of free atoms only (errors are always those of free atoms)."""
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
    parallel: Parallel = "ddp"
    """With several processes: each has all weights, or its shard of them."""
    precision: Precision = "float32"
    """Arithmetic of the network; parameters are float32, or float64 for that."""
    evaluate_every: int | None = 1000
    """Steps between validations; None: one after each epoch."""
    evaluate_systems: int | None = None
    """Systems of each task in a validation during the run; None: all."""
    scale_batches: int = 16
    """Batches that the scale factors are fitted to; 0: they stay 1."""
    scale_single_pass: bool = False
    """Fit all of them in one pass over these batches joined, not each in passes of its
    own: nearly the same numbers in a fraction of the time."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept besides the best."""
    log_every: int = 50
    """Steps between lines of the log."""
    nonfinite_limit: int = 3
    """Steps in a row without finite loss and gradient after which the run stops."""
    tensorboard: bool = False
    """Write curves for TensorBoard, too."""

    def __post_init__(self) -> None:
        """Check the counts."""
        _check_at_least(self, "epochs evaluate_every checkpoint_every log_every", 1)
        _check_at_least(self, "max_steps evaluate_systems", 1)
        _check_at_least(self, "keep_checkpoints nonfinite_limit", 1)
        _check_at_least(self, "scale_batches seed", 0)
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ArgumentError(
                f"max_minutes is {self.max_minutes}; it must be positive, or null for "
                "no limit"
            )
        kinds = sorted({task.forces or "no" for task in self.data.tasks})
        if len(kinds) > 1:
            raise ArgumentError(
                f"the tasks of run {self.name!r} have {' and '.join(kinds)} forces; "
                "give all the same kind"
            )

    @property
    def forces(self) -> ForceKind | None:
        """Force kind of all tasks; None: they have no forces."""
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
