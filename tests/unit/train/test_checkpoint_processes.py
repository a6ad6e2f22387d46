"""Checkpoints of several processes; gloo on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jmp_train.checkpoint import Checkpointer, load_state, read_facts
from jmp_train.checkpoint_folders import latest
from toys.processes import run_processes
from toys.shards import load_cut, save_cut, save_load_and_fail, whole_tensors


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what two processes saved, loaded and heard."""
    folder = tmp_path_factory.mktemp("processes")
    checkpointer = Checkpointer(folder / "alone", keep=1)
    checkpointer.save(1, {"rank": "alone"}, whole_tensors())
    checkpointer.wait()
    run_processes(
        2,
        save_load_and_fail,
        folder / "saved",
        folder / "alone",
        folder,
        folder=folder,
    )
    return folder


def test_shards_of_two_processes_are_read_whole_by_one(results) -> None:
    state = load_state(results / "saved" / "step-00000001")
    torch.testing.assert_close(state, whole_tensors(), rtol=0, atol=0)


def test_replicated_tensors_are_shared_out_and_each_is_written_once(results) -> None:
    folder = results / "saved" / "step-00000001"
    files = [(folder / f"__{rank}_0.distcp").read_bytes() for rank in range(2)]
    written = [
        [file.count(whole_tensors()[name].numpy().tobytes()) for file in files]
        for name in ("replicated", "replicated too")
    ]
    assert written == [[1, 0], [0, 1]]


def test_the_facts_are_those_of_the_first_process(results) -> None:
    assert read_facts(results / "saved" / "step-00000001") == {"rank": 0}


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_cut_the_checkpoint_of_one_into_shards(results, rank) -> None:
    found = json.loads((results / f"loaded-{rank}.json").read_text())
    assert found["right"] == dict.fromkeys(whole_tensors(), True)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_hear_which_one_could_not_write(results, rank) -> None:
    heard = json.loads((results / f"heard-{rank}.json").read_text())
    assert heard.startswith("the checkpoint of step 2 could not be written")
    assert "process 1: [Errno 27] File too large" in heard


def test_after_a_failure_the_next_checkpoint_is_written(results) -> None:
    folder = results / "failing"
    assert [path.name for path in folder.iterdir()] == ["step-00000003"]
    assert latest(folder) == folder / "step-00000003"


@pytest.mark.slow
def test_four_processes_save_and_three_load(tmp_path) -> None:
    run_processes(4, save_cut, tmp_path / "saved", folder=tmp_path)
    run_processes(3, load_cut, tmp_path / "saved", tmp_path, folder=tmp_path)
    for rank in range(3):
        found = json.loads((tmp_path / f"loaded-{rank}.json").read_text())
        assert found["right"] == dict.fromkeys(whole_tensors(), True)
