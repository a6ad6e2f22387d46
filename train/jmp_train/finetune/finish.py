"""The last touches on a fine-tuned weights file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.weights import load_weights, save_weights
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.data.store import Store
from jmp_train.finetune.zero_shot import residual_references
from jmp_train.runlog import LOG


def finish_weights(
    path: Path,
    config: TrainConfig,
    stores: Mapping[str, Store],
    *,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Make the energies of a weights file fit its forces; return what was done.

    * Trained on forces alone: the network gives the energy up to a constant, which is
      fitted to the training energies here (one for each element where compositions
      differ). The scale of energies is that of forces in any case.
    * Trained on energies alone: forces are the derivative of the energy.

    Args:
        path: The file; it is replaced if there is something to do.
        config: The run.
        stores: Training stores by task.
        device: Where to compute.

    Source:
        Training specification, section 2.2, consistency warning.
    """
    tasks = [task for task in config.data.tasks if _needs(task, stores[task.name])]
    if not tasks:
        return []
    model = load_weights(path).to(device)
    notes = []
    for task in tasks:
        spec = model.heads[task.name]
        if task.forces is None:
            model.heads[task.name] = replace(spec, forces="gradient")
            notes.append(
                f"{task.name}: trained on energies alone; forces are their derivative, "
                "and nothing tells how good they are"
            )
            continue
        fit = residual_references(model, stores[task.name], task.name, device=device)
        model.heads[task.name] = with_references(spec, fit.references)
        notes.append(
            f"{task.name}: trained on forces alone; the zero of the energy was fitted "
            "to the training energies afterwards"
        )
    save_weights(model.cpu(), path)
    return notes


def no_gain(run: Path, *, best: float | None, monitor: str) -> list[str]:
    """Return that training has only made the weights worse, if it has.

    The weights before the first step are not among those that a run chooses from.

    Args:
        run: Folder of the run.
        best: Smallest monitored error of the validations after the first step.
        monitor: What that error is.
    """
    first = None
    for line in (run / LOG).read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line that was cut off
            record = json.loads(line)
            if record["kind"] == "evaluation" and record["step"] == 0:
                first = record.get("monitored")
    if best is None or first is None or first >= best:
        return []
    return [
        f"the {monitor} error of the validation was {first:.4g} before training and "
        f"{best:.4g} at best after it; train longer, or at a smaller rate (--lr)"
    ]


def record_errors(path: Path, errors: Mapping[str, Any]) -> None:
    """Write errors into a weights file, in place of those before it was finished.

    Args:
        path: The file; it is replaced.
        errors: Plain data, by task.
    """
    model = load_weights(path)
    training = {**model.info.get("training", {}), "test": dict(errors)}
    model.info["training"] = training
    save_weights(model, path)


def _needs(task: TaskConfig, store: Store) -> bool:
    if task.kind != "energy_forces":
        return False
    if task.forces is None:
        return True
    has_energies = bool(store.header["labels"].get("energy", 0))
    return task.energy_weight == 0 and has_energies and task.forces == "gradient"


def with_references(spec: HeadSpec, references: Mapping[int, float]) -> HeadSpec:
    """Return a head with other references.

    Args:
        spec: The head.
        references: eV, by atomic number.
    """
    return replace(spec, references=dict(references))
