"""MatBench and QMOF: properties of crystals."""

from __future__ import annotations

from jmp_calc.errors import ArgumentError
from jmp_train.config import TaskConfig, TaskScales
from jmp_train.data.families.matbench import N_FOLDS
from jmp_train.data.families.qmof import TARGET
from jmp_train.data.published import MATBENCH
from jmp_train.recipes.finetune.recipe import (
    LEARNING_RATES,
    NEIGHBORS_BY_SIZE,
    FinetuneRecipe,
    RecipeValues,
    published_graph,
)

METAL_CLASSES = ("no metal", "metal")
"""Names of the classes of ``mp_is_metal``: the label is false or true."""
METAL_WEIGHTS = (1.0, 1.34219693)
"""Weights of the two classes of ``mp_is_metal``."""
EXTRA_TASK = "mp_is_metal"
"""MatBench task of the published code that is not in the paper."""


def matbench(task: str, values: RecipeValues, *, fold: int = 0) -> FinetuneRecipe:
    """Return the recipe of one task and fold of MatBench.

    Args:
        task: A key of ``published.MATBENCH``.
        values: Which published values; the presets have the reduction mean everywhere
            and no neighbor setting by size.
        fold: 0 to 4.

    Raises:
        ArgumentError: If there is no such fold.
    """
    if fold not in range(N_FOLDS):
        raise ArgumentError(
            f"fold is {fold}; MatBench has the folds 0 to {N_FOLDS - 1}"
        )
    published = MATBENCH[task]
    is_paper = values == "jmp-paper"
    is_class = task == EXTRA_TASK
    reduction = published.reduction
    if reduction == "max" and not is_paper:
        reduction = "mean"
    return FinetuneRecipe(
        name=f"matbench:{task}",
        title=f"MatBench, {task} ({published.unit}), fold {fold}",
        task=TaskConfig(
            name=f"matbench-{task}-fold{fold}",
            graph=published_graph(
                12.0, is_periodic=True, by_size=NEIGHBORS_BY_SIZE if is_paper else ()
            ),
            kind="multiclass" if is_class else "scalar",
            forces=None,
            target=published.column,
            reduction=reduction,
            classes=METAL_CLASSES if is_class else (),
            class_weights=METAL_WEIGHTS if is_class else (),
            head_dropout=0.5 if is_class else 0.0,
            scales=TaskScales(has_references=False),
        ),
        monitor="target",
        batch_systems=published.batch_systems,
        precision=published.precision,
        learning_rate=LEARNING_RATES[values],
    )


def qmof(values: RecipeValues) -> FinetuneRecipe:
    """Return the recipe of the band gap of metal-organic frameworks.

    Args:
        values: Which published values; the preset sums over atoms, which makes little
            sense for a gap.
    """
    return FinetuneRecipe(
        name="qmof",
        title="QMOF, band gap (eV)",
        task=TaskConfig(
            name="qmof",
            graph=published_graph(19.0, is_periodic=True, by_size=NEIGHBORS_BY_SIZE),
            kind="scalar",
            forces=None,
            target=TARGET,
            reduction="mean" if values == "jmp-paper" else "sum",
            scales=TaskScales(has_references=False),
        ),
        monitor="target",
        batch_systems=4,
        precision="fp16",
        learning_rate=LEARNING_RATES[values],
    )
