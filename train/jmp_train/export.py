"""A run -> the weights file that calculators load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jmp_calc.errors import CheckpointError
from jmp_calc.models.weights import save_weights
from jmp_train.checkpoint import load_checkpoint
from jmp_train.config_file import config_hash
from jmp_train.data.datasets import DATASETS
from jmp_train.data.tasks import TASKS
from jmp_train.heads import build_model
from jmp_train.runlog import CHECKPOINT, SUMMARY

DEFAULT_LICENCE = "MIT"
"""Licence of weights that are trained on data whose licences allow it."""


def weights_path(run: Path, name: str) -> Path:
    """Return where a run puts its weights file.

    Args:
        run: Folder of the run.
        name: Name of the model.
    """
    return run / f"{name}.safetensors"


def export_weights(run: Path, out: Path | None = None) -> Path:
    """Write the averaged weights of the last checkpoint of a run, and return the file.

    Args:
        run: Folder of the run.
        out: The file; None: beside the checkpoint, named as the model.

    Raises:
        CheckpointError: If the run has no checkpoint.
    """
    checkpoint = load_checkpoint(run / CHECKPOINT)
    config = checkpoint.config
    model = build_model(config, checkpoint.statistics)
    state = dict(checkpoint.model)
    state.update(checkpoint.average or {})
    model.load_state_dict(state)
    model.info = {
        "name": config.name,
        "licence": DEFAULT_LICENCE,
        "training": {
            "config_hash": config_hash(config),
            "step": checkpoint.position.step,
            "seconds": checkpoint.position.seconds,
            "is_averaged": checkpoint.average is not None,
            "tasks": {
                task.name: {
                    "datasets": _datasets(task.name),
                    "n_systems": checkpoint.statistics[task.name].n_systems,
                    "systems_seen": seen,
                    "fingerprint": checkpoint.fingerprints[task.name],
                }
                for task, seen in zip(
                    config.data.tasks, checkpoint.position.seen, strict=True
                )
            },
            **_measured(run, checkpoint.position.step),
        },
    }
    path = out or weights_path(run, config.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
    return path


def _datasets(task: str) -> list[dict[str, str]]:
    infos = [DATASETS[name] for name in TASKS[task].datasets]
    return [
        {
            "title": info.title,
            "level_of_theory": info.level_of_theory,
            "licence": info.licence,
            "citation": info.citation,
        }
        for info in infos
    ]


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
