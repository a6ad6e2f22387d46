"""How a run begins: fresh, from trained weights, or where it had stopped."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig
from jmp_train.data.batches import GraphDataset, build_loader
from jmp_train.heads import build_model
from jmp_train.parallel import Group
from jmp_train.plan import TrainingPlan
from jmp_train.run_state import RunState, read_state
from jmp_train.scale_factors import fit_scale_factors
from jmp_train.start import start_model


def saved_state(
    config: TrainConfig, path: Path | None, *, is_resumed: bool
) -> RunState | None:
    """Return the state of the run in the folder, if it is to be resumed.

    Args:
        config: Of the run.
        path: Last checkpoint in its folder; None: there is none.
        is_resumed: Whether it is to be resumed.

    Raises:
        ArgumentError: If there is a run, and it is not to be resumed.
        CheckpointError: If there is no whole checkpoint to resume from.
    """
    if path is not None and not is_resumed:
        raise ArgumentError(
            f"{config.out} already holds a run; resume it with --resume, or choose "
            "another folder"
        )
    if path is None and is_resumed:
        raise CheckpointError(
            f"there is no checkpoint in {config.out}; start the run without --resume, "
            "or name the folder that it wrote to"
        )
    return None if path is None else read_state(path)


def resolved(config: TrainConfig, state: RunState | None, group: Group) -> TrainConfig:
    """Return the settings with the batches of a step: those the run began with.

    Args:
        config: Settings.
        state: Of the run, if it is resumed.
        group: The processes.
    """
    if config.data.batches_per_step is not None:
        return config
    n = group.world_size
    if state is not None:
        n = state.config.data.batches_per_step or n
    return replace(config, data=replace(config.data, batches_per_step=n))


def fingerprints(dataset: GraphDataset) -> dict[str, str]:
    """Return the fingerprint of the store of each task.

    Args:
        dataset: Samples of one part.
    """
    return {task: s.header["fingerprint"] for task, s in dataset.stores.items()}


def network(
    config: TrainConfig,
    dataset: GraphDataset,
    plan: TrainingPlan,
    *,
    state: RunState | None,
    device: torch.device,
) -> JMPModel:
    """Return the network of a run, the same in all processes.

    A resumed one has random weights, which its checkpoint replaces; neither the headers
    of the stores nor the weights that it started from are looked at again.

    Args:
        config: Shape, tasks, start, precision and seed.
        dataset: Training samples.
        plan: Its first batches fit the scale factors of a fresh network.
        state: Of the run, if it is resumed.
        device: Where it goes.
    """
    headers = {task: store.header for task, store in dataset.stores.items()}
    if state is not None:
        dtype = torch.float64 if config.precision == "float64" else torch.float32
        with torch.random.fork_rng(devices=[]):
            model = JMPModel(state.config.model, state.heads).to(dtype)
        model.info = dict(state.info)
    elif config.start is not None:
        model = start_model(config, headers)
    else:
        model = build_model(config, headers)
    model.backbone.edge_dropout = config.data.edge_dropout
    model.to(device)
    if state is None and config.start is None and config.scale_batches:
        _fit_scale_factors(model, dataset, plan, config)
    return model


def _fit_scale_factors(
    model: JMPModel, dataset: GraphDataset, plan: TrainingPlan, config: TrainConfig
) -> None:
    """Fit the scale factors of a fresh network to its first training batches."""
    steps = (step for _, _, step in plan.steps_from(0, 0))
    of_steps = (batch for step in steps for batch in step)
    batches = list(islice(of_steps, config.scale_batches))
    is_single = config.scale_single_pass
    if is_single:
        batches = [[sample for batch in batches for sample in batch]]
    device = next(model.parameters()).device
    loader = build_loader(dataset, batches)
    graphs = [batch.graph.to(device) for batch in loader]
    fit_scale_factors(model, graphs, is_single_pass=is_single)
