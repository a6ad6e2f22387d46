"""Recipes: a training run is a function of its stores and folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.config import TrainConfig
from jmp_train.config_file import load_config
from jmp_train.recipes.nano import nano
from jmp_train.recipes.published import jmp_large, jmp_small
from jmp_train.recipes.smoke import smoke

RECIPES: dict[str, Callable[[Path, Path], TrainConfig]] = {
    "nano": nano,
    "smoke": smoke,
    "jmp-small": jmp_small,
    "jmp-large": jmp_large,
}
"""Recipes by name: functions of the folder of the stores and the folder of the run."""


def recipe_config(name: str, *, stores: Path | None, out: Path | None) -> TrainConfig:
    """Return the configuration of a recipe or of a YAML file.

    Args:
        name: Key of ``RECIPES``, or path of a YAML file with the fields of
            ``TrainConfig`` (it ends in .yml or .yaml).
        stores: Folder of the stores; None: as the file says.
        out: Folder of the run; None: as the file says.

    Raises:
        ArgumentError: If there is no such recipe or file, or a folder is not given.
    """
    path = Path(name)
    if path.suffix in {".yml", ".yaml"}:
        return _from_file(path, stores, out)
    if name not in RECIPES:
        raise ArgumentError(
            f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}, or give a "
            "YAML file" + did_you_mean(name, RECIPES)
        )
    if stores is None or out is None:
        raise ArgumentError(
            f"recipe {name!r} needs the folder of the stores (--stores) and a folder "
            "for the run (--out)"
        )
    return RECIPES[name](stores, out)


def _from_file(path: Path, stores: Path | None, out: Path | None) -> TrainConfig:
    if not path.is_file():
        raise ArgumentError(
            f"there is no file {path}; give a YAML file, or a recipe: "
            f"{', '.join(RECIPES)}"
        )
    config = load_config(path)
    if stores is not None:
        config = replace(config, data=replace(config.data, stores=stores))
    return config if out is None else replace(config, out=out)
