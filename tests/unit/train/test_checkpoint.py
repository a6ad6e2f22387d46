from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_train.checkpoint import (
    Checkpoint,
    Position,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from jmp_train.normalize import TaskStatistics
from toys.training import toy_config


@pytest.fixture
def checkpoint() -> Checkpoint:
    statistics = TaskStatistics(
        references={1: -13.0},
        energy_std=1.0,
        force_rms=2.0,
        mean_atoms=3.0,
        n_systems=4,
        n_atoms=12,
        elements=(1,),
    )
    return Checkpoint(
        config=toy_config(Path("stores"), Path("out")),
        statistics={"qm7x": statistics},
        fingerprints={"qm7x": "abc"},
        position=Position(step=3, epoch=1, place=2, seconds=0.5, seen=(7, 8)),
        model={"w": torch.arange(6.0).reshape(2, 3)},
        average={"w": torch.ones(2, 3)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []},
    )


def test_everything_comes_back(checkpoint, tmp_path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.pt")
    found = load_checkpoint(tmp_path / "a.pt")
    for name in ("config", "statistics", "fingerprints", "position", "optimizer"):
        assert getattr(found, name) == getattr(checkpoint, name)
    torch.testing.assert_close(found.model, checkpoint.model, rtol=0, atol=0)
    torch.testing.assert_close(found.average, checkpoint.average, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_run_without_average_has_none(checkpoint, tmp_path) -> None:
    save_checkpoint(replace(checkpoint, average=None), tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").average is None


def test_an_error_while_saving_keeps_the_old_file(
    checkpoint, tmp_path, monkeypatch
) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(checkpoint, path)

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(replace(checkpoint, position=Position()), path)
    assert load_checkpoint(path).position.step == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_checkpoint_is_an_error(tmp_path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no checkpoint .*a\.pt; start the run wi"
    ):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.95])
def test_a_cut_off_checkpoint_is_an_error(checkpoint, tmp_path, fraction) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(checkpoint, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, 2))]
)
def test_code_in_a_checkpoint_is_not_run(tmp_path, save) -> None:
    path = tmp_path / "a.pt"
    save({"format": Bomb(tmp_path / "exploded")}, path)
    with pytest.raises(CheckpointError, match="was not written by jmp-train"):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2]])
def test_a_foreign_file_is_an_error(tmp_path, content) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of jmp-train"):
        load_checkpoint(tmp_path / "a.pt")


def test_another_version_is_an_error(checkpoint, tmp_path) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True) | {"version": 9}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"has version 9 .* reads 1"):
        load_checkpoint(tmp_path / "a.pt")


def test_the_same_run_may_move_and_use_other_hardware(checkpoint) -> None:
    config = replace(checkpoint.config, out=Path("moved"), device="auto")
    check_same_run(checkpoint, config, {"qm7x": "abc"})


def test_other_settings_and_other_samples_are_listed(checkpoint) -> None:
    config = replace(checkpoint.config, seed=5)
    message = r"seed was 0 and is 5; the store of qm7x has other samples; 2 in all"
    with pytest.raises(ArgumentError, match=message):
        check_same_run(checkpoint, config, {"qm7x": "xyz"})
