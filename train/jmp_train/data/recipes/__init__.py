"""Recipes: how sets of made data come about, from a list of molecules and a seed."""

from __future__ import annotations

from jmp_train.data.recipes import xtb
from jmp_train.data.recipes.steps import DataRecipe

DATA_RECIPES: dict[str, DataRecipe] = {"xtb": xtb.RECIPE}
"""Recipes by name."""
