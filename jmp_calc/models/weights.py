"""Weights files: safetensors with a JSON header of everything the weights assume.

The header holds the shape of the network, every head with its graph rules, scales and
references, the units, and what is known about the training. A model is rebuilt from
the file alone; nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch
from ase.data import chemical_symbols
from torch import Tensor

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.files import file_hash, replacing
from jmp_calc.models.config import HeadSpec, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.records import record_from_json
from jmp_calc.models.state_dict import model_from_state

FORMAT_VERSION = 2
"""Newest layout of the header: 2 knows properties and limits by size. This program
reads all up to it, and writes the oldest that can say what the model assumes, so that
older programs read what they can."""
METADATA_KEY = "jmp_calc"
"""Name under which the header lies in the safetensors metadata. One name only: the
library writes several in random order, and equal models must give equal files."""
UNITS = {"length": "angstrom", "energy": "eV", "force": "eV/angstrom"}
"""Units of cutoffs, scales, shifts and references in the header."""
LOAD_ONLY_INFO = ("path", "weights_sha256")
"""Keys of ``model.info`` that belong to one file and are not written into the next."""
_INFO_TYPES = (
    ("name", str, "text"),
    ("licence", str, "text"),
    ("training", dict, "a mapping"),
)
_HEADER_KEYS = ("version", "units", "config", "heads", "info")


def save_weights(model: JMPModel, path: Path) -> None:
    """Write a model into one file; an existing file is replaced only when complete.

    Args:
        model: The model. ``model.info`` travels in the header; numbers in it that are
            not finite become text, because JSON has no word for them.
        path: The file; missing folders are made.

    Raises:
        ArgumentError: If ``model.info`` cannot be written as JSON, or a number that
            the weights assume is not finite.
    """
    path = Path(path)
    info = {k: v for k, v in model.info.items() if k not in LOAD_ONLY_INFO}
    heads = [_without_unused(asdict(spec)) for spec in model.heads.values()]
    header = {
        "version": FORMAT_VERSION if any(map(_needs_version_2, heads)) else 1,
        "units": UNITS,
        "config": asdict(model.config),
        "heads": heads,
        "info": _finite_or_text(info),
    }
    try:
        text = json.dumps(header, allow_nan=False, sort_keys=True)
    except TypeError as error:
        raise ArgumentError(
            f"model.info can hold text, numbers, lists and dicts with text keys, but "
            f"{error}"
        ) from error
    except ValueError as error:
        raise ArgumentError(
            f"a scale, shift, cutoff or reference of the model is not finite ({error});"
            " it was fitted or set wrongly"
        ) from error
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        # The library makes files that only their owner can read; keep the usual mode.
        partial.touch()
        mode = partial.stat().st_mode
        safetensors.torch.save_file(tensors, partial, metadata={METADATA_KEY: text})
        partial.chmod(mode)


def load_weights(path: Path) -> JMPModel:
    """Rebuild the model of a weights file, on the CPU, in its stored precision.

    ``model.info`` is that of the file, and "path" and "weights_sha256" of the file.

    Args:
        path: A file of :func:`save_weights`.

    Raises:
        CheckpointError: If the file is damaged, of another kind, written by a newer
            version, or its tensors are not those of the model it describes.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    header = read_header(path)
    state = _read_tensors(path)
    try:
        config, heads = specs_of(header)
        _check_size(config, n_tensors=len(state))
        model = model_from_state(config, heads, state)
    except (ArgumentError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.info = {"name": path.stem, "licence": "not stated", "training": {}}
    model.info |= header["info"]
    model.info |= {"path": str(path), "weights_sha256": file_hash(path)}
    return model


def read_header(path: Path) -> dict[str, Any]:
    """Return what a weights file says about itself, without reading its tensors.

    Keys: "version", "units", "config" and "heads" (fields of :class:`ModelConfig` and
    :class:`HeadSpec`), "info" (name, licence, training summary).

    Args:
        path: A file of :func:`save_weights`.

    Raises:
        CheckpointError: If the file is damaged, of another kind or too new.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        _raise_damaged(path, error)
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of jmp-calc: it has no header "
            "that says which network and units it is for"
        )
    try:
        _check_depth(metadata[METADATA_KEY])
        header = json.loads(metadata[METADATA_KEY], parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is damaged: {error}") from error
    _check_header(path, header)
    return dict(header)


def _check_depth(text: str) -> None:
    # Python's own limit cannot be relied on: a package that raises it for the whole
    # process (symfc does) makes deep nesting overflow the stack
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket.group(), 0)
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")


_MAX_DEPTH = 100
# texts are matched as a whole, so that brackets in them do not count
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]')


def specs_of(header: Mapping[str, Any]) -> tuple[ModelConfig, list[HeadSpec]]:
    """Return the network and the heads that a header describes.

    Args:
        header: What :func:`read_header` returned.

    Raises:
        CheckpointError: If they make no sense.
    """
    config = record_from_json(ModelConfig, header["config"], where="config")
    heads = [
        record_from_json(HeadSpec, head, where=f"heads[{i}]")
        for i, head in enumerate(header["heads"])
    ]
    for i, spec in enumerate(heads):
        _check_head(spec, where=f"heads[{i}]")
    return config, heads


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        _raise_damaged(path, error)
    return tensors


def _raise_damaged(path: Path, error: Exception) -> NoReturn:
    raise CheckpointError(
        f"{path} is damaged, incomplete or not a safetensors file ({error}); if it was "
        "downloaded or copied, do that again"
    ) from error


def _check_header(path: Path, header: Any) -> None:
    version = header.get("version") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{path}: the header is damaged: it has no version")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has weights format {version}, and this program reads up to "
            f"{FORMAT_VERSION}; upgrade it: pip install --upgrade jmp-calc"
        )
    missing = [key for key in _HEADER_KEYS if key not in header]
    if missing:
        raise CheckpointError(
            f"{path}: the header is damaged: it lacks {', '.join(missing)}"
        )
    if header["units"] != UNITS:
        raise CheckpointError(
            f"{path} has units {header['units']}, allowed are {UNITS}"
        )
    if not (isinstance(header["heads"], list) and isinstance(header["info"], dict)):
        raise CheckpointError(
            f"{path}: the header is damaged: heads must be a list and info a mapping"
        )
    for key, kind, what in _INFO_TYPES:
        if not isinstance(header["info"].get(key, kind()), kind):
            raise CheckpointError(
                f"{path}: the header is damaged: {key} in info must be {what}"
            )


def _check_size(config: ModelConfig, *, n_tensors: int) -> None:
    """Refuse counts that would take forever to build before any tensor is compared."""
    for name, value in asdict(config).items():
        is_size = name.startswith("emb_") or name in ("num_radial", "num_elements")
        if type(value) is int and not 0 <= value <= (2**20 if is_size else n_tensors):
            raise CheckpointError(
                f"config.{name} is {value}, which does not go with a file of "
                f"{n_tensors} tensors; the header is damaged"
            )


def _check_head(spec: HeadSpec, *, where: str) -> None:
    """Refuse numbers and names that would fail, or mean nothing, when it is used."""
    if not spec.name or "." in spec.name or hasattr(torch.nn.ModuleDict(), spec.name):
        raise CheckpointError(
            f"{where}.name is {spec.name!r}, which cannot name a part of a network; "
            "the header is damaged"
        )
    sizes = {"energy_scale": spec.energy_scale, "force_scale": spec.force_scale}
    sizes |= {f"{name} cutoff": value for name, value in spec.graph.cutoffs.items()}
    if spec.graph.radial_cutoff is not None:
        sizes["radial_cutoff"] = spec.graph.radial_cutoff
    for name, value in sizes.items():
        if value <= 0:
            raise CheckpointError(f"{where}: {name} is {value}, should be positive")
    of_target = (spec.target and spec.target.references) or {}
    for number in (*spec.elements, *(spec.references or {}), *of_target):
        if not 1 <= number < len(chemical_symbols):
            raise CheckpointError(f"{where} has an element of atomic number {number}")


def _without_unused(head: dict[str, Any]) -> dict[str, Any]:
    """Return a head without the fields of version 2 that it does not use."""
    graph = dict(head["graph"])
    if not graph["max_neighbors_by_size"]:
        del graph["max_neighbors_by_size"]
    result = {**head, "graph": graph}
    if result["target"] is None:
        del result["target"]
    return result


def _needs_version_2(head: Mapping[str, Any]) -> bool:
    is_new = "target" in head or "max_neighbors_by_size" in head["graph"]
    return is_new or head["forces"] is None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite_or_text(value: Any) -> Any:
    """Return a copy in which numbers that are not finite are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite_or_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_text(item) for item in value]
    return value
