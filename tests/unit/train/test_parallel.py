"""Runs of several gloo processes against the same run in one.

Sums over systems are taken in another order, so weights differ by rounding: in float64
by about 1e-16 times the size of the terms at each step, and less than 1e-12 after the
five steps here. Adam divides gradients by their own size, which may enlarge the
rounding of a gradient that is nearly zero; hence the bound and not equality.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError
from jmp_train.checkpoint import AVERAGE, MODEL, OPTIMIZER, load_state
from jmp_train.checkpoint_folders import find_checkpoint
from jmp_train.devices import choose_device
from jmp_train.parallel import Group, start_group
from jmp_train.trainer import Trainer
from toys.parallel_runs import (
    RUNS,
    TARGET_RUNS,
    fail,
    resume,
    run_config,
    talk,
    train,
    write_target_stores,
)
from toys.processes import run_processes

BOUND = 1e-12


@cache
def state_of(run: Path) -> dict[str, Tensor]:
    return load_state(find_checkpoint(run))


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k] - other[k]).abs().max()) for k in one if one[k].numel())


@pytest.fixture(scope="module")
def alone(toy_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs in one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in RUNS[:3]:
        Trainer.build(run_config(name, toy_stores, folder / name)).run()
    return folder


@pytest.fixture(scope="module")
def two(toy_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same runs in two processes, and of what they told each other."""
    folder = tmp_path_factory.mktemp("two")
    run_processes(2, train, RUNS, toy_stores, folder, folder=folder)
    return folder


@pytest.mark.parametrize("name", RUNS[:3])
def test_two_processes_make_the_weights_of_one(alone, two, name) -> None:
    found, expected = state_of(two / name), state_of(alone / name)
    assert largest_difference(found, expected) < BOUND
    assert any(k.startswith(AVERAGE) for k in found)
    assert any(k.startswith(OPTIMIZER) for k in found)


def test_sharded_weights_are_those_of_ddp_and_of_one_process(alone, two) -> None:
    found = state_of(two / "sharded")
    assert largest_difference(found, state_of(two / "direct")) < BOUND
    assert largest_difference(found, state_of(alone / "direct")) < BOUND


def test_all_processes_resume_from_the_checkpoint_that_the_first_one_sees(
    toy_stores, tmp_path, alone
) -> None:
    run_processes(2, resume, toy_stores, tmp_path, folder=tmp_path)
    found, expected = state_of(tmp_path / "resumed"), state_of(alone / "gradient")
    assert largest_difference(found, expected) < BOUND


def test_sharded_weights_learn_targets_as_those_of_one_process_do(tmp_path) -> None:
    alone, sharded = TARGET_RUNS
    stores = write_target_stores(tmp_path / "stores")
    Trainer.build(run_config(alone, stores, tmp_path / alone)).run()
    run_processes(2, train, (sharded,), stores, tmp_path, folder=tmp_path)
    found, expected = state_of(tmp_path / sharded), state_of(tmp_path / alone)
    assert largest_difference(found, expected) < BOUND


def test_training_has_moved_the_weights_by_far_more_than_the_bound(
    toy_stores, tmp_path, alone
) -> None:
    start = Trainer.build(run_config("gradient", toy_stores, tmp_path)).model
    end = state_of(alone / "gradient")
    moved = {
        MODEL + name: (end[MODEL + name] - p).abs().max()
        for name, p in start.named_parameters()
    }
    assert min(moved.values()) > 1e-6


def test_processes_held_different_tasks_in_some_step(toy_stores, tmp_path) -> None:
    trainer = Trainer.build(run_config("gradient", toy_stores, tmp_path))
    steps = list(trainer.plan.epoch_steps(0))[:5]
    held = [
        [
            {trainer.dataset.task_of(sample) for n in share for sample in step[n]}
            for share in trainer.plan.shares(step, 2)
        ]
        for step in steps
    ]
    assert any(one != other for one, other in held)


def log_of(run: Path) -> list[dict]:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_loss_and_gradient_norm_of_sharded_weights_are_those_of_all_shards(two) -> None:
    found, expected = (
        [(r["loss"], r["gradient_norm"]) for r in log_of(run) if r["kind"] == "step"]
        for run in (two / "sharded", two / "direct")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_only_the_first_process_writes_the_log(two) -> None:
    kinds = [record["kind"] for record in log_of(two / "gradient")]
    assert kinds.count("start") == 1
    assert kinds.count("step") == 5


def test_validation_errors_are_those_of_one_process(alone, two) -> None:
    def errors(folder: Path) -> dict:
        text = (folder / "gradient" / "errors-test.json").read_text(encoding="utf-8")
        return json.loads(text)["tasks"]

    for task, found in errors(two).items():
        assert found == pytest.approx(errors(alone)[task], rel=1e-9)


@pytest.mark.slow
def test_four_processes_make_the_weights_of_one(toy_stores, tmp_path, alone) -> None:
    """One of them has no batch in any step."""
    names = ("gradient", "sharded")
    run_processes(4, train, names, toy_stores, tmp_path, folder=tmp_path)
    for name, same in zip(names, ("gradient", "direct"), strict=True):
        found = state_of(tmp_path / name)
        assert largest_difference(found, state_of(alone / same)) < BOUND


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two processes got from the group."""
    folder = tmp_path_factory.mktemp("talk")
    run_processes(2, talk, folder, folder=folder)
    return [json.loads((folder / f"talk-{rank}.json").read_text()) for rank in (0, 1)]


def test_processes_agree_on_numbers_flags_and_words(talks) -> None:
    for found in talks:
        assert found["any"] == [True, False]
        assert found["sum"] == [2.0, 1.0]
        assert found["smallest"] == 2.0
        assert found["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found["main"] == "from 0"


def test_when_one_process_fails_all_do_and_one_says_why(talks) -> None:
    assert talks[1]["failed"] == "DataError: a record is damaged"
    assert talks[0]["failed"] == "OtherProcessError: process 1 of the run has failed"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_run_that_fails_in_one_process_ends_in_all_and_one_says_why(
    toy_stores, tmp_path
) -> None:
    run_processes(2, fail, toy_stores, tmp_path, folder=tmp_path)
    first, second = (
        json.loads((tmp_path / f"fail-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert first["full"].startswith("StorageError: cannot write to")
    assert second["full"] == "OtherProcessError: process 0 of the run has failed"
    assert first["damaged"] == "OtherProcessError: process 1 of the run has failed"
    assert second["damaged"] == "DataError: sample 1 is damaged"


def test_without_torchrun_a_process_is_alone(monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with start_group("cpu") as group:
        assert group == Group.single()
        assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_process_that_wants_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ArgumentError, match="has no GPU; choose cpu or auto"):
        choose_device("cuda", local_rank=1)
