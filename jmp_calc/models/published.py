"""Reader of the published pre-training files, jmp-s.pt and jmp-l.pt.

They are checkpoints of a training run: weights, their running average (EMA), the state
of the optimiser, and the configuration. Only data is read from them
(:mod:`jmp_calc.models.restricted_pickle`), and of the tensors only those that are used.
The weights are under CC-BY-NC-4.0.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError, CheckpointError, did_you_mean
from jmp_calc.files import file_hash
from jmp_calc.models.config import GraphRules, HeadSpec, L, ModelConfig, S
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.published_names import COUNTERS
from jmp_calc.models.published_tasks import (
    CITATION,
    LICENCE,
    MAX_NEIGHBORS,
    QUADRUPLET_TAGS,
    RADIAL_CUTOFF,
    TASKS,
)
from jmp_calc.models.restricted_pickle import (
    Record,
    StoredTensor,
    fields_of,
    items_of,
    read_torch_file,
)
from jmp_calc.models.state_dict import (
    first_five,
    model_from_state,
    published_names_to_ours,
    published_to_ours,
)

Ema = Literal["full", "paper", "none"]
"""Which weights: the running average everywhere; the mixture that the published loader
ends up with, whose output blocks are not averaged; or none of it."""
SUPPORTED = {
    "activation": "scaled_silu",
    "rbf.name": "gaussian",
    "rbf_spherical.name": "gaussian",
    "envelope.name": "polynomial",
    "envelope.exponent": 5,
    "cbf.name": "spherical_harmonics",
    "sbf.name": "legendre_outer",
    "quad_interaction": True,
    "atom_edge_interaction": True,
    "edge_atom_interaction": True,
    "atom_interaction": True,
    "scale_basis": False,
    "learnable_rbf": False,
    "learnable_rbf_stds": False,
    "unique_basis_per_layer": False,
}
"""Settings of the published backbone that exist here with one value only."""

_NOT_AVERAGED = re.compile(
    rf".*(rbf\.offset|rbf\.temps|scale_factor)|.*\.seq_energy_pre\..*|{COUNTERS}.*"
)
_OUTPUT_LAYERS = re.compile(r"backbone\.out_blocks\.\d+\.layers\..*")


def load_published(
    path: Path, *, ema: Ema = "full", sha256: str | None = None
) -> JMPModel:
    """Build the model of a published pre-training file, with all of its heads.

    The heads have direct forces, the published graph rules and no element references:
    their energies are relative. Scales come from the configuration in the file, or,
    where it has none, from :data:`TASKS`.

    Args:
        path: The file.
        ema: Which weights to take.
        sha256: Hash of the file, if it is known; None: the file is read for it.

    Raises:
        ArgumentError: If ``ema`` is not one of the allowed words.
        CheckpointError: If the file is damaged, hostile, or of another kind.
        FileNotFoundError: If there is no such file.

    Source:
        GemNet-OC specification, sections 11 to 13; training specification, 2.1.
    """
    path = Path(path)
    check_ema(ema)
    content = fields_of(read_torch_file(path))
    try:
        model = _build(content, ema)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.info = {
        "name": path.stem,
        "licence": LICENCE,
        "citation": CITATION,
        "training": {"tasks": list(model.heads), "ema": ema},
        "path": str(path),
        "weights_sha256": sha256 or file_hash(path),
    }
    return model


def check_ema(word: str) -> Ema:
    """Return a word as a choice of weights.

    Args:
        word: What a user asked for.

    Raises:
        ArgumentError: If it is none of the choices.
    """
    for choice in get_args(Ema):
        if word == choice:
            return cast(Ema, choice)
    raise ArgumentError(
        f"ema is {word!r}; choose one of {', '.join(get_args(Ema))}"
        + did_you_mean(word, get_args(Ema))
    )


def _build(content: Mapping[str, Any], ema: Ema) -> JMPModel:
    stored = _stored_state(content)
    settings = fields_of(content.get("hyper_parameters"))
    backbone = fields_of(settings.get("backbone"))
    _check_supported(backbone)
    tasks = _stored_tasks(settings)
    names = list(tasks)
    averaged = {} if ema == "none" else _averaged(content, stored, ema)
    state = published_to_ours(
        {name: tensor.load() for name, tensor in stored.items()}, task_names=names
    )
    if averaged:
        ours = published_names_to_ours(averaged, task_names=names)
        for name, tensor in averaged.items():
            state[ours[name]] = tensor.load()
    has_forces = any(name.endswith(".forces.0.weight") for name in state)
    config = _config(settings, backbone, state, has_forces=has_forces)
    heads = [
        _head(name, fields, backbone=backbone, state=state)
        for name, fields in tasks.items()
    ]
    # half precision becomes single, a mixture the best of its parts
    dtypes = {tensor.dtype for tensor in state.values()}
    dtype = functools.reduce(torch.promote_types, dtypes, torch.float32)
    return model_from_state(config, heads, state, dtype=dtype)


def _stored_state(content: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Return the state dict without counters; no numbers are read."""
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, StoredTensor)
        for name, value in state.items()
    ):
        raise CheckpointError(
            "no 'state_dict' with named tensors; this is not a published checkpoint, "
            "such as jmp-s.pt or jmp-l.pt"
        )
    kept = {k: v for k, v in state.items() if not k.startswith(COUNTERS)}
    if "embedding.atom_embedding.weight" not in kept:
        raise CheckpointError(
            "these are not weights of JMP pre-training: 'embedding.atom_embedding."
            f"weight' is not among {first_five(list(kept)) or 'none'}"
        )
    other = [k for k, v in kept.items() if not v.dtype.is_floating_point]
    if other:
        raise CheckpointError(
            f"weights are real numbers, and {first_five(other)} hold whole ones"
        )
    return kept


def _averaged(
    content: Mapping[str, Any], stored: Mapping[str, StoredTensor], ema: Ema
) -> dict[str, StoredTensor]:
    """Return the running averages by published name.

    The file holds them without names, in the order of the parameters; this is the order
    of the state dict without buffers and second names.
    """
    optimizers = items_of(content.get("optimizer_states"))
    values = items_of(fields_of(optimizers[0]).get("ema")) if optimizers else []
    if not values:
        raise CheckpointError(
            "the file holds no running average (EMA) of the weights; ema='none' takes "
            "the weights themselves"
        )
    names = [name for name in stored if not _NOT_AVERAGED.fullmatch(name)]
    fits = len(values) == len(names) and all(
        isinstance(value, StoredTensor)
        and (value.shape, value.dtype) == (stored[name].shape, stored[name].dtype)
        for name, value in zip(names, values, strict=True)
    )
    if not fits:
        raise CheckpointError(
            f"the {len(values)} running averages (EMA) do not fit the {len(names)} "
            "parameters in number, shape or precision; ema='none' ignores them"
        )
    by_name = dict(zip(names, values, strict=True))
    if ema == "paper":
        return {k: v for k, v in by_name.items() if not _OUTPUT_LAYERS.fullmatch(k)}
    return by_name


def _check_supported(backbone: Mapping[str, Any]) -> None:
    for name, value in SUPPORTED.items():
        group, _, part = name.rpartition(".")
        place = fields_of(backbone.get(group)) if group else backbone
        found = place.get(part, value)
        if found != value:
            raise CheckpointError(
                f"the network was built with {name}={short(found)}; only {value!r} "
                "exists here"
            )


def _stored_tasks(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the configuration of each task by name, in the order of the heads."""
    tasks = [fields_of(task) for task in items_of(settings.get("tasks"))]
    if not tasks:
        return {name: {} for name in TASKS}
    by_name: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        name = task.get("name")
        if not isinstance(name, str) or name not in TASKS or name in by_name:
            raise CheckpointError(
                f"the file has a task named {short(name)}; cutoffs are known for "
                f"{', '.join(TASKS)}, each once"
            )
        by_name[name] = task
    return by_name


def _config(
    settings: Mapping[str, Any],
    backbone: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    has_forces: bool,
) -> ModelConfig:
    """Return the shape of the network: as configured, or that of S or L."""
    width = state.get("backbone.edge_embedding.weight", torch.empty(0, 0)).shape[0]
    default = {size.emb_size_edge: size for size in (S, L)}.get(width)
    values: dict[str, Any] = {"rules": "published", "has_direct_forces": has_forces}
    for field in fields(ModelConfig):
        if field.name in values:
            continue
        value = backbone.get(field.name, getattr(default, field.name, None))
        if field.name == "num_head_layers":
            value = fields_of(settings.get("output")).get("num_mlps", S.num_head_layers)
        if type(value) is not int or not 0 <= value <= 2**16:
            raise CheckpointError(
                f"the configuration in the file gives {field.name}={short(value)}, "
                "should be a whole number; without it only the sizes S and L are known"
            )
        if field.name in _COUNTS and value > len(state):
            raise CheckpointError(
                f"{field.name}={value} does not go with {len(state)} tensors"
            )
        values[field.name] = value
    return ModelConfig(**values)


_COUNTS = frozenset(
    field.name
    for field in fields(ModelConfig)
    if field.name.startswith("num_")
    and field.name not in ("num_radial", "num_elements")
)
"""Numbers of layers, which a file of few tensors cannot have many of."""


def _head(
    name: str,
    task: Mapping[str, Any],
    *,
    backbone: Mapping[str, Any],
    state: Mapping[str, Tensor],
) -> HeadSpec:
    known = TASKS[name]
    energy_shift, energy_scale = _normaliser(task, "y", (0.0, known.energy_scale))
    force_shift, force_scale = _normaliser(task, "force", (0.0, known.force_scale))
    reduction = task.get("node_energy_reduction", "sum")
    if force_shift != 0 or reduction not in ("sum", "mean"):
        raise CheckpointError(
            f"task {name!r} has a force mean of {force_shift} and the reduction "
            f"{short(reduction)}; allowed are 0, and 'sum' or 'mean'"
        )
    has_forces = f"head_layers.{name}.forces.0.weight" in state
    return HeadSpec(
        name=name,
        graph=GraphRules(
            rules="published",
            cutoff=known.cutoff,
            max_neighbors=MAX_NEIGHBORS,
            is_periodic=known.is_periodic,
            radial_cutoff=_positive(
                backbone.get("absolute_rbf_cutoff", RADIAL_CUTOFF),
                "absolute_rbf_cutoff",
            ),
            quadruplet_tags=_tags(backbone.get("qint_tags", list(QUADRUPLET_TAGS))),
        ),
        forces="direct" if has_forces else "gradient",
        has_direct_forces=has_forces,
        reduction="mean" if reduction == "mean" else "sum",
        energy_scale=energy_scale,
        energy_shift=energy_shift,
        force_scale=force_scale,
        references=None,
        domain=known.domain,
        elements=known.elements,
        level_of_theory=known.level_of_theory,
        licence=LICENCE,
    )


def _normaliser(
    task: Mapping[str, Any], quantity: str, default: tuple[float, float]
) -> tuple[float, float]:
    """Return mean and standard deviation of a label, eV or eV/angstrom."""
    stored = fields_of(fields_of(task.get("normalization")).get(quantity))
    mean = _number(stored.get("mean", default[0]), f"mean of {quantity}")
    std = _positive(stored.get("std", default[1]), f"std of {quantity}")
    return mean, std


def _positive(value: Any, name: str) -> float:
    number = _number(value, name)
    if number <= 0:
        raise CheckpointError(f"the {name} is {number}, should be positive")
    return number


def _number(value: Any, name: str) -> float:
    # comparing keeps out NaN, infinity, and whole numbers beyond any float
    is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max
    if not is_number:
        raise CheckpointError(f"the {name} in the file is {short(value)}, not a number")
    return float(value)


def _tags(value: Any) -> tuple[int, ...] | None:
    tags: Sequence[Any] = items_of(value)
    is_list = value is None or isinstance(value, list | tuple | Record)
    if not is_list or any(type(tag) is not int or tag not in (0, 1, 2) for tag in tags):
        raise CheckpointError(
            f"qint_tags in the file is {short(value)}, should be a list of 0, 1 and 2"
        )
    return tuple(tags) or None
