"""Short runs in one or several processes, to be compared: functions for spawning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from jmp_calc.errors import DataError, JMPError
from jmp_train import trainer
from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.sample import Sample
from jmp_train.data.store import store_path
from jmp_train.parallel import Group
from jmp_train.progress import Watcher
from jmp_train.trainer import Trainer
from toys.training import toy_config, toy_crystals, toy_molecules, write_store

RUNS = ("gradient", "published", "direct", "sharded")
"""Names of the runs."""
TARGET_RUNS = ("targets", "sharded targets")
"""Names of runs on the stores of :func:`write_target_stores`."""


def write_target_stores(folder: Path) -> Path:
    """Write train and val stores of two tasks whose label is a scalar."""
    for split, n in (("train", 10), ("val", 2)):
        for task, make in (("qm7x", toy_molecules), ("pbe", toy_crystals)):
            samples = [
                replace(sample, targets={"gap": float(i)})
                for i, sample in enumerate(make(n))
            ]
            units = {"targets": {"gap": "eV"}}
            write_store(store_path(folder, task, split), samples, units=units)
    return folder


def run_config(name: str, stores: Path, out: Path) -> TrainConfig:
    """A run in float64, of single systems, so that processes hold different tasks.

    Three batches a step: of two processes one has two, of four one has none.
    """
    config = toy_config(
        stores,
        out,
        max_steps=5,
        precision="float64",
        scale_batches=0,
    )
    data = replace(config.data, batches_per_step=3, max_atoms=5)
    if name == "published":
        data = replace(data, batch_systems=2)
        config = replace(config, average="batches", reduction="atom")
    if name in ("direct", "sharded"):
        model = replace(config.model, has_direct_forces=True)
        tasks = tuple(replace(task, forces="direct") for task in data.tasks)
        config = replace(config, model=model)
        data = replace(data, tasks=tasks, edge_dropout=0.2)
    if name in TARGET_RUNS:
        tasks = tuple(
            replace(task, kind="scalar", forces=None, target="gap")
            for task in data.tasks
        )
        data = replace(data, tasks=tasks)
    if name.startswith("sharded"):
        config = replace(config, parallel="fsdp")
    return replace(config, data=data)


def group_of(rank: int) -> Group:
    """The group of a spawned process."""
    return Group(
        rank=rank,
        world_size=dist.get_world_size(),
        device=torch.device("cpu"),
        has_processes=True,
    )


def train(rank: int, names: tuple[str, ...], stores: Path, folder: Path) -> None:
    """Make some runs in all processes."""
    for name in names:
        config = run_config(name, stores, folder / name)
        Trainer.build(config, group=group_of(rank)).run()


def resume(rank: int, stores: Path, folder: Path) -> None:
    """Interrupt a run and go on with it; the second process sees an old folder."""
    config, group = run_config("gradient", stores, folder / "resumed"), group_of(rank)
    steps: list[int] = []
    watcher = Watcher(
        on_step=lambda step, *_: steps.append(step),
        should_stop=lambda: len(steps) == 2,
    )
    Trainer.build(config, group=group).run(watcher)
    if rank == 1:
        trainer.latest = lambda _folder: None  # type: ignore[assignment]
    Trainer.build(config, group=group, is_resumed=True).run()


def talk(rank: int, folder: Path) -> None:
    """Use the group, and write down what this process got from it."""
    group = group_of(rank)
    found = {
        "any": [group.any(rank == 1), group.any(False)],
        "sum": group.sum(torch.tensor([1.0, float(rank)])).tolist(),
        "smallest": group.smallest(3.0 - rank),
        "gather": group.gather({"rank": rank}),
        "main": group.on_main(lambda: f"from {rank}"),
        "failed": _error_of(group, rank),
    }
    (folder / f"talk-{rank}.json").write_text(json.dumps(found))


def _error_of(group: Group, rank: int) -> str:
    def fail() -> None:
        with group.together():
            if rank == 1:
                raise DataError("a record is damaged")

    return _error(fail)


def _error(action: Callable[[], object]) -> str:
    try:
        action()
    except JMPError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def fail(rank: int, stores: Path, folder: Path) -> None:
    """Make runs in which one process fails, and write down what this one says.

    The first process cannot write its log; the second one has a damaged sample, of the
    validation part first.
    """
    group, found = group_of(rank), {}
    config = run_config("gradient", stores, folder / "full")
    if rank == 0:
        config.out.mkdir()
        (config.out / "log.jsonl").symlink_to("/dev/full")
    found["full"] = _error(Trainer.build(config, group=group).run)
    config = replace(config, out=folder / "damaged")
    if rank == 1:
        GraphDataset.sample = _damaged  # type: ignore[method-assign]
    found["damaged"] = _error(Trainer.build(config, group=group).run)
    (folder / f"fail-{rank}.json").write_text(json.dumps(found))


def _damaged(_dataset: GraphDataset, index: int) -> Sample:
    raise DataError(f"sample {index} is damaged")
