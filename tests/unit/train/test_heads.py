from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import TaskConfig
from jmp_train.data.tasks import TASKS
from jmp_train.heads import build_head, build_model
from jmp_train.normalize import TaskStatistics
from toys.training import RULES, toy_config

STATISTICS = TaskStatistics(
    references={1: -13.0, 8: -2040.0},
    energy_std=3.0,
    force_rms=1.5,
    mean_atoms=3.0,
    n_systems=2,
    n_atoms=6,
    elements=(1, 8),
)
BOTH = {"qm7x": STATISTICS, "pbe": STATISTICS}


def test_gradient_forces_and_energy_share_the_force_scale() -> None:
    head = build_head(TaskConfig(name="qm7x", graph=RULES), STATISTICS)
    assert (head.energy_scale, head.forces) == (1.5, "gradient")
    assert not head.has_direct_forces
    assert head.energy_shift == 0


def test_a_direct_head_has_a_scale_for_either() -> None:
    task = TaskConfig(name="oc20", graph=RULES, forces="direct")
    head = build_head(task, STATISTICS)
    assert (head.energy_scale, head.force_scale) == (3.0, 1.5)
    assert head.has_direct_forces


def test_a_head_carries_references_elements_theory_and_licence() -> None:
    head = build_head(TaskConfig(name="pbe", graph=RULES), STATISTICS)
    assert head.references == STATISTICS.references
    assert head.elements == (1, 8)
    assert head.graph == RULES
    assert (head.level_of_theory, head.domain) == ("PBE, VASP", "bulk")
    assert head.licence == TASKS["pbe"].licence


def test_exactly_one_molecular_head_is_the_default() -> None:
    default = [task.name for task in TASKS.values() if task.is_default]
    assert default == ["qm7x"]


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"unknown task 'qm7'.*did you mean 'qm7x'"):
        build_head(TaskConfig(name="qm7", graph=RULES), STATISTICS)


def test_weights_follow_from_the_seed() -> None:
    config = toy_config(Path("stores"), Path("out"))
    one, same = (build_model(config, BOTH) for _ in range(2))
    other = build_model(replace(config, seed=1), BOTH)
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
    assert list(one.heads) == ["qm7x", "pbe"]
    assert one.info["name"] == "toy"


def test_precision_is_that_of_the_configuration() -> None:
    config = toy_config(Path("stores"), Path("out"), precision="float64")
    assert build_model(config, BOTH).dtype == torch.float64
    with pytest.raises(ArgumentError, match=r"'bf16' is not available.*float32, flo"):
        build_model(replace(config, precision="bf16"), BOTH)
