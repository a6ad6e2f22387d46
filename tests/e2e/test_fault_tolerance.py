"""Runs that are interrupted, killed and resumed, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jmp_train.checkpoint import load_state, read_facts
from jmp_train.checkpoint_folders import CHECKPOINTS, find_checkpoint, latest
from jmp_train.config import PlateauConfig, StoppingConfig, TrainConfig
from jmp_train.config_file import save_config
from jmp_train.progress import Watcher
from jmp_train.trainer import Trainer
from toys.training import toy_config

TESTS = Path(__file__).parents[1]
N_STEPS = 20
"""A second or more, of which the steps before the first checkpoint are a small part."""


def final_state(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything in the last checkpoint of a run but the time that it took."""
    checkpoint = find_checkpoint(run)
    facts = read_facts(checkpoint)
    del facts["position"]["seconds"], facts["config"]["out"]
    return load_state(checkpoint), facts


def assert_same_end(one: Path, other: Path) -> None:
    """Bit for bit: weights, average, moments, position, schedule, scales."""
    a, b = final_state(one), final_state(other)
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=0)
    assert a[1] == b[1]


# ---- in one process


def full_config(stores: Path, out: Path) -> TrainConfig:
    """A run with everything that has a state: average, plateau, stopping, scales."""
    config = toy_config(
        stores,
        out,
        max_steps=8,
        evaluate_every=2,
        precision="fp16",
        plateau=PlateauConfig(
            warmup_epochs=0.5, cosine_epochs=1.0, patience=0, threshold=10.0
        ),
        stopping=StoppingConfig(patience=None),
    )
    data = replace(config.data, batches_per_step=2, edge_dropout=0.2)
    return replace(config, data=data)


def stop_after(step: int) -> Watcher:
    """A watcher that asks to stop after a step, as Ctrl-C does."""
    reached: list[int] = []
    return Watcher(
        on_step=lambda now, _total, _result: reached.append(now),
        should_stop=lambda: reached[-1] >= step,
    )


@pytest.fixture(scope="module")
def whole(toy_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    Trainer.build(full_config(toy_stores, out)).run()
    return out


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(1, marks=pytest.mark.slow),
        3,
        pytest.param(5, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_undisturbed_one(
    toy_stores, tmp_path, whole, stop
) -> None:
    """In half precision, with dropout of edges; the stops lie in three epochs."""
    config = full_config(toy_stores, tmp_path / "run")
    assert Trainer.build(config).run(stop_after(stop)).step == stop
    Trainer.build(config, is_resumed=True).run()
    assert_same_end(config.out, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_run_may_be_resumed_with_other_workers_and_another_cache(
    toy_stores, tmp_path, whole
) -> None:
    config = full_config(toy_stores, tmp_path / "run")
    Trainer.build(config).run(stop_after(3))
    data = replace(config.data, workers=1, graph_cache=0)
    Trainer.build(replace(config, data=data), is_resumed=True).run()
    tensors, _ = final_state(config.out)
    torch.testing.assert_close(tensors, final_state(whole)[0], rtol=0, atol=0)


SAVER = """
import sys, torch
from pathlib import Path
from jmp_train.checkpoint import Checkpointer
checkpointer = Checkpointer(Path(sys.argv[1]), keep=2)
for step in range(1000):
    checkpointer.save(step, {"step": step}, {"x": torch.full((500_000,), float(step))})
"""


@contextmanager
def child(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that finds the packages and the toys; it does not outlive us."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds; fail if the process ends before."""
    while not condition():
        if process.poll() is not None:
            output, _ = process.communicate()
            pytest.fail(f"the process ended with {process.returncode}:\n{output}")
        time.sleep(0.002)


def test_a_kill_in_the_middle_of_saving_leaves_whole_checkpoints(tmp_path) -> None:
    folder = tmp_path / "checkpoints"

    def is_writing_a_later_one() -> bool:
        return latest(folder) is not None and any(folder.glob(".*.new/*.distcp"))

    with child("-c", SAVER, folder) as process:
        wait_for(is_writing_a_later_one, process)
        process.kill()
        process.wait()
    checkpoint = latest(folder)
    assert checkpoint is not None
    step = read_facts(checkpoint)["step"]
    assert (load_state(checkpoint)["x"] == step).all()


# ---- in two processes under torchrun


def torchrun(stores: Path, out: Path, *, n: int = 2) -> tuple[object, ...]:
    """Words of a command that trains in processes, which are started again twice.

    A step has two batches, one for each of two processes, and drops edges.
    """
    config = toy_config(stores, out, max_steps=N_STEPS, checkpoint_every=3)
    data = replace(config.data, batches_per_step=2, edge_dropout=0.2)
    recipe = out.with_suffix(".yml")
    save_config(replace(config, data=data), recipe)
    return (
        *("-m", "torch.distributed.run", "--standalone", "--max-restarts=2"),
        f"--nproc-per-node={n}",
        *("-m", "jmp_train", "pretrain", recipe, "--auto-resume"),
    )


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """Lines of the log of a run, as far as they are written."""
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [record for record in found if record["kind"] == kind]


def is_beyond(run: Path, step: int) -> bool:
    """Whether a run has made a step and has a checkpoint."""
    done = [record["step"] for record in records(run, "step")]
    return max(done, default=0) >= step and latest(run / CHECKPOINTS) is not None


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes that torchrun has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end and return what was printed."""
    output, _ = process.communicate(timeout=200)
    return output


@pytest.fixture(scope="module")
def undisturbed(toy_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two processes that nothing has disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with child(*torchrun(toy_stores, out)) as process:
        output = finish(process)
    assert process.returncode == 0, output
    return out


@pytest.mark.slow
def test_a_run_one_process_of_which_is_killed_ends_as_if_nothing_had_happened(
    toy_stores, tmp_path, undisturbed
) -> None:
    """torchrun starts both again; bit for bit."""
    out = tmp_path / "run"
    with child(*torchrun(toy_stores, out)) as process:
        wait_for(lambda: is_beyond(out, 5), process)
        os.kill(workers_of(process)[-1], signal.SIGKILL)
        output = finish(process)
    assert process.returncode == 0, output
    starts = [record["step"] for record in records(out, "start")]
    assert len(starts) == 2
    assert starts[1] >= 3
    assert_same_end(out, undisturbed)


@pytest.fixture(scope="module")
def preempted(toy_stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two processes that was told to end."""
    out = tmp_path_factory.mktemp("preempted") / "run"
    with child(*torchrun(toy_stores, out)) as process:
        wait_for(lambda: is_beyond(out, 5), process)
        process.send_signal(signal.SIGTERM)
        finish(process)
    return out


@pytest.mark.slow
def test_a_run_that_is_told_to_end_saves_its_last_step(preempted) -> None:
    (stop,) = records(preempted, "stop")
    assert stop["reason"] == "interrupted"
    assert 5 <= stop["step"] < N_STEPS
    assert read_facts(find_checkpoint(preempted))["position"]["step"] == stop["step"]


@pytest.mark.slow
def test_a_run_of_two_processes_is_finished_by_one(
    toy_stores, preempted, undisturbed
) -> None:
    """Sums over two processes and over two batches round differently."""
    with child(*torchrun(toy_stores, preempted, n=1)) as process:
        output = finish(process)
    assert process.returncode == 0, output
    tensors, facts = final_state(preempted)
    expected, expected_facts = final_state(undisturbed)
    assert facts["position"] == expected_facts["position"]
    torch.testing.assert_close(tensors, expected, rtol=1e-3, atol=1e-5)
