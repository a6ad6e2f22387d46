from __future__ import annotations

from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.config_file import save_config
from jmp_train.data.tasks import MADE_TASKS, TASKS
from jmp_train.recipes import RECIPES, recipe_config
from jmp_train.recipes.published import FORCE_WEIGHTS
from toys.training import TOY_TASKS, toy_config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_configuration_in_the_folders_named(
    name, toy_stores, tmp_path
) -> None:
    config = recipe_config(name, stores=toy_stores, out=tmp_path / "run")
    assert config.data.stores == toy_stores
    assert config.out == tmp_path / "run"
    known = MADE_TASKS.keys() | TASKS.keys() | FORCE_WEIGHTS.keys()
    assert {task.name for task in config.data.tasks} <= known


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
        ArgumentError, match=r"needs the folder of the stores \(--stores\)"
    ):
        recipe_config("nano", stores=None, out=Path("b"))


@pytest.mark.parametrize(
    ("name", "n_blocks", "width"), [("jmp-small", 4, 512), ("jmp-large", 6, 1024)]
)
def test_the_published_runs_have_the_published_settings(name, n_blocks, width) -> None:
    """Training specification, sections 1.1, 1.5 to 1.8."""
    config = RECIPES[name](Path("stores"), Path("out"))
    assert (config.model.num_blocks, config.model.emb_size_edge) == (n_blocks, width)
    assert config.forces == "direct"
    assert config.model.has_direct_forces
    optim, data = config.optim, config.data
    assert (optim.learning_rate, optim.betas, optim.weight_decay) == (
        3e-4,
        (0.9, 0.95),
        0.1,
    )
    assert (optim.warmup_steps, optim.warmup_start, optim.final) == (2000, 0.2, 0.1)
    assert (optim.clip_norm, optim.ema_decay, config.epochs) == (1.0, 0.99, 2)
    assert (data.batch_systems, data.batches_per_step) == (4, None)
    assert (data.edge_dropout, data.temperature) == (0.1, 2.0)
    assert [task.name for task in data.tasks] == [
        "oc20",
        "oc22",
        "ani1x",
        "transition1x",
    ]
    assert [task.force_weight for task in data.tasks] == [73, 80, 15, 14]
    assert [task.graph.cutoff for task in data.tasks] == [12, 12, 8, 8]
    for task in data.tasks:
        graph = task.graph
        assert (graph.rules, graph.max_neighbors) == ("published", 30)
        assert (graph.radial_cutoff, graph.quadruplet_tags) == (12.0, (1, 2))
    scales = config.task("oc22").scales
    assert scales.energy_scale == 25.229595396538468
    assert scales.force_scale == 0.25678861141204834
