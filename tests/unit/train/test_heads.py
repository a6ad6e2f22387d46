from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jmp_calc.errors import DataError
from jmp_calc.models.config import HeadSpec
from jmp_train.config import TaskConfig, TaskScales
from jmp_train.heads import build_head, build_model
from jmp_train.normalize import TargetStatistics, TaskStatistics
from toys.training import RULES, toy_config

STATISTICS = TaskStatistics(
    references={1: -13.0, 8: -2040.0},
    energy_std=3.0,
    force_rms=1.5,
    mean_atoms=3.0,
    n_systems=2,
    n_atoms=6,
    elements=(1, 8),
    targets={
        "gap": TargetStatistics(
            n=2,
            mean=7.0,
            std=2.0,
            references={1: 0.5, 8: 1.5},
            referenced_mean=0.25,
            referenced_std=0.125,
        )
    },
)
HEADER: dict[str, Any] = {
    "task": "toy",
    "domain": "bulk",
    "level_of_theory": "PBE",
    "licence": "CC0-1.0",
    "coverage": "a few crystals",
    "is_default": True,
    "units": {"energy": "eV", "targets": {"gap": "eV"}},
    "statistics": STATISTICS.to_json(),
}
BOTH = {"qm7x": HEADER, "pbe": HEADER}


def head(**settings: Any) -> HeadSpec:
    return build_head(TaskConfig(name="toy", graph=RULES, **settings), HEADER)


def scalar(**settings: Any) -> HeadSpec:
    return head(**{"kind": "scalar", "forces": None, "target": "gap", **settings})


def test_gradient_forces_and_energy_share_the_force_scale() -> None:
    found = head()
    assert (found.energy_scale, found.forces) == (1.5, "gradient")
    assert not found.has_direct_forces
    assert found.energy_shift == 0


def test_a_direct_head_has_a_scale_for_either() -> None:
    found = head(forces="direct")
    assert (found.energy_scale, found.force_scale) == (3.0, 1.5)
    assert found.has_direct_forces


def test_energies_without_forces_have_the_scale_of_energies() -> None:
    found = head(forces=None)
    assert (found.energy_scale, found.forces) == (3.0, None)


def test_a_head_carries_what_the_header_says() -> None:
    found = head()
    assert found.references == STATISTICS.references
    assert (found.elements, found.graph) == ((1, 8), RULES)
    assert (found.level_of_theory, found.domain) == ("PBE", "bulk")
    assert (found.licence, found.coverage) == ("CC0-1.0", "a few crystals")
    assert found.is_default


def test_stated_scales_replace_those_measured() -> None:
    scales = TaskScales(energy_scale=2.0, force_scale=3.0, references=((1, -1.0),))
    found = head(forces="direct", scales=scales)
    assert (found.energy_scale, found.force_scale) == (2.0, 3.0)
    assert found.references == {1: -1.0}


@pytest.mark.parametrize("is_absent", [True, False])
def test_without_references_energies_are_relative(is_absent) -> None:
    if is_absent:  # a set of forces alone
        bare = replace(STATISTICS, references={}, energy_std=0.0).to_json()
        task = TaskConfig(name="toy", graph=RULES)
        found = build_head(task, {**HEADER, "statistics": bare})
    else:
        found = head(scales=TaskScales(has_references=False))
    assert found.references is None


def test_a_sum_over_atoms_has_references_of_the_elements() -> None:
    target = scalar().target
    assert target.references == {1: 0.5, 8: 1.5}
    assert (target.shift, target.scale) == (0.25, 0.125)
    assert (target.name, target.unit) == ("gap", "eV")
    assert scalar().references is None


@pytest.mark.parametrize(
    "settings",
    [
        {"reduction": "mean"},
        {"reduction": "max"},
        {"scales": TaskScales(has_references=False)},
    ],
)
def test_other_targets_are_normalised_as_they_are(settings) -> None:
    target = scalar(**settings).target
    assert target.references is None
    assert (target.shift, target.scale) == (7.0, 2.0)


def test_a_spatial_extent_is_not_shifted() -> None:
    target = scalar(kind="spatial_extent").target
    assert (target.shift, target.scale, target.references) == (0.0, 2.0, None)


def test_stated_scales_of_a_target_replace_those_measured() -> None:
    scales = TaskScales(target_shift=1.0, target_scale=4.0)
    target = scalar(scales=scales).target
    assert (target.shift, target.scale) == (1.0, 4.0)


def test_classes_have_neither_scale_nor_unit() -> None:
    target = scalar(kind="multiclass", classes=("a", "b"), head_dropout=0.1).target
    assert (target.shift, target.scale, target.unit) == (0.0, 1.0, "")
    assert (target.classes, target.dropout) == (("a", "b"), 0.1)


@pytest.mark.parametrize("name", ["band_gap", None])
def test_a_target_that_the_store_lacks_is_an_error_that_lists_those_there(name) -> None:
    with pytest.raises(
        DataError, match=f"'toy' predicts the target {name!r}.*; it has gap"
    ):
        scalar(target=name)


def test_weights_follow_from_the_seed() -> None:
    config = toy_config(Path("stores"), Path("out"))
    one, same = (build_model(config, BOTH) for _ in range(2))
    other = build_model(replace(config, seed=1), BOTH)
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
    assert list(one.heads) == ["qm7x", "pbe"]
    assert one.info["name"] == "toy"


def test_the_random_state_of_the_process_stays_as_it_was() -> None:
    before = torch.get_rng_state()
    build_model(toy_config(Path("stores"), Path("out")), BOTH)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("float32", torch.float32),
        ("float64", torch.float64),
        ("bf16", torch.float32),
        ("fp16", torch.float32),
    ],
)
def test_weights_have_32_bits_at_least(precision, dtype) -> None:
    config = toy_config(Path("stores"), Path("out"), precision=precision)
    assert build_model(config, BOTH).dtype == dtype


def test_the_backbone_knows_how_many_edges_are_dropped() -> None:
    config = toy_config(Path("stores"), Path("out"))
    config = replace(config, data=replace(config.data, edge_dropout=0.1))
    assert build_model(config, BOTH).backbone.edge_dropout == 0.1
