"""QM9: twelve properties of small molecules, one model for each."""

from __future__ import annotations

from jmp_train.config import TaskConfig, TaskScales
from jmp_train.data.published import QM9
from jmp_train.recipes.finetune.recipe import (
    LEARNING_RATES,
    FinetuneRecipe,
    RecipeValues,
    published_graph,
)

TARGETS = tuple(name for name, target in QM9.items() if target.is_task)
"""The twelve published targets."""
SPATIAL_EXTENT = "R_2_Abs"
"""Target with a head of its own, which the list of all runs does not normalise."""


def recipe(target: str, values: RecipeValues) -> FinetuneRecipe:
    """Return the recipe of one target.

    Scales and references are those of the training part, which the published constants
    are roundings of.

    Args:
        target: One of ``TARGETS``.
        values: Which published values.
    """
    is_extent = target == SPATIAL_EXTENT
    has_references = bool(QM9[target].references)
    scales = TaskScales(has_references=has_references)
    if is_extent and values == "jmp-paper":
        scales = TaskScales(target_shift=0.0, target_scale=1.0, has_references=False)
    return FinetuneRecipe(
        name=f"qm9:{target}",
        title=f"QM9, {target} ({QM9[target].unit})",
        task=TaskConfig(
            name=f"qm9-{target}",
            store="qm9",
            graph=published_graph(8.0, is_periodic=False),
            kind="spatial_extent" if is_extent else "scalar",
            forces=None,
            target=target,
            reduction="sum",
            scales=scales,
        ),
        monitor="target",
        batch_systems=48,
        precision="fp16",
        learning_rate=LEARNING_RATES[values],
    )
