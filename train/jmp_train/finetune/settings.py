"""What a user says about fine-tuning: on their own data, or by a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import SIZES, ForceKind, HeadKind, TargetReduction
from jmp_train.config import Device, Precision
from jmp_train.data.source import SplitBy

SCRATCH = "scratch"
"""What stands for random weights."""
AUTO = "auto"
"""What stands for a choice that the data decide."""
NEW_HEAD = "new"
"""What stands for a random head."""
REFERENCES = ("auto", "least-squares", "isolated-atoms", "none", "head:NAME")
"""Where reference energies of the elements can come from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings:
    """Fine-tuning on user data; None leaves a choice to the number of systems."""

    data: tuple[Path, ...]
    """File or folder with labelled structures, anything that ASE reads; may be
    repeated."""
    out: Path
    """Folder of the run."""
    weights: str = "jmp-nano"
    """Name or file of the weights to start from, or scratch."""
    size: str = "nano"
    """Network of a run from scratch."""
    name: str | None = None
    """Name of the task and of the weights file; by default that of the data."""
    val: Path | None = None
    """File or folder that validates; by default a part of the data."""
    val_fraction: float | None = None
    """Part of the data that validates, where they do not say it themselves; by default
    0.2 of 100 systems to 0.01 of very many."""
    split_by: SplitBy = "structure"
    """What is not divided between parts: copies of a structure, 20 blocks of
    consecutive frames of each file (for trajectories, whose neighbouring frames are
    nearly copies), whole files, or groups that frames name."""
    test: Path | None = None
    """File or folder that is scored at the end; by default what the data call test."""
    energy_key: str | None = None
    """Name of the energy, eV."""
    forces_key: str | None = None
    """Name of the forces, eV/Å."""
    stress_key: str | None = None
    """Name of the stress (eV/Å³) or the virial (eV)."""
    level_of_theory: str | None = None
    """Method of the labels."""
    target: str | None = None
    """Label to predict instead of energy and forces, as NAME or NAME:UNIT."""
    kind: HeadKind = "scalar"
    """Kind of head for the target."""
    reduction: TargetReduction = "sum"
    """How the numbers of the atoms make the target: sum for an extensive one, else mean
    or max."""
    classes: tuple[str, ...] = ()
    """Name of a class of a multiclass target; repeated, in the order of the numbers."""
    head: str = AUTO
    """Head of the weights to go on with, or new; auto: the best of them, if it is
    better than half as wrong as zero forces."""
    references: str = AUTO
    """Where reference energies of the elements come from: auto, least-squares,
    isolated-atoms, none, or head:NAME for those of a head of the weights."""
    replay: tuple[str, ...] = ()
    """Pre-training task to train on as well, so that it is not forgotten, as
    STORES:TASK; may be repeated."""
    frozen: tuple[str, ...] = ()
    """Part that does not change: backbone, embedding, bases, block.K, output.K, heads,
    or a pattern of parameter names with *; may be repeated."""
    has_layer_rates: bool = True
    """Lower rates for embedding and interaction blocks (published: yes)."""
    forces: ForceKind = "gradient"
    """Kind of forces."""
    epochs: int | None = None
    """Passes over the data."""
    max_steps: int | None = None
    """Optimizer steps."""
    max_minutes: float | None = None
    """Time for training; the schedule is fitted to it unless steps are given."""
    batch_systems: int | None = None
    """Systems of an optimizer step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    energy_weight: float | None = None
    """Factor of the energy term; by default 1."""
    force_weight: float | None = None
    """Factor of the force term; by default the mean number of atoms."""
    stress_weight: float | None = None
    """Factor of the stress term; by default 1 if there are labels."""
    ema_decay: float | None = 0.99
    """Decay of the moving average of the weights; 0: no average."""
    cutoff: float | None = None
    """Other cutoff than that of the weights, Å."""
    max_neighbors: int | None = None
    """Other neighbor setting than that of the weights (published rules)."""
    precision: Precision = "float32"
    """Arithmetic."""
    device: Device = "auto"
    """Where to train."""
    seed: int = 0
    """Seed of new weights and of the order of the systems."""
    workers: int = 0
    """Processes that read and build graphs."""

    def __post_init__(self) -> None:
        """Check what can be checked before any file is opened."""
        _check_counts(self)
        if not self.data:
            raise ArgumentError("there are no data; give at least one file or folder")
        if self.size not in SIZES:
            raise ArgumentError(
                f"unknown size {self.size!r}; choose from {', '.join(SIZES)}"
                + did_you_mean(self.size, SIZES)
            )
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise ArgumentError(
                f"the fraction that validates is {self.val_fraction}; it must be above "
                "0 and below 1"
            )
        if self.val is not None and self.val_fraction is not None:
            raise ArgumentError(
                "give either a file that validates or a fraction, not both"
            )
        self._check_references()
        if self.target is not None and self.kind == "energy_forces":
            raise ArgumentError(
                f"a head of energy and forces does not predict {self.target!r}; give "
                "the kind scalar, spatial_extent, binary or multiclass"
            )
        if self.weights == SCRATCH and (self.frozen or self.replay):
            raise ArgumentError(
                "a run from scratch has nothing to freeze or to replay; start from "
                "trained weights"
            )
        if self.weights == SCRATCH and self.head not in (AUTO, NEW_HEAD):
            raise ArgumentError(
                f"a run from scratch has no head {self.head!r} to keep; start from "
                "trained weights"
            )

    def _check_references(self) -> None:
        word = self.references
        if word not in REFERENCES[:-1] and not word.startswith("head:"):
            raise ArgumentError(
                f"unknown references {word!r}; choose from {', '.join(REFERENCES)}"
                + did_you_mean(word, REFERENCES)
            )

    @property
    def starts_from_weights(self) -> bool:
        """Whether there are trained weights to start from."""
        return self.weights != SCRATCH


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeSettings:
    """Fine-tuning on a published task; None leaves the value of the recipe."""

    recipe: str
    """Name of the recipe, such as ``rmd17:aspirin``."""
    stores: Path
    """Folder of the stores."""
    out: Path
    """Folder of the run."""
    weights: str = "jmp-small"
    """Name or file of the weights to start from, or scratch."""
    values: str = "jmp-paper"
    """Which published values: jmp-paper (the list of all published runs) or
    jmp-preset."""
    fold: int = 0
    """Fold of MatBench."""
    size: str = "S"
    """Network of a run from scratch."""
    head: str = NEW_HEAD
    """Head of the weights to go on with; published: new."""
    frozen: tuple[str, ...] = ()
    """Parts that do not change; may be repeated."""
    has_layer_rates: bool = True
    """Lower rates for embedding and interaction blocks (published: yes)."""
    epochs: int | None = None
    """Passes over the data."""
    max_steps: int | None = None
    """Optimizer steps."""
    max_minutes: float | None = None
    """Time for training."""
    batch_systems: int | None = None
    """Systems of an optimizer step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights; published: no average."""
    cutoff: float | None = None
    """Other cutoff, Å."""
    max_neighbors: int | None = None
    """Other neighbor setting N."""
    precision: Precision | None = None
    """Arithmetic."""
    device: Device = "auto"
    """Where to train."""
    seed: int = 0
    """Seed of new weights and of the order of the systems."""
    workers: int = 0
    """Processes that read and build graphs."""

    def __post_init__(self) -> None:
        """Check what can be checked before the recipe is looked up."""
        _check_counts(self)


def _check_counts(settings: FinetuneSettings | RecipeSettings) -> None:
    """Refuse a length of zero, which must not mean that none was given."""
    for word, value in (
        ("epochs", settings.epochs),
        ("steps", settings.max_steps),
        ("batch", settings.batch_systems),
    ):
        if value is not None and value < 1:
            raise ArgumentError(
                f"--{word} is {value}; it must be at least 1 (leave it out for the "
                "default)"
            )
    if settings.learning_rate is not None and not settings.learning_rate > 0:
        raise ArgumentError(
            f"--lr is {settings.learning_rate}; it must be positive (leave it out for "
            "the default)"
        )
