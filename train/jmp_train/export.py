"""A run -> the weights file that calculators load."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jmp_calc.errors import CheckpointError
from jmp_calc.models.state_dict import model_from_state
from jmp_calc.models.weights import load_weights, save_weights
from jmp_train.checkpoint import AVERAGE, MODEL, load_state
from jmp_train.checkpoint_folders import CHECKPOINTS, best, find_checkpoint, latest
from jmp_train.config_file import config_hash
from jmp_train.run_state import RunState, read_state
from jmp_train.runlog import SUMMARY

NOT_STATED = "not stated"
"""Licence of data and weights that say nothing about it."""


def weights_path(run: Path, name: str) -> Path:
    """Return where a run puts its weights file.

    Args:
        run: Folder of the run.
        name: Name of the model.
    """
    return run / f"{name}.safetensors"


def finished_weights(run: Path) -> tuple[Path, RunState] | None:
    """Return the weights file that a run left when it ended, and the state it is of.

    It has what is fitted after the last step, such as the zero of the energy of a run
    on forces alone, which no checkpoint has.

    Args:
        run: Folder of the run.

    Returns:
        None if the run has not ended, or its file is that of another step.

    Raises:
        CheckpointError: If the file or the checkpoint is damaged.
    """
    folder = run / CHECKPOINTS
    checkpoint = best(folder) or latest(folder)
    if checkpoint is None:
        return None
    state = read_state(checkpoint)
    file = weights_path(run, state.config.name)
    if not file.is_file():
        return None
    training = load_weights(file).info.get("training", {})
    is_averaged = state.config.optim.ema_decay is not None
    of_run = (config_hash(state.config), state.position.step, is_averaged)
    keys = ("config_hash", "step", "is_averaged")
    found = tuple(training.get(key) for key in keys)
    return (file, state) if found == of_run else None


def export_weights(
    place: Path,
    out: Path | None = None,
    *,
    is_best: bool = False,
    is_averaged: bool = True,
) -> Path:
    """Write the weights of a checkpoint as a weights file, and return the file.

    Neither the stores of the run nor the weights that it started from are needed.

    Args:
        place: Folder of a run, or one of its checkpoints.
        out: The file; None: in the folder of the run, named as the model.
        is_best: Take the checkpoint with the best validation, and not the last.
        is_averaged: Take the averaged weights, if the run keeps an average.

    Raises:
        CheckpointError: If there is no such checkpoint, or it is damaged.
    """
    checkpoint = find_checkpoint(place, is_best=is_best)
    run = _run_of(checkpoint)
    state = read_state(checkpoint)
    tensors = load_state(checkpoint, MODEL)
    average = load_state(checkpoint, AVERAGE) if is_averaged else {}
    model = model_from_state(state.config.model, state.heads, tensors | average)
    model.info = _info(state, is_averaged=bool(average))
    model.info["training"] |= _measured(run, state.position.step)
    path = out or weights_path(run, state.config.name)
    save_weights(model, path)
    return path


def joined_licences(licences: Iterable[str]) -> str:
    """Return the licences of several works as those of what is made from them.

    Args:
        licences: Of each; repeats are named once.
    """
    return "; ".join(dict.fromkeys(filter(None, licences))) or NOT_STATED


def _run_of(checkpoint: Path) -> Path:
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else folder


def _info(state: RunState, *, is_averaged: bool) -> dict[str, Any]:
    training = {
        **state.info.get("training", {}),
        "config_hash": config_hash(state.config),
        "step": state.position.step,
        "seconds": state.position.seconds,
        "is_averaged": is_averaged,
        "tasks": {
            task.name: {
                "datasets": state.headers[task.name].get("datasets", []),
                "n_systems": state.headers[task.name]["n_systems"],
                "systems_seen": seen,
                "fingerprint": state.fingerprints[task.name],
            }
            for task, seen in zip(
                state.config.data.tasks, state.position.seen, strict=True
            )
        },
    }
    of_data = [state.headers[t.name]["licence"] for t in state.config.data.tasks]
    of_start = state.info.get("licence", "")
    return {
        "name": state.config.name,
        "licence": joined_licences([of_start, *of_data]),
        "training": training,
    }


def _measured(run: Path, step: int) -> dict[str, Any]:
    """Return errors, versions and hardware of a run that stopped at this step."""
    path = run / SUMMARY
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it and export again without the "
            "measured errors, or evaluate the run again"
        ) from error
    if summary.get("step") != step:
        return {}
    return {key: summary[key] for key in ("test", "versions", "hardware")}
