"""Pre-training tasks that are trained on as well, so that they are not forgotten."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TaskConfig
from jmp_train.data.splits import SPLITS
from jmp_train.data.store import store_path
from jmp_train.finetune.settings import FinetuneSettings
from jmp_train.finetune.zero_shot import find_head

if TYPE_CHECKING:
    from jmp_train.finetune.userplan import UserData


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One task to replay."""

    stores: Path
    """Folder of its stores."""
    task: str
    """Name of the stores and of the head."""


def parse_replay(word: str) -> Replay:
    """Return what ``STORES:TASK`` means.

    Args:
        word: What the user wrote.

    Raises:
        ArgumentError: If it has another form.
    """
    folder, _, task = word.rpartition(":")
    if not folder or not task:
        raise ArgumentError(
            f"{word!r} does not say what to replay; write the folder of the stores and "
            "the task, such as stores:qm7x"
        )
    return Replay(stores=Path(folder), task=task)


def replay_tasks(
    settings: FinetuneSettings, data: UserData, source: JMPModel
) -> tuple[TaskConfig, ...]:
    """Return the tasks to replay, whose stores are then in the folder of the run.

    Each keeps the head of its name with all that belongs to it. Stores are linked, and
    copied where the file system has no links.

    Args:
        settings: ``replay`` names them.
        data: The data of the user.
        source: Weights with their heads.

    Raises:
        ArgumentError: If the weights have no such head, or forces are of another kind.
        DataError: If there is no such store.
    """
    tasks = []
    for replay in map(parse_replay, settings.replay):
        spec = find_head(source, replay.task)
        if replay.task == data.facts.name:
            raise ArgumentError(
                f"the task to replay and your data are both called {replay.task!r}; "
                "give your data another name with --name"
            )
        if settings.target is not None or not data.labels["forces"]:
            raise ArgumentError(
                "tasks with forces can be replayed only with data that have forces; "
                "leave out --replay, or give forces"
            )
        for split in SPLITS:
            origin = store_path(replay.stores, replay.task, split)
            if not origin.exists():
                raise DataError(
                    f"there is no store {origin} to replay; --replay takes the folder "
                    "that 'jmp-train data prepare' wrote"
                )
            _bring(origin, store_path(data.folder, replay.task, split))
        tasks.append(
            TaskConfig(name=replay.task, graph=spec.graph, forces=settings.forces)
        )
    return tuple(tasks)


def _bring(origin: Path, place: Path) -> None:
    if place.exists() or place.is_symlink():
        return
    try:
        place.symlink_to(origin.resolve(), target_is_directory=origin.is_dir())
    except OSError:
        copy = shutil.copytree if origin.is_dir() else shutil.copy2
        copy(origin, place)
