"""Checkpoints: saved in one piece, resumed exactly, exported as weights files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.files import replacing
from jmp_train.config import TrainConfig
from jmp_train.config_file import from_plain, result_settings, to_plain
from jmp_train.normalize import TaskStatistics

FORMAT = "jmp-train-checkpoint"
"""First entry of every checkpoint."""
VERSION = 1
"""Version of the layout; a reader accepts only its own."""

_SHOWN_DIFFERENCES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epoch of the next step."""
    place: int = 0
    """Number of the next step in its epoch."""
    seconds: float = 0.0
    """Time spent in steps, over all sessions of the run."""
    seen: tuple[int, ...] = ()
    """Samples of each task seen, repeats counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had not stopped.

    No state of random numbers: the order of samples follows from the seed and the
    position, and nothing else is drawn at random after the start.
    """

    config: TrainConfig
    """Settings of the run."""
    statistics: dict[str, TaskStatistics]
    """Statistics of the training part, by task."""
    fingerprints: dict[str, str]
    """Fingerprint of the training store, by task."""
    position: Position
    """Where to go on."""
    model: dict[str, Tensor]
    """Parameters and buffers of the network."""
    average: dict[str, Tensor] | None
    """Moving average of the parameters, if the run keeps one."""
    optimizer: dict[str, Any]
    """State of the optimizer."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; the file is replaced in one piece or not at all.

    Args:
        checkpoint: State of a run.
        path: The file.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": to_plain(checkpoint.config),
        "statistics": {k: s.to_json() for k, s in checkpoint.statistics.items()},
        "fingerprints": checkpoint.fingerprints,
        "position": to_plain(checkpoint.position),
        "model": checkpoint.model,
        "average": checkpoint.average,
        "optimizer": checkpoint.optimizer,
    }
    with replacing(path) as new, new.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU; nothing in the file is executed.

    Args:
        path: The file.

    Raises:
        CheckpointError: If there is no such file or it is not a whole checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint {path}; start the run without --resume, or name "
            "the file that it wrote"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line}); it is damaged or "
            "was not written by jmp-train"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of jmp-train; weights files are made from "
            "checkpoints by 'jmp-train export' and cannot be resumed"
        )
    if content["version"] != VERSION:
        raise CheckpointError(
            f"{path} has version {content['version']} of the checkpoint layout; this "
            f"version of jmp-train reads {VERSION}"
        )
    return Checkpoint(
        config=from_plain(TrainConfig, content["config"]),
        statistics={
            k: TaskStatistics.from_json(s) for k, s in content["statistics"].items()
        },
        fingerprints=content["fingerprints"],
        position=from_plain(Position, content["position"]),
        model=content["model"],
        average=content["average"],
        optimizer=content["optimizer"],
    )


def check_same_run(
    checkpoint: Checkpoint, config: TrainConfig, fingerprints: Mapping[str, str]
) -> None:
    """Refuse to resume a run under settings or data that would change it.

    Args:
        checkpoint: What the run saved.
        config: Settings that it is resumed with.
        fingerprints: Fingerprint of the training store that it is resumed on, by task.

    Raises:
        ArgumentError: If a setting that decides the weights or a store differs.
    """
    old, new = result_settings(checkpoint.config), result_settings(config)
    differing = [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    differing += [
        f"the store of {task} has other samples"
        for task, fingerprint in checkpoint.fingerprints.items()
        if fingerprints.get(task) != fingerprint
    ]
    if differing:
        shown = "; ".join(differing[:_SHOWN_DIFFERENCES])
        raise ArgumentError(
            f"the run cannot be resumed with other settings or data: {shown}; "
            f"{len(differing)} in all. Resume with the same ones, or start in another "
            "folder"
        )
