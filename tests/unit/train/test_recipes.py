from __future__ import annotations

from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.config_file import save_config
from jmp_train.data.tasks import TASKS
from jmp_train.recipes import RECIPES, recipe_config
from toys.training import TOY_TASKS, toy_config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_configuration_in_the_folders_named(
    name, toy_stores, tmp_path
) -> None:
    config = recipe_config(name, stores=toy_stores, out=tmp_path / "run")
    assert config.data.stores == toy_stores
    assert config.out == tmp_path / "run"
    assert {task.name for task in config.data.tasks} <= TASKS.keys()


def test_the_smoke_run_takes_the_tasks_that_have_a_store(toy_stores, tmp_path) -> None:
    config = RECIPES["smoke"](toy_stores, tmp_path)
    assert [task.name for task in config.data.tasks] == list(TOY_TASKS)
    with pytest.raises(DataError, match=r"no stores in .*; make them with 'jmp-train"):
        RECIPES["smoke"](tmp_path, tmp_path)


def test_a_file_is_a_recipe_whose_folders_can_be_changed(tmp_path) -> None:
    config = toy_config(Path("stores"), Path("out"))
    save_config(config, tmp_path / "my.yml")
    name = str(tmp_path / "my.yml")
    assert recipe_config(name, stores=None, out=None) == config
    moved = recipe_config(name, stores=Path("a"), out=Path("b"))
    assert (moved.data.stores, moved.out) == (Path("a"), Path("b"))
    assert moved.optim == config.optim


def test_an_unknown_recipe_or_file_is_an_error() -> None:
    folders = {"stores": Path("a"), "out": Path("b")}
    with pytest.raises(
        ArgumentError, match=r"unknown recipe 'nan'.*did you mean 'nano'"
    ):
        recipe_config("nan", **folders)
    with pytest.raises(ArgumentError, match=r"no file absent\.yml; give a YAML file"):
        recipe_config("absent.yml", **folders)


def test_a_recipe_needs_its_folders() -> None:
    with pytest.raises(
        ArgumentError, match=r"needs the folder of the stores \(--data\)"
    ):
        recipe_config("nano", stores=None, out=Path("b"))
