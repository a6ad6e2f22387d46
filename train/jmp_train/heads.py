"""Tasks and the headers of their stores -> heads of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jmp_calc.errors import DataError
from jmp_calc.models.config import HeadSpec, TargetSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TaskConfig, TaskScales, TrainConfig
from jmp_train.normalize import TargetStatistics, TaskStatistics


def build_head(task: TaskConfig, header: Mapping[str, Any]) -> HeadSpec:
    """Return what the weights of a task's head assume.

    Scales that the task states replace those that were measured. Gradient forces are
    minus the derivative of the energy, so both share one scale; a direct head has a
    scale of its own for either. A number per atom that is summed up has references of
    the elements; a mean or a largest one has none, nor has a spatial extent, which is
    zero where all atoms are.

    Args:
        task: Graph rules, and what is predicted.
        header: Of the store with the training part.

    Raises:
        DataError: If the store has no label that the task needs; the message lists
            those it has.

    Source:
        Training specification, sections 1.2, 2.2 and 3.1.
    """
    statistics = TaskStatistics.from_json(header["statistics"])
    scales = task.scales or TaskScales()
    shared: dict[str, Any] = {
        "name": task.name,
        "kind": task.kind,
        "graph": task.graph,
        "forces": task.forces,
        "domain": header["domain"],
        "is_default": header["is_default"],
        "elements": statistics.elements,
        "level_of_theory": header["level_of_theory"],
        "coverage": header["coverage"],
        "licence": header["licence"],
    }
    if task.kind != "energy_forces":
        target = _target(task, scales, header, statistics)
        return HeadSpec(**{**shared, "forces": None}, target=target)
    energy_scale = statistics.energy_scale
    if task.forces != "gradient":
        energy_scale = statistics.energy_std or 1.0
    return HeadSpec(
        **shared,
        has_direct_forces=task.forces == "direct",
        has_energy_bias=task.has_energy_bias,
        energy_scale=_first(scales.energy_scale, energy_scale),
        force_scale=_first(scales.force_scale, statistics.force_rms or 1.0),
        references=_references(scales, statistics.references),
    )


def build_model(
    config: TrainConfig, headers: Mapping[str, Mapping[str, Any]]
) -> JMPModel:
    """Return the network of a run with random weights that follow from its seed.

    The random state of the process is left as it was.

    Args:
        config: Shape, tasks, precision and seed. With 16 bits the weights are float32.
        headers: Headers of the stores with the training parts, by task.
    """
    heads = [build_head(task, headers[task.name]) for task in config.data.tasks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = JMPModel(config.model, heads)
    model.backbone.edge_dropout = config.data.edge_dropout
    model.info = {"name": config.name}
    return model.to(torch.float64 if config.precision == "float64" else torch.float32)


def _references(
    scales: TaskScales, fitted: Mapping[int, float]
) -> dict[int, float] | None:
    if not scales.has_references:
        return None
    stated = scales.references
    return dict(fitted if stated is None else stated) or None


def _first(stated: float | None, measured: float) -> float:
    return measured if stated is None else stated


def _target(
    task: TaskConfig,
    scales: TaskScales,
    header: Mapping[str, Any],
    statistics: TaskStatistics,
) -> TargetSpec:
    found = statistics.targets.get(task.target or "")
    if task.target is None or found is None:
        have = ", ".join(statistics.targets) or "none"
        raise DataError(
            f"task {task.name!r} predicts the target {task.target!r}, which is not "
            f"among those in its store; it has {have}"
        )
    unit = header["units"].get("targets", {}).get(task.target, "")
    if task.kind in ("binary", "multiclass"):
        return TargetSpec(
            name=task.target,
            reduction=task.reduction,
            classes=task.classes,
            dropout=task.head_dropout,
        )
    is_referenced = (
        task.kind == "scalar" and task.reduction == "sum" and scales.has_references
    )
    shift, scale = _measured(task, found, is_referenced=is_referenced)
    return TargetSpec(
        name=task.target,
        unit=unit,
        scale=_first(scales.target_scale, scale or 1.0),
        shift=_first(scales.target_shift, shift),
        reduction=task.reduction,
        references=_references(scales, found.references) if is_referenced else None,
    )


def _measured(
    task: TaskConfig, found: TargetStatistics, *, is_referenced: bool
) -> tuple[float, float]:
    """Return value at network output zero, and value per network unit."""
    if task.kind == "spatial_extent":
        return 0.0, found.std
    if is_referenced:
        return found.referenced_mean, found.referenced_std
    return found.mean, found.std
