"""The published fine-tuning tasks, 40 and one more, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast, get_args

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.data.published import MATBENCH, MD22, RMD17, SPICE
from jmp_train.recipes.finetune import materials, qm9, trajectories
from jmp_train.recipes.finetune.recipe import FinetuneRecipe as FinetuneRecipe
from jmp_train.recipes.finetune.recipe import RecipeValues as RecipeValues

FINETUNE: dict[str, Callable[..., FinetuneRecipe]] = {
    **{f"qm9:{name}": partial(qm9.recipe, name) for name in qm9.TARGETS},
    **{f"rmd17:{name}": partial(trajectories.rmd17, name) for name in RMD17},
    **{f"md22:{name}": partial(trajectories.md22, name) for name in MD22},
    **{f"spice:{name}": partial(trajectories.spice, name) for name in SPICE},
    **{f"matbench:{name}": partial(materials.matbench, name) for name in MATBENCH},
    "qmof": materials.qmof,
}
"""Recipes by name: functions of the published values, and for MatBench of the fold."""
EXTRA = (f"matbench:{materials.EXTRA_TASK}",)
"""Recipes beyond the 40 published tasks."""


def finetune_recipe(
    name: str, *, values: str = "jmp-paper", fold: int = 0
) -> FinetuneRecipe:
    """Return a recipe by name.

    Args:
        name: A key of ``FINETUNE``, such as ``rmd17:aspirin``.
        values: ``jmp-paper`` (the list of all published runs) or ``jmp-preset``.
        fold: Fold of MatBench.

    Raises:
        ArgumentError: If there is no such recipe, set of values or fold.
    """
    if name not in FINETUNE:
        raise ArgumentError(
            f"unknown recipe {name!r}; 'jmp-train finetune --list' shows all of "
            f"{len(FINETUNE)}" + did_you_mean(name, FINETUNE)
        )
    if values not in get_args(RecipeValues):
        raise ArgumentError(
            f"unknown recipe values {values!r}; choose from "
            f"{', '.join(get_args(RecipeValues))}"
            + did_you_mean(values, get_args(RecipeValues))
        )
    chosen = cast(RecipeValues, values)
    if name.startswith("matbench:"):
        return FINETUNE[name](chosen, fold=fold)
    if fold:
        raise ArgumentError(
            f"fold is {fold}, but {name} has none; only MatBench has folds"
        )
    return FINETUNE[name](chosen)
