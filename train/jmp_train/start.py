"""Networks that start from trained weights: what is taken over, what is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from ase.data import chemical_symbols

from jmp_calc.errors import ArgumentError, CheckpointError, did_you_mean
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.state_dict import first_five
from jmp_calc.pretrained import load_model
from jmp_train.config import StartConfig, TrainConfig
from jmp_train.heads import build_head

_FORCE_BRANCH = ("force_mlp.", ".force_residuals.", ".force_radial.", ".force_scale.")
_ENERGY_KINDS = ("energy_forces",)


def load_start(start: StartConfig) -> JMPModel:
    """Return the weights that a run starts from, as they are.

    Args:
        start: Which weights; their hash is checked if it is recorded.

    Raises:
        ArgumentError: If there are no such weights.
        CheckpointError: If the file is damaged, or not the one of the record.
    """
    source = load_model(start.weights)
    found = source.info.get("weights_sha256", "")
    if start.sha256 and start.sha256 != found:
        raise CheckpointError(
            f"the weights {start.weights} have changed since the run was made: their "
            f"SHA-256 is {found or 'unknown'}, and it was {start.sha256}; put the old "
            "file back, or begin a new run"
        )
    return source


def resolve_start(config: TrainConfig, source: JMPModel) -> TrainConfig:
    """Return the configuration with the shape and the hash of the weights in it.

    The branch of direct forces is part of the network only if a task needs it.

    Args:
        config: Its ``start`` names the weights.
        source: Those weights.

    Raises:
        ArgumentError: If the configuration has no start.
    """
    if config.start is None:
        raise ArgumentError(
            f"run {config.name!r} starts from random weights; give it a start first"
        )
    return replace(
        config,
        model=replace(source.config, has_direct_forces=_is_direct(config)),
        start=replace(config.start, sha256=str(source.info.get("weights_sha256", ""))),
    )


def start_model(
    config: TrainConfig,
    headers: Mapping[str, Mapping[str, Any]],
    *,
    source: JMPModel | None = None,
) -> JMPModel:
    """Return the network of a run that starts from trained weights.

    Embedding, backbone and scale factors are those of the weights; so are the heads
    that ``config.start.heads`` keeps. All other heads, and a branch of direct forces
    that the weights lack, are random and follow from the seed. The random state of the
    process is left as it was.

    A kept head keeps everything that its numbers mean: scales, shift and, unless the
    task states others, references. The first predictions of the run are then those of
    the weights, with other references if so stated.

    Args:
        config: Of the run, with a ``start``.
        headers: Headers of the training stores, by task.
        source: The weights, if they are loaded already.

    Raises:
        ArgumentError: If a head that is kept does not exist or does not fit its task.
        CheckpointError: If the weights are not those of the record, or of another
            shape than the run.
    """
    start = config.start
    if start is None:
        raise ArgumentError(f"run {config.name!r} has no weights to start from")
    source = load_start(start) if source is None else source
    _check_shape(config, source)
    kept = _kept_heads(config, source)
    specs = []
    for task in config.data.tasks:
        spec = build_head(task, headers[task.name])
        if task.name in kept:
            old = source.heads[kept[task.name]]
            has_own = task.scales is not None and task.scales.references is not None
            spec = kept_head(spec, old, keeps_references=not has_own)
        specs.append(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = JMPModel(config.model, specs)
    model.to(torch.float64 if config.precision == "float64" else torch.float32)
    _copy_weights(model, source, kept)
    model.backbone.edge_dropout = config.data.edge_dropout
    model.info = {
        "name": config.name,
        "licence": source.info.get("licence", "not stated"),
        "training": {"start": start_facts(start, source)},
    }
    return model


def start_facts(start: StartConfig, source: JMPModel) -> dict[str, Any]:
    """Return what a weights file says about the weights it was made from.

    Args:
        start: What was asked for.
        source: The weights.
    """
    return {
        "weights": str(source.info.get("name", start.weights)),
        "sha256": str(source.info.get("weights_sha256", "")),
        "licence": str(source.info.get("licence", "not stated")),
        "heads": dict(start.heads),
        "frozen": list(start.frozen),
        "layer_rates": list(start.layer_rates),
    }


def kept_head(new: HeadSpec, old: HeadSpec, *, keeps_references: bool) -> HeadSpec:
    """Return what the weights of a kept head assume in their new task.

    Args:
        new: The head that the task would have otherwise.
        old: The head of the weights.
        keeps_references: Whether its references stay as well.

    Raises:
        ArgumentError: If the head predicts something else, lacks the force kind of the
            task, or has no reference for an element of the data.
    """
    if new.kind not in _ENERGY_KINDS or old.kind not in _ENERGY_KINDS:
        raise ArgumentError(
            f"head {old.name!r} of the weights is of kind {old.kind!r} and task "
            f"{new.name!r} of kind {new.kind!r}; only a head of energy and forces can "
            "be kept, for energy and forces"
        )
    if new.has_direct_forces and not old.has_direct_forces:
        raise ArgumentError(
            f"head {old.name!r} of the weights has no direct forces, and task "
            f"{new.name!r} needs them; train gradient forces, or a new head"
        )
    elements = new.elements
    if keeps_references and old.references is not None:
        missing = [z for z in new.elements if z not in old.references]
        if missing:
            raise ArgumentError(
                f"head {old.name!r} of the weights has no reference energy for "
                f"{_symbols(missing)}, which the data of task {new.name!r} contain; "
                "state references for the task, such as --references least-squares"
            )
        elements = tuple(sorted({*new.elements, *old.elements}))
    return replace(
        new,
        reduction=old.reduction,
        has_energy_bias=old.has_energy_bias,
        energy_scale=old.energy_scale,
        energy_shift=old.energy_shift,
        force_scale=old.force_scale,
        references=old.references if keeps_references else new.references,
        elements=elements,
    )


def _is_direct(config: TrainConfig) -> bool:
    return any(task.forces == "direct" for task in config.data.tasks)


def _check_shape(config: TrainConfig, source: JMPModel) -> None:
    has_direct = config.model.has_direct_forces
    if config.model != replace(source.config, has_direct_forces=has_direct):
        raise CheckpointError(
            f"run {config.name!r} has a network of another shape than the weights it "
            f"starts from: {config.model}, and the weights {source.config}; leave the "
            "shape to the weights"
        )
    rules = {task.graph.rules for task in config.data.tasks}
    if rules != {config.model.rules}:
        raise ArgumentError(
            f"the weights follow the {config.model.rules} rules, and the tasks have "
            f"graphs of the {' and '.join(sorted(rules))} rules; give the tasks graphs "
            "of the same rules"
        )


def _kept_heads(config: TrainConfig, source: JMPModel) -> dict[str, str]:
    """Return the head of the weights that each task keeps."""
    kept = dict(config.start.heads if config.start else ())
    for task, head in kept.items():
        config.task(task)
        if head not in source.heads:
            raise ArgumentError(
                f"the weights have no head {head!r} for task {task!r}; they have "
                f"{', '.join(source.heads)}" + did_you_mean(head, source.heads)
            )
    return kept


@torch.no_grad()
def _copy_weights(model: JMPModel, source: JMPModel, kept: Mapping[str, str]) -> None:
    """Copy every tensor that both have; the rest must be what may be new."""
    given = source.state_dict()
    lacking = []
    for name, value in model.state_dict().items():
        origin = _origin(name, kept)
        if origin is None:
            continue
        if origin in given and given[origin].shape == value.shape:
            value.copy_(given[origin])
        elif not any(part in name for part in _FORCE_BRANCH):
            lacking.append(name)
    if lacking:
        raise CheckpointError(
            f"the weights lack {len(lacking)} tensors of the network, or have them in "
            f"another shape: {first_five(lacking)}; check that they are those of a JMP "
            "model"
        )


def _origin(name: str, kept: Mapping[str, str]) -> str | None:
    """Return the name in the weights of a tensor; None: it is that of a new head."""
    if not name.startswith("head_layers."):
        return name
    _, task, rest = name.split(".", 2)
    return f"head_layers.{kept[task]}.{rest}" if task in kept else None


def _symbols(numbers: list[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)
