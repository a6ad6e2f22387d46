"""Tasks and their statistics -> heads of the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.data.tasks import TASKS
from jmp_train.normalize import TaskStatistics

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def build_head(task: TaskConfig, statistics: TaskStatistics) -> HeadSpec:
    """Return what the weights of a task's head assume.

    Gradient forces are minus the derivative of the energy, so both share one scale;
    a direct head has a scale of its own for either.

    Args:
        task: Graph rules and force kind.
        statistics: Of the training part.

    Raises:
        ArgumentError: If the task is not in ``TASKS``.
    """
    if task.name not in TASKS:
        raise ArgumentError(
            f"unknown task {task.name!r}; choose from {', '.join(TASKS)}"
            + did_you_mean(task.name, TASKS)
        )
    info = TASKS[task.name]
    is_direct = task.forces == "direct"
    return HeadSpec(
        name=task.name,
        graph=task.graph,
        forces=task.forces,
        has_direct_forces=is_direct,
        energy_scale=(statistics.energy_std or 1.0)
        if is_direct
        else statistics.energy_scale,
        force_scale=statistics.force_rms or 1.0,
        references=dict(statistics.references),
        domain=info.domain,
        is_default=info.is_default,
        elements=statistics.elements,
        level_of_theory=info.level_of_theory,
        coverage=info.coverage,
        licence=info.licence,
    )


def build_model(
    config: TrainConfig, statistics: Mapping[str, TaskStatistics]
) -> JMPModel:
    """Return the network of a run with random weights that follow from its seed.

    The random state of the process is left as it was.

    Args:
        config: Shape, tasks, precision and seed.
        statistics: Statistics of the training part, by task.

    Raises:
        ArgumentError: If the precision is not available.
    """
    if config.precision not in _DTYPES:
        raise ArgumentError(
            f"precision {config.precision!r} is not available in this version; choose "
            f"from {', '.join(_DTYPES)}"
        )
    heads = [build_head(task, statistics[task.name]) for task in config.data.tasks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = JMPModel(config.model, heads)
    model.info = {"name": config.name}
    return model.to(_DTYPES[config.precision])
