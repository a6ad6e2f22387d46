"""From a published recipe and weights to the configuration of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.config import S
from jmp_train.data.store import store_path
from jmp_train.finetune.recipeplan import feasible, plan_recipe_run
from jmp_train.finetune.settings import RecipeSettings
from toys.finetuning import toy_weights
from toys.training import RULES


def recipe_settings(stores: Path, **changes: object) -> RecipeSettings:
    return RecipeSettings(
        **{
            "recipe": "rmd17:ethanol",
            "stores": stores,
            "out": Path("run"),
            "weights": "toy.safetensors",
            "device": "cpu",
            **changes,
        }
    )


@pytest.fixture
def recipe_stores(tmp_path, toy_stores) -> Path:
    """Toy molecules under the name of the stores of a recipe."""
    for split in ("train", "val", "test"):
        store_path(tmp_path, "rmd17-ethanol", split).symlink_to(
            store_path(toy_stores, "qm7x", split)
        )
    return tmp_path


def test_a_recipe_takes_graphs_and_shape_from_our_weights(recipe_stores) -> None:
    config = plan_recipe_run(recipe_settings(recipe_stores), toy_weights())
    assert config.data.tasks[0].graph == RULES
    assert config.model == toy_weights().config
    assert config.start is not None
    assert config.start.heads == ()
    assert config.optim.learning_rate == 8e-5


def test_a_recipe_from_scratch_keeps_its_cutoff(recipe_stores) -> None:
    settings = recipe_settings(recipe_stores, weights="scratch")
    config = plan_recipe_run(settings, None)
    graph = config.data.tasks[0].graph
    assert (graph.cutoff, graph.max_neighbors) == (7.0, 100)
    assert config.model == S


def test_a_recipe_can_be_changed_where_the_user_says_so(recipe_stores) -> None:
    settings = recipe_settings(
        recipe_stores,
        values="jmp-preset",
        learning_rate=1e-4,
        max_steps=5,
        batch_systems=2,
        cutoff=2.0,
        has_layer_rates=False,
        frozen=("embedding",),
    )
    config = plan_recipe_run(settings, toy_weights())
    assert (config.optim.learning_rate, config.max_steps) == (1e-4, 5)
    assert config.data.batch_systems == 2
    assert config.data.tasks[0].graph.cutoff == 2.0
    assert config.plateau is not None
    assert config.plateau.patience == 25
    assert config.start is not None
    assert (config.start.layer_rates, config.start.frozen) == ((), ("embedding",))


def test_stores_of_a_recipe_that_are_not_there_say_how_to_make_them(tmp_path) -> None:
    with pytest.raises(
        DataError, match=r"no store .*; make it with 'jmp-train data prepare rmd17 "
    ):
        plan_recipe_run(recipe_settings(tmp_path), toy_weights())


def test_from_scratch_there_is_nothing_to_freeze(recipe_stores) -> None:
    settings = recipe_settings(recipe_stores, weights="scratch", frozen=("backbone",))
    with pytest.raises(ArgumentError, match=r"nothing to freeze and no head to keep"):
        plan_recipe_run(settings, None)


def test_an_unknown_size_is_an_error(recipe_stores) -> None:
    settings = recipe_settings(recipe_stores, size="M", weights="scratch")
    with pytest.raises(ArgumentError, match=r"unknown size 'M'; choose from nano"):
        plan_recipe_run(settings, None)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_half_precision_becomes_single_on_the_cpu(precision, expected) -> None:
    assert feasible(precision, "cpu") == expected
