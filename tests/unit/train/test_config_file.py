from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_train.config import (
    OptimConfig,
    PlateauConfig,
    StoppingConfig,
    TrainConfig,
)
from jmp_train.config_file import (
    config_hash,
    from_plain,
    load_config,
    result_settings,
    save_config,
    to_plain,
    with_settings,
)
from toys.training import toy_config


@pytest.fixture
def config() -> TrainConfig:
    return toy_config(Path("stores"), Path("out"))


def test_a_configuration_survives_its_file(config, tmp_path) -> None:
    data = replace(config.data, temperature=math.inf)
    optim = replace(config.optim, clip_norm=None, eps=1e-10)
    config = replace(config, data=data, optim=optim, name="ångström")
    save_config(config, tmp_path / "config.yml")
    assert load_config(tmp_path / "config.yml") == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rat": 1.0},
            r"unknown setting 'learning_rat' .*mean 'learning_rate'",
        ),
        (
            {"learning_rate": "fast"},
            "learning_rate is 'fast'; it must be of type float",
        ),
        ({"learning_rate": True}, "learning_rate is True; it must be of type float"),
        ({"warmup_steps": 1.5}, "warmup_steps is 1.5; it must be of type int"),
        ({"betas": 0.9}, "betas is 0.9; it must be a list"),
        ({"betas": [0.9]}, "betas has 1 items; it must have 2"),
        ([1], r"OptimConfig is \[1\]; it must be a mapping"),
    ],
)
def test_wrong_settings_are_named_with_what_is_allowed(given, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        from_plain(OptimConfig, given)


def test_numbers_may_be_written_as_people_write_them() -> None:
    """YAML 1.1 reads 3e-4, without a point, as text."""
    given = {"learning_rate": "3e-4", "weight_decay": 0, "clip_norm": None}
    optim = from_plain(OptimConfig, given)
    assert (optim.learning_rate, optim.weight_decay) == (3e-4, 0.0)
    assert optim.clip_norm is None


def test_a_word_that_is_not_among_the_choices_is_an_error(config) -> None:
    data = to_plain(config) | {"reduction": "structur"}
    message = "reduction is 'structur'; .*structure, atom.*did you mean 'structure'"
    with pytest.raises(ArgumentError, match=message):
        from_plain(TrainConfig, data)


def test_the_place_of_a_wrong_setting_is_told(config) -> None:
    data = to_plain(config)
    data["data"]["tasks"][1]["graph"]["cutof"] = 5.0
    with pytest.raises(ArgumentError, match=r"'cutof' in data\.tasks\[1\]\.graph"):
        from_plain(TrainConfig, data)


def test_a_missing_setting_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"TrainConfig is incomplete: .*'data'"):
        from_plain(TrainConfig, {"name": "a", "out": "b"})


def test_a_file_that_is_not_yaml_is_an_error(tmp_path) -> None:
    (tmp_path / "a.yml").write_text("a: [")
    with pytest.raises(ArgumentError, match=r"a\.yml is not a YAML file"):
        load_config(tmp_path / "a.yml")


def test_the_hash_ignores_what_cannot_change_the_weights(config) -> None:
    moved = replace(
        config,
        out=Path("elsewhere"),
        device="auto",
        log_every=7,
        max_minutes=3.0,
        data=replace(config.data, stores=Path("x"), workers=2, graph_cache=0),
    )
    assert config_hash(moved) == config_hash(config)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"max_steps": 5}, {"precision": "float64"}]
)
def test_the_hash_sees_what_changes_the_weights(config, change) -> None:
    assert config_hash(replace(config, **change)) != config_hash(config)


@pytest.mark.parametrize(
    "change", [{"plateau": PlateauConfig()}, {"stopping": StoppingConfig()}]
)
def test_validations_change_the_weights_only_where_something_depends_on_them(
    config, change
) -> None:
    other = replace(config, evaluate_every=7, evaluate_systems=3)
    assert config_hash(other) == config_hash(config)
    assert config_hash(replace(other, **change)) != config_hash(
        replace(config, **change)
    )


def test_settings_have_dotted_names(config) -> None:
    flat = result_settings(config)
    assert flat["data.tasks.1.name"] == "pbe"
    assert flat["optim.betas.1"] == 0.95
    assert "data.stores" not in flat


def test_settings_are_changed_by_dotted_names() -> None:
    config = toy_config(Path("stores"), Path("out"))
    found = with_settings(
        config,
        [
            "optim.learning_rate=1e-2",
            "data.tasks.pbe.force_weight=3",
            "data.tasks.0.scales.energy_scale=2.5",
            "max_minutes=null",
            "stopping.patience=7",
        ],
    )
    assert found.optim.learning_rate == 0.01
    assert found.task("pbe").force_weight == 3.0
    assert found.data.tasks[0].scales.energy_scale == 2.5
    assert found.stopping.patience == 7
    assert with_settings(config, []) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", r"'seed' is not KEY=VALUE, such as optim\.learning_rate=1e-3"),
        ("sead=1", r"unknown setting 'sead'.*did you mean 'seed'"),
        ("optin.eps=1", r"unknown setting 'optin'.*did you mean 'optim'"),
        ("seed=one", r"seed is 'one'; it must be of type int"),
        ("data.tasks.pbee.forces=direct", r"there is no 'pbee'.*did you mean 'pbe'"),
        ("seed.x=1", r"seed\.x is no setting: nothing is below 0"),
        ("seed=[1", r"the value of seed is not YAML"),
    ],
)
def test_wrong_changes_of_settings_are_errors(assignment, message) -> None:
    config = toy_config(Path("stores"), Path("out"))
    with pytest.raises(ArgumentError, match=message):
        with_settings(config, [assignment])
