from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import StartConfig, TrainConfig
from jmp_train.groups import (
    BLOCK_FACTORS,
    frozen_names,
    layer_factors,
    layer_of,
    parameter_groups,
)
from jmp_train.recipes.smoke import TINY
from toys.training import RULES, toy_config


def model_of(num_blocks: int = 2) -> JMPModel:
    spec = HeadSpec(name="a", graph=RULES, forces="gradient")
    return JMPModel(replace(TINY, num_blocks=num_blocks), [spec])


def config_of(**start: object) -> TrainConfig:
    config = toy_config(Path("stores"), Path("out"))
    return replace(config, start=StartConfig(weights="jmp-nano", **start))


def test_six_blocks_have_the_published_factors() -> None:
    assert layer_factors(6) == (0.30, 0.55, 0.40, 0.30, 0.40, 0.55, 0.625)


def test_other_depths_interpolate_the_published_shape() -> None:
    """Four blocks stand at 0, 5/3, 10/3 and 5 on the scale of the six."""
    expected = (0.30, 0.55, 0.40 - 0.10 * 2 / 3, 0.40 + 0.15 / 3, 0.625)
    assert layer_factors(4) == pytest.approx(expected, abs=1e-6)


def test_two_blocks_have_the_first_and_the_last_factor() -> None:
    assert layer_factors(2) == (0.30, BLOCK_FACTORS[0], BLOCK_FACTORS[-1])


def test_a_single_block_stands_in_the_middle() -> None:
    assert layer_factors(1) == pytest.approx((0.30, 0.35))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("embedding.weight", "embedding"),
        ("backbone.blocks.0.dense_ca.weight", "block 0"),
        ("backbone.outputs.0.radial.weight", "block 0"),
        ("backbone.outputs.1.radial.weight", "block 0"),
        ("backbone.blocks.3.concat.weight", "block 3"),
        ("backbone.outputs.4.dense_in.weight", "block 3"),
        ("backbone.bases.mlp_rbf_h.weight", "rest"),
        ("backbone.edge_embedding.weight", "rest"),
        ("backbone.energy_mlp.0.weight", "rest"),
        ("head_layers.a.energy.0.weight", "rest"),
    ],
)
def test_parameters_belong_to_the_layer_of_the_specification(name, layer) -> None:
    assert layer_of(name) == layer


def test_groups_hold_every_parameter_once_with_the_factor_of_its_layer() -> None:
    model = model_of(2)
    groups = parameter_groups(model, config_of(layer_rates=layer_factors(2)))
    assert [(g.name, g.factor) for g in groups] == [
        ("embedding", 0.30),
        ("block 0", 0.55),
        ("block 1", 0.625),
        ("rest", 1.0),
    ]
    names = sorted(name for group in groups for name in group.names)
    assert names == sorted(name for name, _ in model.named_parameters())
    n_numbers = sum(p.numel() for p in model.parameters())
    assert sum(group.n_numbers for group in groups) == n_numbers


def test_a_run_from_scratch_has_one_group_in_the_order_of_the_model() -> None:
    model = model_of()
    (group,) = parameter_groups(model, toy_config(Path("stores"), Path("out")))
    assert (group.name, group.factor) == ("all", 1.0)
    assert list(group.names) == [name for name, _ in model.named_parameters()]


def test_frozen_parts_are_in_no_group_and_need_no_gradient() -> None:
    model = model_of()
    groups = parameter_groups(model, config_of(frozen=("backbone", "embedding")))
    assert [group.name for group in groups] == ["all"]
    assert all(name.startswith("head_layers.") for name in groups[0].names)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == set(groups[0].names)


def test_an_empty_group_is_left_out() -> None:
    groups = parameter_groups(
        model_of(), config_of(frozen=("embedding",), layer_rates=layer_factors(2))
    )
    assert [group.name for group in groups] == ["block 0", "block 1", "rest"]


def test_parameters_that_are_no_longer_frozen_learn_again() -> None:
    model = model_of()
    parameter_groups(model, config_of(frozen=("backbone",)))
    parameter_groups(model, config_of())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("word", "prefix"),
    [
        ("bases", "backbone.bases."),
        ("block.1", "backbone.blocks.1."),
        ("output.2", "backbone.outputs.2."),
        ("heads", "head_layers."),
        ("*.triplet.*", "backbone.blocks."),
    ],
)
def test_parts_and_patterns_freeze_what_they_name(word, prefix) -> None:
    model = model_of()
    found = frozen_names(model, (word,))
    assert found
    assert all(name.startswith(prefix) for name in found)


def test_block_1_is_not_block_10() -> None:
    found = frozen_names(model_of(11), ("block.1",))
    assert {name.split(".")[2] for name in found} == {"1"}


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"pattern '\*\.quartet\.\*' matches no"):
        frozen_names(model_of(), ("*.quartet.*",))


def test_an_unknown_part_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ArgumentError, match=r"'backbon' is no part .* did you mean 'backbone'"
    ):
        frozen_names(model_of(), ("backbon",))


def test_a_block_beyond_the_depth_is_an_error() -> None:
    with pytest.raises(
        ArgumentError, match=r"no block\.2; this network has block\.0 to block\.1"
    ):
        frozen_names(model_of(), ("block.2",))


def test_a_network_with_nothing_left_to_learn_is_an_error() -> None:
    frozen = ("backbone", "embedding", "heads")
    with pytest.raises(ArgumentError, match=r"everything is frozen.*freeze less than"):
        parameter_groups(model_of(), config_of(frozen=frozen))


def test_factors_that_do_not_go_with_the_depth_are_an_error() -> None:
    with pytest.raises(
        ArgumentError, match=r"has 7 factors; a network of 2 blocks needs 3"
    ):
        parameter_groups(model_of(2), config_of(layer_rates=layer_factors(6)))
