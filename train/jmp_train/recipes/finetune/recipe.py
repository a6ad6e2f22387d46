"""What every fine-tuning recipe states, and its TrainConfig."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jmp_calc.models.config import GraphRules, ModelConfig
from jmp_train.config import (
    DataConfig,
    OptimConfig,
    PlateauConfig,
    Precision,
    StartConfig,
    StoppingConfig,
    TaskConfig,
    TrainConfig,
)

RecipeValues = Literal["jmp-paper", "jmp-preset"]
"""The published code states fine-tuning twice, and not alike: in the list of all
published runs, and in one packaged module per data set."""

LEARNING_RATES: dict[RecipeValues, float] = {"jmp-paper": 8e-5, "jmp-preset": 5e-6}
"""Peak learning rates (training specification, section 2.4)."""
PUBLISHED_MINUTES = 7 * 24 * 60.0
"""Longest published run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneRecipe:
    """One downstream task with its published values; the defaults are common ones.

    Source:
        Training specification, sections 2.3, 2.4 and 3.
    """

    name: str
    """What the command takes, such as ``rmd17:aspirin``."""
    title: str
    """For people."""
    task: TaskConfig
    """Store, graph rules for scratch and for published weights, head and losses."""
    monitor: str
    """Error that decides, see ``StoppingConfig.monitor``."""
    batch_systems: int
    """Systems of a batch."""
    precision: Precision
    """Arithmetic."""
    learning_rate: float
    """Peak rate of parameters with factor 1."""
    epochs: int = 500
    """Longest run."""
    plateau_patience: int = 3
    """Validations without improvement before the rate falls."""
    stopping_patience: int = 50
    """Validations without improvement before the run ends."""
    min_learning_rate: float = 1e-8
    """Rate below which the run ends."""
    plateau: PlateauConfig = field(default_factory=PlateauConfig)
    """The rest of the schedule."""

    def config(
        self,
        *,
        stores: Path,
        out: Path,
        model: ModelConfig,
        start: StartConfig | None = None,
        graph: GraphRules | None = None,
    ) -> TrainConfig:
        """Return the run.

        Args:
            stores: Folder of the stores.
            out: Folder of the run.
            model: Shape of the network.
            start: Weights to start from; None: random ones.
            graph: Graph rules instead of the recipe's; None: the recipe's.
        """
        task = self.task if graph is None else replace(self.task, graph=graph)
        is_direct = task.forces == "direct"
        return TrainConfig(
            name=task.name,
            data=DataConfig(
                stores=stores,
                tasks=(task,),
                temperature=1.0,
                batch_systems=self.batch_systems,
            ),
            model=replace(model, has_direct_forces=is_direct),
            optim=OptimConfig(
                learning_rate=self.learning_rate,
                clip_norm=None,
                clip_value=1.0,
                ema_decay=None,
            ),
            out=out,
            start=start,
            plateau=replace(self.plateau, patience=self.plateau_patience),
            stopping=StoppingConfig(
                monitor=self.monitor,
                patience=self.stopping_patience,
                min_learning_rate=self.min_learning_rate,
            ),
            reduction="atom",
            average="batches",
            epochs=self.epochs,
            max_minutes=PUBLISHED_MINUTES,
            precision=self.precision,
            evaluate_every=None,
        )


def published_graph(
    cutoff: float,
    *,
    is_periodic: bool,
    max_neighbors: int = 30,
    by_size: tuple[tuple[int, int], ...] = (),
) -> GraphRules:
    """Return graph rules of a published fine-tuning run.

    Args:
        cutoff: Of all four graphs, Å.
        is_periodic: Whether all directions are periodic; if not, none is.
        max_neighbors: Neighbor setting N.
        by_size: Pairs (n, N): N of systems with more than n atoms.
    """
    return GraphRules(
        rules="published",
        cutoff=cutoff,
        max_neighbors=max_neighbors,
        max_neighbors_by_size=by_size,
        is_periodic=is_periodic,
        radial_cutoff=12.0,
        quadruplet_tags=(1, 2),
    )


NEIGHBORS_BY_SIZE = ((200, 10), (300, 5))
"""Neighbor setting of large systems in MatBench and QMOF."""
