"""The 40 published tasks against the tables of the specification, section 3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import S
from jmp_train.config import TrainConfig
from jmp_train.config_file import from_plain, to_plain
from jmp_train.recipes.finetune import EXTRA, FINETUNE, finetune_recipe

VALUES = ("jmp-paper", "jmp-preset")


def config_of(name: str, **options: object) -> TrainConfig:
    recipe = finetune_recipe(name, **options)
    return recipe.config(stores=Path("stores"), out=Path("run"), model=S)


def test_there_are_forty_published_tasks_and_one_more() -> None:
    families = [name.partition(":")[0] for name in FINETUNE if name not in EXTRA]
    counts = {family: families.count(family) for family in dict.fromkeys(families)}
    assert counts == {
        "qm9": 12,
        "rmd17": 10,
        "md22": 7,
        "spice": 2,
        "matbench": 8,
        "qmof": 1,
    }
    assert sum(counts.values()) == 40


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("name", FINETUNE)
def test_every_recipe_is_a_configuration_that_a_file_can_hold(name, values) -> None:
    config = config_of(name, values=values)
    assert from_plain(TrainConfig, to_plain(config)) == config


@pytest.mark.parametrize("fold", range(5))
def test_each_fold_of_matbench_has_its_own_store(fold) -> None:
    (task,) = config_of("matbench:phonons", fold=fold).data.tasks
    assert task.name == f"matbench-phonons-fold{fold}"


@pytest.mark.parametrize(
    ("name", "cutoff", "neighbors", "is_periodic"),
    [
        ("qm9:U_0", 8.0, 30, False),
        ("rmd17:aspirin", 7.0, 100, False),
        ("md22:DHA", 12.0, 30, False),
        ("spice:dipeptides", 12.0, 30, False),
        ("matbench:jdft2d", 12.0, 30, True),
        ("qmof", 19.0, 30, True),
    ],
)
def test_graphs_are_those_of_the_table(name, cutoff, neighbors, is_periodic) -> None:
    (task,) = config_of(name).data.tasks
    graph = task.graph
    assert (graph.cutoff, graph.max_neighbors, graph.is_periodic) == (
        cutoff,
        neighbors,
        is_periodic,
    )
    assert (graph.rules, graph.radial_cutoff, graph.quadruplet_tags) == (
        "published",
        12.0,
        (1, 2),
    )


@pytest.mark.parametrize(
    ("name", "values", "by_size"),
    [
        ("matbench:phonons", "jmp-paper", ((200, 10), (300, 5))),
        ("matbench:phonons", "jmp-preset", ()),
        ("qmof", "jmp-paper", ((200, 10), (300, 5))),
        ("qmof", "jmp-preset", ((200, 10), (300, 5))),
        ("qm9:mu", "jmp-paper", ()),
    ],
)
def test_large_crystals_have_fewer_neighbors(name, values, by_size) -> None:
    (task,) = config_of(name, values=values).data.tasks
    assert task.graph.max_neighbors_by_size == by_size


@pytest.mark.parametrize(
    ("name", "paper", "preset"),
    [
        ("qm9:U_0", (48, "fp16"), (48, "fp16")),
        ("rmd17:ethanol", (1, "float32"), (4, "float32")),
        ("md22:Ac-Ala3-NHMe", (2, "fp16"), (4, "fp16")),
        ("md22:DHA", (1, "float32"), (4, "fp16")),
        ("md22:stachyose", (1, "fp16"), (4, "fp16")),
        ("spice:solvated-amino-acids", (2, "fp16"), (1, "fp16")),
        ("matbench:jdft2d", (3, "float32"), (3, "float32")),
        ("matbench:mp_gap", (2, "float32"), (2, "float32")),
        ("matbench:mp_e_form", (6, "fp16"), (6, "fp16")),
        ("matbench:mp_is_metal", (3, "float32"), (3, "float32")),
        ("qmof", (4, "fp16"), (4, "fp16")),
    ],
)
def test_batches_and_precision_are_those_of_the_tables(name, paper, preset) -> None:
    found = []
    for values in VALUES:
        config = config_of(name, values=values)
        found.append((config.data.batch_systems, config.precision))
    assert found == [paper, preset]


@pytest.mark.parametrize(
    ("name", "paper", "preset"),
    [
        ("Ac-Ala3-NHMe", "direct", "gradient"),
        ("double-walled_nanotube", "direct", "gradient"),
        ("DHA", "gradient", "gradient"),
        ("buckyball-catcher", "gradient", "gradient"),
    ],
)
def test_two_published_runs_of_md22_have_direct_forces(name, paper, preset) -> None:
    configs = [config_of(f"md22:{name}", values=values) for values in VALUES]
    assert [config.forces for config in configs] == [paper, preset]
    assert [config.model.has_direct_forces for config in configs] == [
        force == "direct" for force in (paper, preset)
    ]


@pytest.mark.parametrize(
    ("name", "weight"), [("rmd17:uracil", 10.0), ("md22:DHA", 100.0)]
)
def test_trajectories_are_trained_on_forces_alone(name, weight) -> None:
    config = config_of(name)
    (task,) = config.data.tasks
    assert (task.energy_weight, task.force_weight) == (0.0, weight)
    assert not task.has_energy_bias
    assert config.reduction == "atom"
    assert config.stopping is not None
    assert config.stopping.monitor == "forces"


@pytest.mark.parametrize(
    ("name", "kind", "reduction"),
    [
        ("qm9:U_0", "scalar", "sum"),
        ("qm9:R_2_Abs", "spatial_extent", "sum"),
        ("matbench:log_gvrh", "scalar", "mean"),
        ("matbench:phonons", "scalar", "max"),
        ("matbench:mp_is_metal", "multiclass", "sum"),
        ("qmof", "scalar", "mean"),
    ],
)
def test_heads_of_properties_are_those_of_the_tables(name, kind, reduction) -> None:
    (task,) = config_of(name).data.tasks
    assert (task.kind, task.reduction, task.forces) == (kind, reduction, None)


@pytest.mark.parametrize("name", ["matbench:phonons", "qmof"])
def test_the_presets_reduce_two_properties_in_another_way(name) -> None:
    (task,) = config_of(name, values="jmp-preset").data.tasks
    assert task.reduction == {"matbench:phonons": "mean", "qmof": "sum"}[name]


def test_the_classes_have_weights_and_dropout() -> None:
    (task,) = config_of("matbench:mp_is_metal").data.tasks
    assert (task.class_weights, task.head_dropout) == ((1.0, 1.34219693), 0.5)


@pytest.mark.parametrize(
    ("target", "has_references"),
    [("ZPVE", True), ("U_0", True), ("c_v", True), ("mu", False), ("alpha", False)],
)
def test_only_extensive_targets_of_qm9_have_references(target, has_references) -> None:
    (task,) = config_of(f"qm9:{target}").data.tasks
    assert task.store == "qm9"
    assert task.scales is not None
    assert task.scales.has_references is has_references


def test_the_spatial_extent_is_not_normalised_in_the_list_of_all_runs() -> None:
    scales = config_of("qm9:R_2_Abs").data.tasks[0].scales
    assert scales is not None
    assert (scales.target_shift, scales.target_scale) == (0.0, 1.0)
    preset = config_of("qm9:R_2_Abs", values="jmp-preset").data.tasks[0].scales
    assert preset is not None
    assert preset.target_scale is None


@pytest.mark.parametrize(("values", "rate"), [(VALUES[0], 8e-5), (VALUES[1], 5e-6)])
def test_the_two_sets_of_values_differ_in_the_rate(values, rate) -> None:
    assert config_of("qm9:U_0", values=values).optim.learning_rate == rate


def test_the_optimizer_clips_by_value_and_takes_no_average() -> None:
    optim = config_of("qm9:U_0").optim
    assert (optim.clip_value, optim.clip_norm, optim.ema_decay) == (1.0, None, None)
    assert (optim.betas, optim.eps, optim.weight_decay) == ((0.9, 0.95), 1e-8, 0.1)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("qm9:U_0", "jmp-paper", (500, 3, 50, 1e-8)),
        ("rmd17:toluene", "jmp-paper", (100_000, 10, 1000, 1e-10)),
        ("rmd17:toluene", "jmp-preset", (100_000, 25, 1000, 1e-10)),
    ],
)
def test_length_and_patience_are_those_of_the_specification(
    name, values, expected
) -> None:
    config = config_of(name, values=values)
    assert config.plateau is not None
    assert config.stopping is not None
    assert expected == (
        config.epochs,
        config.plateau.patience,
        config.stopping.patience,
        config.stopping.min_learning_rate,
    )
    assert config.evaluate_every is None


def test_the_schedule_is_warm_up_cosine_and_plateau() -> None:
    plateau = config_of("qm9:U_0").plateau
    assert plateau is not None
    assert replace(plateau, patience=0) == type(plateau)(
        warmup_epochs=5.0,
        warmup_start=0.1,
        cosine_epochs=32.0,
        final=0.1,
        factor=0.8,
        patience=0,
        threshold=1e-4,
        eps=1e-8,
    )


def test_an_unknown_recipe_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ArgumentError,
        match=r"unknown recipe 'rmd17:asprin'; .* did you mean 'rmd17:aspirin'",
    ):
        finetune_recipe("rmd17:asprin")


def test_unknown_values_are_an_error() -> None:
    with pytest.raises(
        ArgumentError, match=r"values 'paper'; choose from jmp-paper, jmp-preset"
    ):
        finetune_recipe("qmof", values="paper")


def test_a_fold_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"fold is 5; MatBench has the folds 0 to"):
        finetune_recipe("matbench:phonons", fold=5)
    with pytest.raises(ArgumentError, match=r"fold is 1, but qmof has none"):
        finetune_recipe("qmof", fold=1)
